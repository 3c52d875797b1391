/** Inputs that arithmetic stumbles over, drawn by seed: rows of activations and the bytes of matrices. */
import { philox4x32 } from '../../src/base/random.ts';
import type { Plan, WeightFormat } from '../../src/plan/plan.ts';
import { weightFormats as definitions, storedBytes } from '../../src/quant/formats/index.ts';
import type { StoredTensor, WeightSource } from '../../src/weights/weight-source.ts';

const SEED = Number(process.env.MILLRACE_FUZZ_SEED ?? 1);
const SECONDS = Number(process.env.MILLRACE_FUZZ_SECONDS ?? 0);

/** How long one soaked test may take at most. */
export const FUZZ_TIMEOUT_MS = 60_000 + 2000 * SECONDS;

/**
 * Runs `round` with `rounds` seeds from MILLRACE_FUZZ_SEED on, or with as many as MILLRACE_FUZZ_SECONDS of time take. The seed of a failure is in its
 * message: the same seed makes the same round of the same subject.
 */
export async function fuzz(rounds: number, subject: number, round: (random: Draws) => Promise<void>): Promise<void> {
  const end = performance.now() + SECONDS * 1000;
  for (let i = 0; i < rounds || performance.now() < end; i++) {
    try {
      await round(new Draws(SEED + i, subject));
    } catch (error) {
      if (error instanceof Error) error.message = `MILLRACE_FUZZ_SEED=${SEED + i}: ${error.message}`;
      throw error;
    }
  }
}

/** Random draws, the same for the same seed. */
export class Draws {
  readonly #words = new Uint32Array(4);
  readonly #seed: number;
  readonly #subject: number;
  #count = 0;

  constructor(seed: number, subject = 0) {
    this.#seed = seed;
    this.#subject = subject;
  }

