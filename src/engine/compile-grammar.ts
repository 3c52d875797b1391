/** Compiles structured outputs: small ones at once, others in a worker, one after another, so that serving goes on. */
import type { Worker } from 'node:worker_threads';
import { MillraceError } from '../base/errors.ts';
import { startWorker } from '../base/start-worker.ts';
import type { Grammar } from '../sampling/grammar/grammar.ts';
import { grammarLimits, tooLarge, WorkSpent, withWork } from '../sampling/grammar/limits.ts';
import { compileStructuredOutput, type StructuredOutput } from '../sampling/grammar/structured-output.ts';
import type { GrammarAnswer } from './grammar-worker.ts';

/** Characters; shorter ones compile in less time than a thread takes to start. */
const MAX_INLINE = 2000;
/** Some 20 milliseconds of patterns that are made deterministic: a short one may take seconds. */
const MAX_INLINE_WORK = 3000;

export class GrammarCompiler {
  /** Ends when the last one asked for has. */
  #last: Promise<unknown> = Promise.resolve();
  #worker: Worker | null = null;
  #isClosed = false;

  /**
   * @param textLength how long the constraint is as text
   * @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE
   */
  compile(wanted: StructuredOutput, textLength: number): Promise<Grammar> {
    if (textLength > MAX_INLINE) return this.#afterOthers(wanted);
    return Promise.resolve()
      .then(() => withWork(MAX_INLINE_WORK, () => compileStructuredOutput(wanted)))
      .catch((thrown: unknown) => {
        if (thrown instanceof WorkSpent) return this.#afterOthers(wanted);
        throw thrown;
      });
  }

  #afterOthers(wanted: StructuredOutput): Promise<Grammar> {
    const compiled = this.#last.then(() => this.#inWorker(JSON.stringify(wanted)));
    this.#last = compiled.catch(() => undefined);
    return compiled;
  }

  async #inWorker(text: string): Promise<Grammar> {
    if (this.#isClosed) throw closed();
    const answer = await new Promise<GrammarAnswer>((resolve, reject) => {
      const worker = startWorker('./grammar-worker', import.meta.url, {
        workerData: text,
        resourceLimits: { maxOldGenerationSizeMb: grammarLimits.compileHeapMb },
      });
      this.#worker = worker;
      const late = () => reject(tooLarge('it takes too long to compile', `at most ${grammarLimits.compileMs} ms`));
      const timer = setTimeout(late, grammarLimits.compileMs);
      worker.once('message', resolve);
      worker.once('error', (cause) => reject(tooLarge(`compiling it failed (${cause.message.slice(0, 200)})`, 'less to compile')));
      worker.once('exit', () => {
        clearTimeout(timer);
        reject(closed());
      });
    }).finally(() => this.#end());
    if ('grammar' in answer) return answer.grammar;
    const { code, message, param } = answer;
    throw new MillraceError(code, { message, ...(param === undefined ? {} : { param }) });
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

const closed = () => new MillraceError('ENGINE_CLOSED', 'The engine was closed while a grammar was compiled.');
