/**
 * Inverse frequencies of rotary embeddings with every scaling rule in use, as a plan constant. Steps are rounded to f32 where the authors'
 * code, which the checkpoints were trained with, rounds them.
 */
import type { ConfigReader } from '../config-reader.ts';

/** How a trained context is stretched. */
export type RopeScaling =
  | { readonly kind: 'none' }
  /** Positions divided by `factor`. */
  | { readonly kind: 'linear'; readonly factor: number }
  /** Llama 3.1: low frequencies divided, high ones kept, a ramp between. */
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalPositions: number;
    }
  /** YaRN, Peng et al. 2023, arXiv:2309.00071. */
  | {
      readonly kind: 'yarn';
      readonly factor: number;
      readonly originalPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly truncate: boolean;
      readonly attentionFactor: number;
    }
  /** LongRoPE, Ding et al. 2024, arXiv:2402.13753: each frequency divided by a number of one list, or of another where contexts may be long. */
  | {
      readonly kind: 'longrope';
      readonly shortDivisors: readonly number[];
      readonly longDivisors: readonly number[];
      readonly originalPositions: number;
      readonly attentionFactor: number;
    }
  /** Each frequency divided by its own number: what GGUF files carry in place of the `llama3` fields. */
  | { readonly kind: 'divisors'; readonly divisors: readonly number[] };

export interface RopeFeatures {
  readonly theta: number;
  /** Elements of a head that are rotated; even. */
  readonly rotaryDim: number;
  readonly scaling: RopeScaling;
}

export interface RopeTable {
  /** `[rotaryDim / 2]` */
  readonly frequencies: Float32Array;
  /** Multiplies cos and sin; 1 but for YaRN and LongRoPE. */
  readonly magnitude: number;
}

/** `contextLength`: the longest context that will be run, which chooses between the lists of LongRoPE. */
export function ropeFrequencies({ theta, rotaryDim, scaling }: RopeFeatures, contextLength = Infinity): RopeTable {
  const plain = Float32Array.from({ length: rotaryDim / 2 }, (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / rotaryDim)));
  switch (scaling.kind) {
    case 'none':
      return { frequencies: plain, magnitude: 1 };
    case 'linear':
      return { frequencies: plain.map((f) => f / scaling.factor), magnitude: 1 };
    case 'divisors':
      return { frequencies: plain.map((f, i) => f / scaling.divisors[i]), magnitude: 1 };
    case 'longrope': {
      const divisors = contextLength > scaling.originalPositions ? scaling.longDivisors : scaling.shortDivisors;
      const powers = plain.map((_, i) => theta ** Math.fround((2 * i) / rotaryDim));
      return { frequencies: powers.map((power, i) => 1 / Math.fround(Math.fround(divisors[i]) * power)), magnitude: scaling.attentionFactor };
    }
    case 'llama3':
      return { frequencies: plain.map((f) => llama3Frequency(f, scaling)), magnitude: 1 };
    case 'yarn':
      return { frequencies: yarnFrequencies(plain, theta, rotaryDim, scaling), magnitude: scaling.attentionFactor };
  }
}

function llama3Frequency(frequency: number, scaling: Extract<RopeScaling, { kind: 'llama3' }>): number {
  const { factor, lowFreqFactor, highFreqFactor, originalPositions } = scaling;
  const turns = (originalPositions * frequency) / (2 * Math.PI); // over the trained context
  if (turns < lowFreqFactor) return frequency / factor;
  if (turns > highFreqFactor) return frequency;
  const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return (1 - smooth) * (frequency / factor) + smooth * frequency;
}

