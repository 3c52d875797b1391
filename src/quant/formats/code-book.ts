/**
 * Code books of the IQ formats: an entry is a fixed run of magnitudes (or of ternary digits), and a block holds indices of entries. The entries are those
 * of ggml; see scripts/make_grids.py.
 */
import { packedGrids } from './grids.ts';

const MISSING = -1;

export class CodeBook {
  /** Elements of an entry: 8, or 4. */
  readonly width: number;
  /** `[entries, width]`. */
  readonly values: Int8Array;
  readonly #levels: readonly number[];
  readonly #bits: number;
  readonly #words: Uint16Array;
  /** Index of the nearest entry by the packed levels of what is sought; filled as asked. */
  readonly #nearest: Int16Array;

  /** @param levels rising */
  constructor(name: keyof typeof packedGrids, levels: readonly number[]) {
    const bytes = Buffer.from(packedGrids[name], 'base64');
    this.#words = Uint16Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i));
    this.#bits = levels.length === 3 ? 2 : 3;
    this.width = levels.length === 3 ? 8 : 4;
    this.#levels = levels;
    const mask = (1 << this.#bits) - 1;
    this.values = new Int8Array(this.#words.length * this.width);
    for (let i = 0; i < this.values.length; i++) {
      this.values[i] = levels[(this.#words[Math.floor(i / this.width)] >> (this.#bits * (i % this.width))) & mask];
    }
    this.#nearest = new Int16Array(1 << (this.#bits * this.width)).fill(MISSING);
    this.#words.forEach((word, index) => {
      this.#nearest[word] = index;
    });
  }

  get entries(): number {
    return this.#words.length;
  }

  /** Index of the entry nearest to `values[from...]`, after each of these went to its nearest level. */
  search(values: Float32Array, from: number): number {
    let word = 0;
    for (let i = 0; i < this.width; i++) word |= this.#nearestLevel(values[from + i]) << (this.#bits * i);
    if (this.#nearest[word] === MISSING) this.#nearest[word] = this.#searchAll(word);
    return this.#nearest[word];
  }

  #nearestLevel(value: number): number {
    const levels = this.#levels;
    let best = 0;
    while (best + 1 < levels.length && Math.abs(levels[best + 1] - value) < Math.abs(levels[best] - value)) best++;
    return best;
  }

  #searchAll(word: number): number {
    const mask = (1 << this.#bits) - 1;
    let best = 0;
    let least = Infinity;
    for (let entry = 0; entry < this.#words.length; entry++) {
      let distance = 0;
      for (let i = 0; i < this.width; i++) distance += (this.values[entry * this.width + i] - this.#levels[(word >> (this.#bits * i)) & mask]) ** 2;
      if (distance < least) {
        least = distance;
        best = entry;
      }
    }
    return best;
  }
}

/** Signs of eight elements by seven bits: the eighth makes their number even. */
export function evenSigns(seven: number): number {
  let ones = seven;
  ones ^= ones >> 4;
  ones ^= ones >> 2;
  ones ^= ones >> 1;
  return seven | ((ones & 1) << 7);
}

/** Bits of the negative among eight elements. */
export function signsOf(values: Float32Array, from: number): number {
  let bits = 0;
  for (let i = 0; i < 8; i++) if (values[from + i] < 0) bits |= 1 << i;
  return bits;
}

/** The same with an even number of bits: where it is odd, the sign of the smallest element is given up. */
export function evenSignsOf(values: Float32Array, from: number): number {
  const bits = signsOf(values, from);
  if (evenSigns(bits & 127) === bits) return bits & 127;
  let least = 0;
  for (let i = 1; i < 8; i++) if (Math.abs(values[from + i]) < Math.abs(values[from + least])) least = i;
  return (bits ^ (1 << least)) & 127;
}

/** Writes `|values| / step` (0 where the step is 0), with the sign of `signs` where it is not the element's own, to `out`. */
export function scaledMagnitudes(values: Float32Array, from: number, count: number, step: number, out: Float32Array): void {
  for (let i = 0; i < count; i++) out[i] = step === 0 ? 0 : Math.abs(values[from + i]) / step;
}
