/**
 * Spelling to id and back, in a few typed arrays instead of hundreds of thousands of strings.
 *
 * The arrays lie in shared memory, so that the encoding worker reads the same copy.
 */

/** Plain parts of a vocabulary; may be sent to a worker thread. */
export interface VocabularyData {
  /** One more than the largest id. */
  readonly size: number;
  /** UTF-8 spellings of all ids, one after another. */
  readonly bytes: Uint8Array;
  /** `[size + 1]`: spelling of id `i` is `bytes[offsets[i] .. offsets[i + 1]]`; empty for an id without a spelling. */
  readonly offsets: Uint32Array;
  /** Open addressing table of ids, -1 where free; length is a power of two. */
  readonly table: Int32Array;
}

const textEncoder = new TextEncoder();

export class Vocabulary {
  readonly size: number;
  readonly data: VocabularyData;
  readonly #bytes: Uint8Array;
  readonly #offsets: Uint32Array;
  readonly #table: Int32Array;
  readonly #buffer: Buffer;

  constructor(data: VocabularyData) {
    this.data = data;
    this.size = data.size;
    this.#bytes = data.bytes;
    this.#offsets = data.offsets;
    this.#table = data.table;
    this.#buffer = Buffer.from(data.bytes.buffer, data.bytes.byteOffset, data.bytes.byteLength);
  }

  /** @param tokens spelling of each id; when two ids share a spelling, the lower id is found by it */
  static build(tokens: readonly (string | null)[]): Vocabulary {
    let capacityBytes = 0;
    for (const token of tokens) capacityBytes += token === null ? 0 : Buffer.byteLength(token);
    const bytes = new Uint8Array(new SharedArrayBuffer(capacityBytes));
    const offsets = new Uint32Array(new SharedArrayBuffer((tokens.length + 1) * 4));
    let end = 0;
    for (let id = 0; id < tokens.length; id++) {
      const token = tokens[id];
      if (token !== null) {
        const encoded = textEncoder.encode(token);
        bytes.set(encoded, end);
        end += encoded.length;
      }
      offsets[id + 1] = end;
    }
    let capacity = 16;
    while (capacity < tokens.length * 2) capacity *= 2;
    const table = new Int32Array(new SharedArrayBuffer(capacity * 4)).fill(-1);
    const vocabulary = new Vocabulary({ size: tokens.length, bytes, offsets, table });
    for (let id = 0; id < tokens.length; id++) vocabulary.#insert(id);
    return vocabulary;
  }

  /** @returns the id of a spelling, or -1 */
  id(spelling: string): number {
    const encoded = textEncoder.encode(spelling);
    return this.idOfBytes(encoded, 0, encoded.length);
  }

  /** @returns the id whose spelling is `source[start .. end]` in UTF-8, or -1 */
  idOfBytes(source: Uint8Array, start: number, end: number): number {
    if (start === end) return -1;
    const mask = this.#table.length - 1;
    for (let slot = hashBytes(source, start, end) & mask; ; slot = (slot + 1) & mask) {
      const id = this.#table[slot];
      if (id < 0) return -1;
      if (this.#equals(id, source, start, end)) return id;
    }
  }

  /** @returns the spelling of an id; empty when it has none or is outside the vocabulary */
  spelling(id: number): string {
    if (!(id >= 0 && id < this.size)) return '';
    return this.#buffer.toString('utf8', this.#offsets[id], this.#offsets[id + 1]);
  }

  /** UTF-8 bytes of the longest spelling. */
  longestBytes(): number {
    let longest = 0;
    for (let id = 0; id < this.size; id++) longest = Math.max(longest, this.#offsets[id + 1] - this.#offsets[id]);
    return longest;
  }

  #equals(id: number, source: Uint8Array, start: number, end: number): boolean {
    const from = this.#offsets[id];
    if (this.#offsets[id + 1] - from !== end - start) return false;
    for (let i = start, j = from; i < end; i++, j++) if (source[i] !== this.#bytes[j]) return false;
    return true;
  }

  #insert(id: number): void {
    const start = this.#offsets[id];
    const end = this.#offsets[id + 1];
    if (start === end) return;
    const mask = this.#table.length - 1;
    let slot = hashBytes(this.#bytes, start, end) & mask;
    while (this.#table[slot] >= 0) {
      if (this.#equals(this.#table[slot], this.#bytes, start, end)) return;
      slot = (slot + 1) & mask;
    }
    this.#table[slot] = id;
  }
}

/** FNV-1a with a final mix, so that the low bits are good. */
function hashBytes(source: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ source[i], 0x01000193);
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x2c1b3c6d) >>> 0;
}