function yarnFrequencies(plain: Float32Array, theta: number, rotaryDim: number, scaling: Extract<RopeScaling, { kind: 'yarn' }>): Float32Array {
  const { factor, originalPositions, betaFast, betaSlow, truncate } = scaling;
  // index of the frequency that makes `turns` turns over the trained context
  const indexOf = (turns: number) => (rotaryDim * Math.log(originalPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const first = truncate ? Math.floor(indexOf(betaFast)) : indexOf(betaFast);
  const last = truncate ? Math.ceil(indexOf(betaSlow)) : indexOf(betaSlow);
  const low = Math.max(first, 0);
  const high = Math.min(last, rotaryDim - 1);
  const span = low === high ? 0.001 : high - low;
  return plain.map((f, i) => {
    const kept = Math.fround(1 - Math.min(1, Math.max(0, Math.fround(Math.fround(i - low) / span))));
    const divided = Math.fround(1 / Math.fround(factor * Math.fround(theta ** Math.fround((2 * i) / rotaryDim))));
    return Math.fround(divided * Math.fround(1 - kept)) + Math.fround(f * kept);
  });
}

/** What reading the rope fields needs to know of the rest. */
export interface RopeContext {
  readonly rotaryDim: number;
  readonly maxPositions: number;
  readonly defaultTheta: number;
  /** Part of the head that is rotated where the configuration does not say; 1 by default. */
  readonly defaultPartial?: number;
}

/**
 * Reads `rope_theta` with `rope_scaling`, or the newer `rope_parameters` that holds both.
 * `dynamic` (NTK by the running length) is taken at the trained length, where it changes nothing: frequencies are a constant of the plan, and a
 * row's numbers may not depend on how long its neighbours are.
 * @throws MODEL_CONFIG_INVALID
 */
export function readRope(config: ConfigReader, context: RopeContext): RopeFeatures {
  const parameters = config.object('rope_parameters');
  const theta = parameters?.get('rope_theta') === undefined ? config.positive('rope_theta', context.defaultTheta) : parameters.positive('rope_theta');
  return readRopeObject(parameters ?? config.object('rope_scaling'), theta, config, context);
}

/** One object of scaling rules, whichever field it stands in. */
export function readRopeObject(rules: ConfigReader | undefined, theta: number, config: ConfigReader, context: RopeContext): RopeFeatures {
  const partial =
    rules?.get('partial_rotary_factor') === undefined
      ? config.positive('partial_rotary_factor', context.defaultPartial ?? 1)
      : rules.positive('partial_rotary_factor');
  const rotaryDim = Math.floor(context.rotaryDim * partial);
  if (rotaryDim < 2 || rotaryDim % 2 !== 0 || partial > 1) throw config.invalid('partial_rotary_factor', 'a part of the head that has an even width');
  return { theta, rotaryDim, scaling: rules === undefined ? { kind: 'none' } : readScaling(rules, config, context.maxPositions, rotaryDim) };
}

const KINDS = ['default', 'none', 'linear', 'dynamic', 'llama3', 'yarn', 'longrope', 'su', 'divisors'] as const;

function readScaling(rules: ConfigReader, config: ConfigReader, maxPositions: number, rotaryDim: number): RopeScaling {
  const field = rules.get('rope_type') === undefined ? 'type' : 'rope_type';
  const kind = rules.word(field, KINDS, 'default');
  const original = () => {
    const outer = config.get('original_max_position_embeddings') === undefined ? rules : config;
    return outer.integer('original_max_position_embeddings', { max: 2 ** 28, fallback: maxPositions });
  };
  switch (kind) {
    case 'linear':
      return { kind, factor: rules.positive('factor') };
    case 'llama3':
      return {
        kind,
        factor: rules.positive('factor'),
        lowFreqFactor: rules.positive('low_freq_factor'),
        highFreqFactor: rules.positive('high_freq_factor'),
        originalPositions: original(),
      };
    case 'yarn': {
      const originalPositions = original();
      const factor = rules.positive('factor', maxPositions / originalPositions);
      return {
        kind,
        factor,
        originalPositions,
        betaFast: rules.positive('beta_fast', 32),
        betaSlow: rules.positive('beta_slow', 1),
        truncate: rules.boolean('truncate', true),
        attentionFactor: rules.positive('attention_factor', yarnAttentionFactor(rules, factor)),
      };
    }
    case 'longrope':
    case 'su': {
      const originalPositions = original();
      const factor = rules.positive('factor', maxPositions / originalPositions);
      const attentionFactor = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalPositions));
      return {
        kind: 'longrope',
        shortDivisors: readDivisors(rules, 'short_factor', rotaryDim),
        longDivisors: readDivisors(rules, 'long_factor', rotaryDim),
        originalPositions,
        attentionFactor: rules.positive('attention_factor', attentionFactor),
      };
    }
    case 'divisors':
      return { kind, divisors: rules.numbers('divisors', rotaryDim / 2) };
    default:
      return { kind: 'none' };
  }
}

function readDivisors(rules: ConfigReader, field: string, rotaryDim: number): number[] {
  const divisors = rules.numbers(field, rotaryDim / 2);
  if (divisors.some((divisor) => divisor <= 0)) throw rules.invalid(field, 'a list of numbers greater than 0');
  return divisors;
}

function yarnAttentionFactor(rules: ConfigReader, factor: number): number {
  const magnitude = (mscale: number) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  const mscale = rules.positiveOrNone('mscale');
  const mscaleAllDim = rules.positiveOrNone('mscale_all_dim');
  return mscale > 0 && mscaleAllDim > 0 ? magnitude(mscale) / magnitude(mscaleAllDim) : magnitude(1);
}
