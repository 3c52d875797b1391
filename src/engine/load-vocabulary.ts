/** The trees of a vocabulary for masks, built while others are served. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { MillraceError } from '../base/errors.ts';
import { startWorker } from '../base/start-worker.ts';
import { buildTables, type VocabularyTables, type VocabularyTokens } from '../sampling/grammar/vocabulary-tables.ts';
import { type VocabularyOptions, VocabularyTrie } from '../sampling/grammar/vocabulary-trie.ts';

/** Tokens of a vocabulary that is built at once: it takes less time than a thread takes to start. */
const MAX_INLINE = 8192;

export class VocabularyLoader {
  readonly #options: VocabularyOptions;
  #loaded: Promise<VocabularyTrie> | null = null;
  #worker: Worker | null = null;
  #isClosed = false;

  constructor(options: VocabularyOptions) {
    this.#options = options;
  }

  /** Loaded when first asked for. @throws ENGINE_CLOSED */
  load(): Promise<VocabularyTrie> {
    this.#loaded ??= VocabularyTrie.load(this.#options, (tokens) => this.#build(tokens), nextTurn);
    // one that failed is asked for again when somebody asks again
    this.#loaded.catch(() => {
      this.#loaded = null;
    });
    return this.#loaded;
  }

  async #build(tokens: VocabularyTokens): Promise<VocabularyTables> {
    if (tokens.ids.length <= MAX_INLINE) return buildTables(tokens);
    if (this.#isClosed) throw closed();
    return new Promise<VocabularyTables>((resolve, reject) => {
      const worker = startWorker('./vocabulary-worker', import.meta.url, { workerData: tokens });
      this.#worker = worker;
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', () => reject(closed()));
    }).finally(() => this.#end());
  }

  #end(): void {
    void this.#worker?.terminate();
    this.#worker = null;
  }

  close(): void {
    this.#isClosed = true;
    this.#end();
  }
}

const closed = () => new MillraceError('ENGINE_CLOSED', 'The engine was closed while its vocabulary was read.');
