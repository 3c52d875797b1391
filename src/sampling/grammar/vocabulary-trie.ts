/** The tokens of a vocabulary as a tree over their bytes, in flat arrays: made once per tokenizer, walked for every new mask. */
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { includes, plainCodePoints } from './code-points.ts';

/** Nodes in depth-first order, children by byte. */
export interface ByteTree {
  readonly numNodes: number;
  readonly byte: Uint8Array;
  /** 1 for the first byte of a token. */
  readonly depth: Uint8Array;
  /** First node behind the node's descendants. */
  readonly next: Int32Array;
  /** Tokens that end at node n: `tokens[tokenStart[n] .. tokenStart[n + 1])`. */
  readonly tokenStart: Int32Array;
  readonly tokens: Int32Array;
}

/** All tokens that are at most so many plain characters, and a tree of the others. */
export interface PlainSlice {
  readonly numCharacters: number;
  readonly mask: Uint32Array;
  readonly rest: ByteTree;
}

/** Longer tokens are never allowed under a grammar. */
const MAX_TOKEN_BYTES = 255;
const SLICES = [64, 16, 4];

export class VocabularyTrie {
  /** Ids that a row of a mask has bits for. */
  readonly vocabSize: number;
  readonly numWords: number;
  readonly all: ByteTree;
  /** Longest first. */
  readonly slices: readonly PlainSlice[];
  readonly eosTokenIds: readonly number[];
  readonly #tokenizer: Tokenizer;

  /**
   * @param vocabSize ids of the model, which may be more than the tokenizer's
   * @param eosTokenIds allowed where the text may end, and nowhere else
   */
  constructor(tokenizer: Tokenizer, vocabSize: number, eosTokenIds: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.vocabSize = vocabSize;
    this.numWords = Math.ceil(vocabSize / 32);
    this.eosTokenIds = eosTokenIds.filter((id) => id < vocabSize);
    const excluded = new Set([...eosTokenIds, ...tokenizer.specialTokenIds]);
    const ids: number[] = [];
    for (let id = 0; id < Math.min(vocabSize, tokenizer.vocabSize); id++) {
      const { length } = tokenizer.tokenBytes(id);
      if (length > 0 && length <= MAX_TOKEN_BYTES && !excluded.has(id)) ids.push(id);
    }
    const bytes = new Map(ids.map((id) => [id, Buffer.from(tokenizer.tokenBytes(id))]));
    const bytesOf = (id: number) => bytes.get(id) ?? Buffer.alloc(0);
    ids.sort((a, b) => Buffer.compare(bytesOf(a), bytesOf(b)) || a - b);
    this.all = byteTree(ids, bytesOf);
    const numPlain = new Map(ids.map((id) => [id, countPlain(bytesOf(id))]));
    this.slices = SLICES.map((numCharacters) => {
      const isInside = (id: number) => (numPlain.get(id) ?? Number.POSITIVE_INFINITY) <= numCharacters;
      const mask = new Uint32Array(this.numWords);
      for (const id of ids) if (isInside(id)) mask[id >>> 5] |= 1 << (id & 31);
      const others = ids.filter((id) => !isInside(id));
      return { numCharacters, mask, rest: byteTree(others, bytesOf) };
    });
  }

  tokenBytes(id: number): Uint8Array {
    return this.#tokenizer.tokenBytes(id);
  }
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Characters of a token that has only plain ones, else Infinity. */
function countPlain(bytes: Uint8Array): number {
  try {
    const found = Array.from(decoder.decode(bytes));
    return found.every((character) => includes(plainCodePoints, character.codePointAt(0) ?? 0)) ? found.length : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY; // part of a character
  }
}

/** @param ids ordered by their bytes */
function byteTree(ids: readonly number[], bytesOf: (id: number) => Uint8Array): ByteTree {
  const byte: number[] = [];
  const depth: number[] = [];
  const next: number[] = [];
  const tokenStart: number[] = [];
  const open: number[] = [];
  let before: Uint8Array = new Uint8Array(0);
  for (const [i, id] of ids.entries()) {
    const bytes = bytesOf(id);
    let shared = 0;
    while (shared < before.length && shared < bytes.length && before[shared] === bytes[shared]) shared++;
    while (open.length > shared) next[open.pop() ?? 0] = byte.length;
    for (let at = shared; at < bytes.length; at++) {
      open.push(byte.length);
      byte.push(bytes[at]);
      depth.push(at + 1);
      next.push(0);
      tokenStart.push(i);
    }
    before = bytes;
  }
  while (open.length > 0) next[open.pop() ?? 0] = byte.length;
  tokenStart.push(ids.length);
  // nodes on the way to a token begin where the token begins: only the last byte of it holds it
  const starts = Int32Array.from(tokenStart);
  return {
    numNodes: byte.length,
    byte: Uint8Array.from(byte),
    depth: Uint8Array.from(depth),
    next: Int32Array.from(next),
    tokenStart: starts,
    tokens: Int32Array.from(ids),
  };
}
