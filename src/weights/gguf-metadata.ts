/**
 * The metadata of a GGUF file: typed keys and values. Counts and lengths are a stranger's word: each is checked against what the file still
 * holds and against a budget, before anything is allocated.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { invalidFile, quoteName } from './tensor-layout.ts';
import type { ReadableFile } from './weight-file.ts';

/** Numeric arrays keep their stored type; 64-bit scalars are numbers where exact and bigint otherwise. */
export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

export type GgufValue = number | bigint | boolean | string | GgufNumbers | readonly GgufValue[];

/** Bytes of all metadata: the largest vocabularies take about 15 MB. Strings live in the JavaScript heap, which must stay small. */
const MAX_METADATA_BYTES = 64 << 20;
/** Elements of arrays that become JavaScript values (strings, booleans, arrays), over the whole file. */
const MAX_VALUES = 2_000_000;
const MAX_NESTING = 4;
const WINDOW_BYTES = 1 << 20;

/** Reads a file forwards through a window, refusing to step over its end. */
export class GgufCursor {
  readonly file: ReadableFile;
  #window: Uint8Array = new Uint8Array(0);
  #view = new DataView(this.#window.buffer);
  #windowStart = 0;
  #offset = 0;

  constructor(file: ReadableFile) {
    this.file = file;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.file.sizeBytes - this.#offset;
  }

