/** The vocabulary that masks are made for: its tokens as trees over their bytes, and what grammars ask of its tokenizer. */
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { type ByteTree, buildTables, MAX_TOKEN_BYTES, TAG_BYTE, type VocabularyTables, type VocabularyTokens } from './vocabulary-tables.ts';

const MAX_TAG_ID = 0xffffff;
/** Tokens that are read from the tokenizer at a time. */
const TOKENS_AT_ONCE = 4096;

/** How a grammar spells a tag token: `TAG_BYTE` and the id, high byte first. */
export function tagBytes(id: number): Uint8Array {
  return Uint8Array.of(TAG_BYTE, id >>> 16, (id >>> 8) & 0xff, id & 0xff);
}

export interface VocabularyOptions {
  readonly tokenizer: Tokenizer;
  /** Ids of the model, which may be more than the tokenizer's. */
  readonly vocabSize: number;
  /** Allowed where the text may end, and nowhere else. */
  readonly eosTokenIds: readonly number[];
  /** Tokens that are tags of a format, such as `<think>`: never text, allowed where a grammar names them. */
  readonly tagTokenIds?: readonly number[];
}

export class VocabularyTrie {
  /** Ids that a row of a mask has bits for. */
  readonly vocabSize: number;
  readonly numWords: number;
  readonly tables: VocabularyTables;
  readonly eosTokenIds: readonly number[];
  readonly #tokenizer: Tokenizer;
  readonly #excluded: ReadonlySet<number>;
  readonly #tags: ReadonlySet<number>;

  /** @param tables of this vocabulary, where another thread has built them */
  constructor(
    tokenizer: Tokenizer,
    vocabSize: number,
    eosTokenIds: readonly number[],
    tagTokenIds: readonly number[] = [],
    tables: VocabularyTables | null = null,
  ) {
    const options = { tokenizer, vocabSize, eosTokenIds, tagTokenIds };
    this.#tokenizer = tokenizer;
    this.vocabSize = vocabSize;
    this.numWords = Math.ceil(vocabSize / 32);
    this.eosTokenIds = eosTokenIds.filter((id) => id < vocabSize);
    this.#tags = tagsOf(options);
    this.#excluded = excludedOf(options);
    this.tables = tables ?? buildTables(allTokens(options));
  }

  /**
   * Reads the tokens a few thousand at a time.
   * @param build makes the tables of them, on whichever thread
   * @param turn waits until others have had the thread
   */
  static async load(
    options: VocabularyOptions,
    build: (tokens: VocabularyTokens) => Promise<VocabularyTables>,
    turn: () => Promise<unknown>,
  ): Promise<VocabularyTrie> {
    const reading = readTokens(options);
    let read = reading.next();
    for (; read.done !== true; read = reading.next()) await turn();
    const { tokenizer, vocabSize, eosTokenIds, tagTokenIds } = options;
    return new VocabularyTrie(tokenizer, vocabSize, eosTokenIds, tagTokenIds, await build(read.value));
  }

  /** Whether masks may allow the token. */
  isUsable(id: number): boolean {
    return id < this.vocabSize && isReadable(this.#tokenizer.tokenBytes(id)) && !this.#excluded.has(id);
  }

  /** Ids of a text in the middle of others, nothing added. */
  encode(text: string): Int32Array {
    return this.#tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: false });
  }

  /** What a grammar reads for a token. */
  tokenBytes(id: number): Uint8Array {
    return this.#tags.has(id) ? tagBytes(id) : this.#tokenizer.tokenBytes(id);
  }

  isTag(id: number): boolean {
    return this.#tags.has(id);
  }
}

/** Whether a grammar may read it as text. No UTF-8 holds the byte that begins a tag: tokens of bytes must not be put together to one. */
function isReadable(token: Uint8Array): boolean {
  return token.length > 0 && token.length <= MAX_TOKEN_BYTES && !token.includes(TAG_BYTE);
}

function tagsOf({ tagTokenIds = [], vocabSize }: VocabularyOptions): ReadonlySet<number> {
  return new Set(tagTokenIds.filter((id) => id < Math.min(vocabSize, MAX_TAG_ID)));
}

function excludedOf(options: VocabularyOptions): ReadonlySet<number> {
  return new Set([...options.eosTokenIds, ...options.tokenizer.specialTokenIds, ...tagsOf(options)]);
}

function allTokens(options: VocabularyOptions): VocabularyTokens {
  const reading = readTokens(options);
  let read = reading.next();
  while (read.done !== true) read = reading.next();
  return read.value;
}

function* readTokens(options: VocabularyOptions): Generator<void, VocabularyTokens> {
  const { tokenizer, vocabSize } = options;
  const excluded = excludedOf(options);
  const tags = tagsOf(options);
  const numIds = Math.min(vocabSize, tokenizer.vocabSize);
  const ids = new Int32Array(numIds + tags.size);
  const starts = new Int32Array(ids.length + 1);
  let bytes = new Uint8Array(16 * ids.length);
  let numTokens = 0;
  const add = (id: number, token: Uint8Array) => {
    const start = starts[numTokens];
    if (start + token.length > bytes.length) {
      const wider = new Uint8Array(2 * bytes.length + token.length);
      wider.set(bytes);
      bytes = wider;
    }
    bytes.set(token, start);
    ids[numTokens++] = id;
    starts[numTokens] = start + token.length;
  };
  for (let id = 0; id < numIds; id++) {
    const token = tokenizer.tokenBytes(id);
    if (isReadable(token) && !excluded.has(id)) add(id, token);
    if (id % TOKENS_AT_ONCE === TOKENS_AT_ONCE - 1) yield;
  }
  for (const id of tags) add(id, tagBytes(id));
  return { numWords: Math.ceil(vocabSize / 32), ids: ids.slice(0, numTokens), starts: starts.slice(0, numTokens + 1), bytes };
}

/** The node behind these bytes, or -1. */
export function nodeBehind({ byte, depth, next, numNodes }: ByteTree, bytes: Uint8Array): number {
  let found = -1;
  let child = 0;
  let end = numNodes;
  for (let i = 0; i < bytes.length; i++) {
    while (child < end && byte[child] < bytes[i]) child = next[child];
    if (child >= end || byte[child] !== bytes[i] || depth[child] !== i + 1) return -1;
    found = child;
    child = found + 1;
    end = next[found];
  }
  return found;
}