  bits(): number {
    const at = this.#count % 4;
    if (at === 0) philox4x32(Uint32Array.of(this.#count / 4, 0, 0, 0), this.#seed, this.#subject, this.#words);
    this.#count++;
    return this.#words[at];
  }

  uniform(): number {
    return (this.bits() + 0.5) / 2 ** 32;
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** An integer in [0, n). */
  below(n: number): number {
    return this.bits() % n;
  }

  /** An integer in [low, high]. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)];
  }

  sign(): number {
    return this.below(2) === 0 ? 1 : -1;
  }
}

type Numbers = (i: number, random: Draws) => number;

/** What a run of numbers can be. The first are what models have; all are finite but the last. */
const kinds: Record<string, (random: Draws) => Numbers> = {
  ordinary: () => (_, random) => random.normal(),
  outliers: (random) => {
    const every = random.between(5, 50);
    return (i) => random.normal() * (i % every === 3 ? 1000 : 1);
  },
  zeros: () => () => 0,
  'negative zeros': () => () => -0,
  'groups of zeros': () => (i, random) => (i % 64 < 32 ? 0 : random.normal()),
  'one number': (random) => {
    const at = random.below(40);
    return (i) => (i === at ? 3 : 0);
  },
  'equal magnitudes': () => (_, random) => random.sign() * 2.5,
  constant: () => () => -1.25,
  huge: () => (_, random) => random.normal() * 1e15,
  tiny: () => (_, random) => random.normal() * 1e-30,
  'at the end of the normal numbers': () => (_, random) => random.normal() * 3e-38,
  denormal: () => (_, random) => random.normal() * 1e-40,
  'the least numbers': () => (_, random) => random.sign() * random.below(4) * 2 ** -149,
  'many magnitudes': () => (_, random) => random.normal() * 10 ** random.between(-38, 8),
  'ties of rounding': () => (_, random) => random.sign() * (random.below(254) / 2),
  'one that is broken': (random) => {
    const [at, broken] = [random.below(32), random.of([NaN, Infinity, -Infinity])];
    return (i) => (i === at ? broken : random.normal());
  },
};

/** Fills `out` with one kind of numbers, or the named one. */
export function hostileNumbers(random: Draws, out: Float32Array, kind = random.of(Object.keys(kinds))): void {
  const numbers = kinds[kind](random);
  for (let i = 0; i < out.length; i++) out[i] = numbers(i, random);
}

/** Rows of `width`, each of a kind of its own. */
export function hostileRows(random: Draws, rows: number, width: number): Float32Array {
  const out = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) hostileNumbers(random, out.subarray(row * width, (row + 1) * width));
  return out;
}

/** Where a block keeps scales: f16 at these bytes. */
const halfScales: Partial<Record<WeightFormat, readonly number[]>> = {
  ...Object.fromEntries(
    ['q8_0', 'q4_0', 'q5_0', 'iq4_nl', 'iq4_xs', 'iq2_xxs', 'iq2_xs', 'iq2_s', 'iq3_xxs', 'iq3_s', 'iq1_s'].map((format) => [format, [0]]),
  ),
  ...Object.fromEntries(['q4_1', 'q5_1', 'q4_k', 'q5_k'].map((format) => [format, [0, 2]])),
  q2_k: [80, 82],
  q3_k: [108],
  q6_k: [208],
  tq1_0: [52],
  tq2_0: [64],
};

/** Infinities and a NaN are drawn apart. Largest, negative largest, least, subnormal, least normal, zeros. */
const extremeHalves = [0x7bff, 0xfbff, 0x0001, 0x8001, 0x03ff, 0x0400, 0x0000, 0x8000];
const brokenHalves = [0x7c00, 0xfc00, 0x7e00];
const extremeFloats = [1e15, -1e15, 1e-20, -1e-30, 2e-38, 0, -0];

function storeScale(random: Draws, format: WeightFormat, bytes: Uint8Array, isBroken: boolean): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const halves = halfScales[format];
  if (halves !== undefined) for (const at of halves) view.setUint16(at, random.of(isBroken ? brokenHalves : extremeHalves), true);
  else if (format === 'iq1_m') {
    const half = random.of(isBroken ? brokenHalves : extremeHalves);
    for (let w = 0; w < 4; w++) bytes[49 + 2 * w] = (bytes[49 + 2 * w] & 15) | (((half >> (4 * w)) & 15) << 4);
  } else if (format === 'mxfp4') bytes[0] = isBroken ? 255 : random.of([0, 1, 2, 127, 160, 30]);
  else if (/^int[234]_/.test(format)) {
    const low = bytes[0]; // the zero point
    view.setFloat32(0, isBroken ? random.of([NaN, Infinity]) : random.of(extremeFloats), true);
    bytes[0] = low;
  } else if (/^(int8|fp8|nf4)/.test(format)) view.setFloat32(0, isBroken ? random.of([NaN, Infinity]) : random.of(extremeFloats), true);
}

/** Bytes that are levels and not the scale of a block. */
function isLevel(format: WeightFormat, at: number): boolean {
  const halves = halfScales[format];
  if (halves !== undefined) return !halves.some((half) => at === half || at === half + 1);
  if (format === 'iq1_m') return at < 48;
  if (format === 'mxfp4') return at > 0;
  return at >= 4;
}

/** Every block of a row has the scale of the first. */
function oneScaleARow(bytes: Uint8Array, rowBytes: number, blockBytes: number): void {
  for (let row = 0; row < bytes.length; row += rowBytes) {
    for (let at = row; at < row + rowBytes; at += blockBytes) bytes.copyWithin(at, row, row + 4);
  }
}

/**
 * A matrix `[n, k]` as a file of this format may hold it: each row of one kind of numbers, and some blocks with levels at the ends of their range, levels at random,
 * scales at the ends of theirs, and, in one matrix of four, a broken scale or number.
 */
export function hostileMatrix(random: Draws, format: WeightFormat, n: number, k: number): Uint8Array {
  const { blockElements, blockBytes, quantize } = definitions[format];
  const values = new Float32Array(n * k);
  const isPlain = blockElements === 1;
  for (let row = 0; row < n; row++) {
    const kind = random.below(3) === 0 ? random.of(Object.keys(kinds).slice(0, -1)) : 'ordinary';
    hostileNumbers(random, values.subarray(row * k, (row + 1) * k), kind);
  }
  const mayBreak = random.below(4) === 0;
  if (isPlain && mayBreak) values[random.below(n * k)] = random.of([NaN, Infinity, -Infinity]);
  const bytes = quantize(values, k);
  if (isPlain) return bytes;
  const blocks = (n * k) / blockElements;
  for (let block = 0; block < blocks; block++) {
    const one = bytes.subarray(block * blockBytes, (block + 1) * blockBytes);
    const what = random.below(12);
    const end = random.of([0x00, 0xff, 0x80, 0x7f, 0x81, 0x88]);
    for (let at = 0; at < blockBytes && what < 2; at++) {
      if (!isLevel(format, at)) continue;
      one[at] = what === 0 ? end : random.below(256);
      if (format.startsWith('fp8')) one[at] &= format.includes('e5m2') ? 0xfb : 0xfe; // all ones of the exponent, or of all, is none of the numbers
    }
    if (what === 2) storeScale(random, format, one, false);
  }
  if (mayBreak) {
    const block = random.below(blocks);
    storeScale(random, format, bytes.subarray(block * blockBytes, (block + 1) * blockBytes), true);
  }
  if (format === 'int8_channel') oneScaleARow(bytes, (k / blockElements) * blockBytes, blockBytes);
  return bytes;
}

/** The tensors of a plan: `bytes` by name for matrices, f32 numbers for the rest. */
export function sourceOf(plan: Plan, tensors: Readonly<Record<string, Uint8Array | Float32Array>>): WeightSource {
  const stored = new Map<string, StoredTensor>();
  for (const weight of plan.weights) {
    for (const { tensor, shape } of weight.parts) {
      const sizeBytes = storedBytes(
        weight.format,
        shape.reduce((a, b) => a * b, 1),
      );
      stored.set(tensor, { name: tensor, format: weight.format, shape, file: 'memory', offset: 0, sizeBytes });
    }
  }
  return {
    files: [],
    mappable: false,
    find: (name) => stored.get(name),
    names: () => stored.keys(),
    read: ({ name, offset, sizeBytes }) => {
      const { buffer, byteOffset } = tensors[name];
      return new Uint8Array(buffer, byteOffset + offset, sizeBytes);
    },
    close: () => undefined,
  };
}