  /** Position in the window of the next `length` bytes, which are then consumed. */
  #take(length: number): number {
    if (length > this.remaining)
      throw invalidFile(this.file.path, `the file ends inside its header, at byte ${this.#offset}; it is truncated or damaged.`);
    let at = this.#offset - this.#windowStart;
    if (at + length > this.#window.length) {
      this.#window = this.file.read(this.#offset, Math.min(Math.max(length, WINDOW_BYTES), this.remaining));
      this.#view = new DataView(this.#window.buffer);
      this.#windowStart = this.#offset;
      at = 0;
    }
    this.#offset += length;
    return at;
  }

  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#window.slice(at, at + length);
  }

  u8 = (): number => this.#number(1, (view, at) => view.getUint8(at));
  i8 = (): number => this.#number(1, (view, at) => view.getInt8(at));
  u16 = (): number => this.#number(2, (view, at) => view.getUint16(at, true));
  i16 = (): number => this.#number(2, (view, at) => view.getInt16(at, true));
  u32 = (): number => this.#number(4, (view, at) => view.getUint32(at, true));
  i32 = (): number => this.#number(4, (view, at) => view.getInt32(at, true));
  f32 = (): number => this.#number(4, (view, at) => view.getFloat32(at, true));
  f64 = (): number => this.#number(8, (view, at) => view.getFloat64(at, true));
  u64 = (): number | bigint => this.#number(8, (view, at) => exact(view.getBigUint64(at, true)));
  i64 = (): number | bigint => this.#number(8, (view, at) => exact(view.getBigInt64(at, true)));

  #number<T>(length: number, read: (view: DataView, at: number) => T): T {
    const at = this.#take(length); // may move the window, so it comes before the view is looked at
    return read(this.#view, at);
  }

  /** A count or length that the rest of the file could hold, `least` bytes each. */
  count(what: string, least: number, most: number): number {
    const count = this.u64();
    const limit = Math.min(most, Math.floor(this.remaining / least));
    if (typeof count === 'bigint' || count > limit) {
      throw invalidFile(this.file.path, `${what} cannot be true; the file is truncated or damaged.`, `at most ${limit}`, String(count));
    }
    return count;
  }

  skip(length: number): void {
    this.#take(length);
  }

  string(what: string, most: number): string {
    const length = this.count(`the length of ${what}`, 1, most);
    const at = this.#take(length);
    return Buffer.from(this.#window.buffer, this.#window.byteOffset + at, length).toString('utf8');
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Bytes of each number type and how an array of it is seen. Indexed by GGUF's value type. */
const numberTypes: Readonly<
  Record<number, { bytes: number; array: (buffer: ArrayBuffer) => GgufNumbers; scalar: (cursor: GgufCursor) => number | bigint }>
> = {
  0: { bytes: 1, array: (b) => new Uint8Array(b), scalar: (c) => c.u8() },
  1: { bytes: 1, array: (b) => new Int8Array(b), scalar: (c) => c.i8() },
  2: { bytes: 2, array: (b) => new Uint16Array(b), scalar: (c) => c.u16() },
  3: { bytes: 2, array: (b) => new Int16Array(b), scalar: (c) => c.i16() },
  4: { bytes: 4, array: (b) => new Uint32Array(b), scalar: (c) => c.u32() },
  5: { bytes: 4, array: (b) => new Int32Array(b), scalar: (c) => c.i32() },
  6: { bytes: 4, array: (b) => new Float32Array(b), scalar: (c) => c.f32() },
  10: { bytes: 8, array: (b) => new BigUint64Array(b), scalar: (c) => c.u64() },
  11: { bytes: 8, array: (b) => new BigInt64Array(b), scalar: (c) => c.i64() },
  12: { bytes: 8, array: (b) => new Float64Array(b), scalar: (c) => c.f64() },
};
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

export interface GgufMetadataEntries {
  readonly values: Map<string, GgufValue>;
  /** Keys of lists of strings that were stepped over. */
  readonly skipped: Set<string>;
}

/**
 * Reads `numEntries` keys and values at the cursor.
 * @param longestList strings in a list that is read
 * @throws WEIGHTS_FILE_INVALID
 */
export function readMetadata(cursor: GgufCursor, numEntries: number, longestList = Infinity): GgufMetadataEntries {
  const metadata = new Map<string, GgufValue>();
  const skipped = new Set<string>();
  const budget = { values: MAX_VALUES, end: cursor.offset + MAX_METADATA_BYTES, longestList };
  for (let i = 0; i < numEntries; i++) {
    const key = cursor.string(`metadata key ${i}`, 65_535);
    if (metadata.has(key) || skipped.has(key)) throw invalidFile(cursor.file.path, `metadata key ${quoteName(key)} occurs twice.`);
    const value = readValue(cursor, key, cursor.u32(), 0, budget);
    if (value === SKIPPED) skipped.add(key);
    else metadata.set(key, value);
  }
  return { values: metadata, skipped };
}

interface Budget {
  /** JavaScript values that may still be made. */
  values: number;
  /** Byte of the file where metadata must have ended. */
  readonly end: number;
  /** Strings in a list that is read. */
  readonly longestList: number;
}

/** Stands for a list that was stepped over. */
const SKIPPED: GgufValue = [];

function readValue(cursor: GgufCursor, key: string, type: number, nesting: number, budget: Budget): GgufValue {
  if (cursor.offset > budget.end) throw invalidFile(cursor.file.path, 'the metadata is too large.', `at most ${MAX_METADATA_BYTES} bytes`);
  if (type === BOOL) return cursor.u8() !== 0;
  if (type === STRING) return cursor.string(`metadata ${quoteName(key)}`, budget.end - cursor.offset);
  if (type === ARRAY) return readArray(cursor, key, nesting, budget);
  const number = numberTypes[type];
  if (number === undefined) throw invalidFile(cursor.file.path, `metadata ${quoteName(key)} has an unknown type.`, '0 to 12', String(type));
  return number.scalar(cursor);
}

function readArray(cursor: GgufCursor, key: string, nesting: number, budget: Budget): GgufValue {
  const { path } = cursor.file;
  if (nesting === MAX_NESTING) throw invalidFile(path, `metadata ${quoteName(key)} is nested too deeply.`, `at most ${MAX_NESTING} arrays`);
  const type = cursor.u32();
  const number = numberTypes[type];
  const what = `the count of metadata array ${quoteName(key)}`;
  if (number !== undefined) {
    const count = cursor.count(what, number.bytes, Math.floor((budget.end - cursor.offset) / number.bytes));
    return number.array(cursor.bytes(count * number.bytes).buffer as ArrayBuffer);
  }
  const leastBytes: Readonly<Record<number, number>> = { [BOOL]: 1, [STRING]: 8, [ARRAY]: 12 };
  if (leastBytes[type] === undefined)
    throw invalidFile(path, `metadata array ${quoteName(key)} has elements of an unknown type.`, '0 to 12', String(type));
  const count = cursor.count(what, leastBytes[type], budget.values);
  budget.values -= count;
  if (type === STRING && nesting === 0 && count > budget.longestList) {
    const length = `the length of metadata ${quoteName(key)}`;
    for (let i = 0; i < count; i++) cursor.skip(cursor.count(length, 1, budget.end - cursor.offset));
    return SKIPPED;
  }
  const values: GgufValue[] = [];
  for (let i = 0; i < count; i++) values.push(readValue(cursor, key, type, nesting + 1, budget));
  return values;
}
