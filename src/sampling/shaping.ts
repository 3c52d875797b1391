/**
 * Ways of shaping a distribution beyond top-k, top-p and min-p; `draw.ts` says where each stands in the order. All arithmetic is f32, each operation
 * rounded; `native/cpu/sampler_shape.h` mirrors this file.
 *
 * - Dynamic temperature (Kobold's entropy sampling): the temperature of a row goes from `T - range` to `T + range` with its entropy.
 * - Top-n-sigma (Tang et al. 2024, arXiv:2411.07641): keeps logits within n standard deviations of the largest.
 * - Locally typical sampling (Meister et al. 2022, arXiv:2202.00666): keeps the tokens whose surprise is nearest to the entropy.
 * - XTC ("exclude top choices"): now and then drops all likely tokens but the least likely of them.
 * - Mirostat 2 (Basu et al. 2020, arXiv:2007.14966): holds the surprise of the text near `tau` bits by feedback over its tokens.
 */
import { expF32, logF32, sumBlocks } from './arithmetic.ts';

const f = Math.fround;
const LOG2_E = f(1.44269502);

/** What one row asks for; `plainShaping` asks for nothing. */
export interface Shaping {
  /** 1: off. */
  readonly typicalP: number;
  /** 0: off. */
  readonly topNSigma: number;
  readonly xtcThreshold: number;
  /** 0: off. */
  readonly xtcProbability: number;
  /** 0: off. */
  readonly dynatempRange: number;
  readonly dynatempExponent: number;
  /** 0: off, 2. */
  readonly mirostatMode: number;
  /** Most surprise that a token may have, in bits. Starts at `2 * tau`; each token moves it (`StepResult.mirostatMu`). */
  readonly mirostatMu: number;
  readonly mirostatTau: number;
  readonly mirostatEta: number;
}

/** Order of the fields in a row of `SamplingBatch.shaping`. */
export const shapingFields = [
  'typicalP',
  'topNSigma',
  'xtcThreshold',
  'xtcProbability',
  'dynatempRange',
  'dynatempExponent',
  'mirostatMode',
  'mirostatMu',
  'mirostatTau',
  'mirostatEta',
] as const satisfies readonly (keyof Shaping)[];

/** Numbers a row of `SamplingBatch.shaping`. */
export const SHAPING_WIDTH = shapingFields.length;

export const plainShaping: Shaping = {
  typicalP: 1,
  topNSigma: 0,
  xtcThreshold: 0.1,
  xtcProbability: 0,
  dynatempRange: 0,
  dynatempExponent: 1,
  mirostatMode: 0,
  mirostatMu: 0,
  mirostatTau: 5,
  mirostatEta: 0.1,
};

export function readShaping(shaping: Float32Array, row: number): Shaping {
  if (shaping.length === 0) return plainShaping;
  return Object.fromEntries(shapingFields.map((field, i) => [field, shaping[row * SHAPING_WIDTH + i]])) as unknown as Shaping;
}

/** Whether tokens have to be looked at by rank. */
export function needsOrder({ typicalP, topNSigma, xtcProbability, mirostatMode }: Shaping): boolean {
  return typicalP < 1 || topNSigma > 0 || xtcProbability > 0 || mirostatMode !== 0;
}

/**
 * `least + (most - least) * (entropy / largest entropy) ^ exponent`, with the entropy of the distribution at temperature 1, and `least` at 0 or above.
 * A row with one token left keeps its temperature. 0 means greedy.
 */
export function dynamicTemperature(
  logits: Float32Array,
  length: number,
  maximum: number,
  temperature: number,
  { dynatempRange, dynatempExponent }: Shaping,
  scratch: Float32Array,
): number {
  if (!(dynatempRange > 0)) return temperature;
  let count = 0;
  for (let id = 0; id < length; id++) {
    if (logits[id] > -Infinity) count++;
    scratch[id] = expF32(f(logits[id] - maximum));
  }
  if (count < 2) return temperature;
  const total = sumBlocks(scratch, length);
  for (let id = 0; id < length; id++) if (scratch[id] > 0) scratch[id] = f(scratch[id] * f(logits[id] - maximum));
  const entropy = f(logF32(total) - f(sumBlocks(scratch, length) / total));
  const share = Math.min(1, f(entropy / logF32(count)));
  // x^e for x in (0, 1]; what is too small for a normal number is 0
  const power = share > 1e-30 ? expF32(f(dynatempExponent * logF32(share))) : 0;
  const least = Math.max(0, f(temperature - dynatempRange));
  return f(least + f(f(f(temperature + dynatempRange) - least) * power));
}

/** The smallest logit that top-n-sigma keeps; -Infinity when it is off. Forbidden tokens do not count. */
export function sigmaLimit(logits: Float32Array, length: number, maximum: number, topNSigma: number, scratch: Float32Array): number {
  if (!(topNSigma > 0)) return -Infinity;
  let count = 0;
  for (let id = 0; id < length; id++) {
    const counts = logits[id] > -Infinity;
    if (counts) count++;
    scratch[id] = counts ? f(logits[id] - maximum) : 0;
  }
  const mean = f(sumBlocks(scratch, length) / count);
  for (let id = 0; id < length; id++) {
    const apart = logits[id] > -Infinity ? f(f(logits[id] - maximum) - mean) : 0;
    scratch[id] = f(apart * apart);
  }
  const deviation = f(Math.sqrt(f(sumBlocks(scratch, length) / count)));
  return f(maximum - f(topNSigma * deviation));
}

/**
 * Sets to 0 the weights of tokens that are not typical: kept is the shortest list, in order of distance between surprise and entropy (ties to the
 * likelier), whose weights reach `f32(typicalP * total)`.
 */
export function keepTypical(weights: Float32Array, count: number, total: number, typicalP: number): void {
  const logTotal = logF32(total);
  let entropy = 0;
  for (let i = 0; i < count; i++) {
    const logProbability = f(logF32(weights[i]) - logTotal);
    entropy = f(entropy - f(f(weights[i] / total) * logProbability));
  }
  const distances = Array.from({ length: count }, (_, i) => ({ i, distance: Math.abs(f(f(logTotal - logF32(weights[i])) - entropy)) }));
  distances.sort((a, b) => a.distance - b.distance || a.i - b.i);
  const threshold = f(typicalP * total);
  let sum = 0;
  let numKept = 0;
  while (numKept < count && (numKept === 0 || sum < threshold)) sum = f(sum + weights[distances[numKept++].i]);
  for (const { i } of distances.slice(numKept)) weights[i] = 0;
}

/** Sets to 0 all weights of at least `f32(threshold * total)` but the last; `weights` descend, with zeros between. */
export function excludeTopChoices(weights: Float32Array, count: number, total: number, threshold: number): void {
  const least = f(threshold * total);
  let last = -1;
  for (let i = 0; i < count; i++) if (weights[i] > 0 && weights[i] >= least) last = i;
  for (let i = 0; i < last; i++) weights[i] = 0;
}

/** Bits of surprise of a token of this weight. */
export function surprise(weight: number, total: number): number {
  return f(f(logF32(total) - logF32(weight)) * LOG2_E);
}

/** Where `mu` goes after a token of this surprise. */
export function nextMu({ mirostatMu, mirostatTau, mirostatEta }: Shaping, observed: number): number {
  return f(mirostatMu - f(mirostatEta * f(observed - mirostatTau)));
}
