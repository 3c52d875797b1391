/**
 * WordPiece: a word is cut into the longest known piece, again and again, those behind the first spelled with a prefix; a word that cannot be cut is
 * unknown as a whole (Wu et al. 2016, arXiv 1609.08144; as BERT does). A word-level vocabulary is the same with whole words only.
 */
import type { IdBuffer } from './byte-pair.ts';
import type { Vocabulary } from './vocabulary.ts';

/** Plain parts of a model; may be sent to a worker thread. */
export interface WordPieceData {
  readonly kind: 'word-piece';
  /** In front of pieces that continue a word: `##`. Null: words are never cut. */
  readonly prefix: string | null;
  /** Longer words are unknown. */
  readonly maxCharacters: number;
  /** Longest spelling in UTF-8. */
  readonly longest: number;
  /** `[size]`: 1 for ids that plain text must never produce (special tokens). */
  readonly blocked: Uint8Array;
  /** Id of an unknown word, or -1 to leave it out. */
  readonly unkId: number;
}

const maxCachedWords = 1 << 15;
const maxCachedLength = 24;

export class WordPieceModel {
  readonly #data: WordPieceData;
  readonly #vocabulary: Vocabulary;
  readonly #prefix: Uint8Array;
  readonly #cache = new Map<string, readonly number[]>();
  readonly #textEncoder = new TextEncoder();

  constructor(data: WordPieceData, vocabulary: Vocabulary) {
    this.#data = data;
    this.#vocabulary = vocabulary;
    this.#prefix = this.#textEncoder.encode(data.prefix ?? '');
  }

  /** Appends the ids of one word. */
  encode(word: string, out: IdBuffer): void {
    if (word.length === 0) return;
    const cacheable = word.length <= maxCachedLength;
    let ids = cacheable ? this.#cache.get(word) : undefined;
    if (ids === undefined) {
      ids = this.#cut(word) ?? (this.#data.unkId < 0 ? [] : [this.#data.unkId]);
      if (cacheable) {
        if (this.#cache.size >= maxCachedWords) this.#cache.clear();
        this.#cache.set(word, ids);
      }
    }
    out.append(ids, ids.length);
  }

  /** @returns null when the word is unknown */
  #cut(word: string): number[] | null {
    const { prefix, maxCharacters, longest } = this.#data;
    if (word.length > 2 * maxCharacters) return null;
    let characters = 0;
    for (const _ of word) characters++;
    if (characters > maxCharacters) return null;
    const room = this.#prefix.length;
    const bytes = new Uint8Array(room + word.length * 3);
    const end = room + this.#textEncoder.encodeInto(word, bytes.subarray(room)).written;
    if (prefix === null) {
      const id = this.#allowed(bytes, room, end);
      return id < 0 ? null : [id];
    }
    const ids: number[] = [];
    for (let start = room; start < end; ) {
      let from = start;
      if (ids.length > 0) {
        // what lies before is used up: the prefix may stand there
        from = start - room;
        bytes.set(this.#prefix, from);
      }
      let id = -1;
      let to = Math.min(end, from + longest);
      for (; to > start; to--) {
        const isStart = to === end || (bytes[to] & 0xc0) !== 0x80;
        if (isStart) id = this.#allowed(bytes, from, to);
        if (id >= 0) break;
      }
      if (id < 0) return null;
      ids.push(id);
      start = to;
    }
    return ids;
  }

  #allowed(bytes: Uint8Array, from: number, to: number): number {
    const id = this.#vocabulary.idOfBytes(bytes, from, to);
    return id >= 0 && this.#data.blocked[id] === 1 ? -1 : id;
  }
}
