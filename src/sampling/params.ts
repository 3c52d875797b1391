/** The one list of sampling parameters: types, defaults, ranges. Everything else reads it from here. */
import { MillraceError } from '../base/errors.ts';
import { checkBeams } from './beam-params.ts';
import type { EarlyStopping } from './beam-search.ts';
import type { StructuredOutput } from './grammar/structured-output.ts';

export type { StructuredOutput } from './grammar/structured-output.ts';

/** What a caller may say. Names are camel case of vLLM's; `docs/sampling.md` describes each. */
export interface SamplingParams {
  /** Tokens to generate at most; clamped to what remains of the context. */
  maxTokens?: number | undefined;
  minTokens?: number | undefined;
  /** 0 is greedy. */
  temperature?: number | undefined;
  topP?: number | undefined;
  /** 0 or -1: off. */
  topK?: number | undefined;
  minP?: number | undefined;
  repetitionPenalty?: number | undefined;
  presencePenalty?: number | undefined;
  frequencyPenalty?: number | undefined;
  /** Locally typical sampling; 1: off. */
  typicalP?: number | undefined;
  /** Keeps logits within this many standard deviations of the largest; 0: off. */
  topNSigma?: number | undefined;
  /** XTC: with `xtcProbability`, all tokens at least this likely but the least likely of them are dropped. */
  xtcThreshold?: number | undefined;
  xtcProbability?: number | undefined;
  /** DRY: a penalty on tokens that carry on a repetition; 0: off. */
  dryMultiplier?: number | undefined;
  dryBase?: number | undefined;
  dryAllowedLength?: number | undefined;
  /** How many of the last tokens DRY looks at; 0 or -1: all. */
  dryRange?: number | undefined;
  /** No repetition reaches across a token that holds one of these texts. */
  drySequenceBreakers?: readonly string[] | undefined;
  /** 0: off; 2: mirostat 2, in the place of top-k, top-p, min-p, typical, top-n-sigma and XTC. */
  mirostatMode?: number | undefined;
  /** Bits of surprise aimed at. */
  mirostatTau?: number | undefined;
  mirostatEta?: number | undefined;
  /** The temperature moves this far either way with the entropy; 0: off. */
  dynatempRange?: number | undefined;
  dynatempExponent?: number | undefined;
  /** Nothing else may come. */
  allowedTokenIds?: readonly number[] | null | undefined;
  /** Texts that must not come: their tokens, as at the start of a text and as behind a space. */
  badWords?: readonly string[] | undefined;
  /** Ids whose log probabilities are reported for each place, behind the alternatives. */
  logprobTokenIds?: readonly number[] | undefined;
  /** Log probabilities of the tokens of the prompt too, with this many alternatives (as many as the engine allows, by default 20; -1: all); null: none. */
  promptLogprobs?: number | null | undefined;
  /** Continuations generated, of which the `n` with the highest log probability per token are given. */
  bestOf?: number | undefined;
  /** Searches for the likeliest continuations instead of drawing one: see `beam-search.ts`. Nothing is given out before the end. */
  useBeamSearch?: boolean | undefined;
  /** Hypotheses followed side by side, of which the best `n` are given. Default: `bestOf`, or else `n`. */
  beamWidth?: number | undefined;
  /** A hypothesis scores its sum of log probabilities divided by its length to this power: above 0 favours long ones. */
  lengthPenalty?: number | undefined;
  earlyStopping?: EarlyStopping | undefined;
  /** Keeps only this many of the last tokens of the prompt; -1: as many as the context has room for. */
  truncatePromptTokens?: number | null | undefined;
  /** Added to the logits of these ids. */
  logitBias?: Readonly<Record<number, number>> | undefined;
  /** Integer; drawn at admission and reported when absent. */
  seed?: number | undefined;
  stop?: readonly string[] | undefined;
  stopTokenIds?: readonly number[] | undefined;
  includeStopStringInOutput?: boolean | undefined;
  ignoreEos?: boolean | undefined;
  skipSpecialTokens?: boolean | undefined;
  /** Independent continuations. */
  n?: number | undefined;
  /** Report the log probability of each sampled token. */
  logprobs?: boolean | undefined;
  /** Alternatives reported per token, 0 to 20. */
  topLogprobs?: number | undefined;
  /** Tokens of reasoning at most, its tags not counted: then its end is forced. 0: none. Null: no bound. */
  thinkingTokenBudget?: number | null | undefined;
  /** Holds the whole output to a schema, a pattern, a list of texts or a grammar. With `minTokens` or `ignoreEos` it goes on where it may. */
  structuredOutput?: StructuredOutput | null | undefined;
}

/** All fields present, checked and frozen. */
export type ResolvedSamplingParams = Readonly<{ [K in keyof SamplingParams]-?: Exclude<SamplingParams[K], undefined> }> & {
  readonly seedGiven: boolean;
};

type Merged = { [K in keyof typeof samplingDefaults]: Exclude<SamplingParams[K], undefined> } & Omit<SamplingParams, keyof typeof samplingDefaults>;

export const MAX_TOP_LOGPROBS = 20;
export const MAX_STOP_STRINGS = 16;
export const MAX_N = 128;
export const MAX_LISTED_IDS = 1 << 21;
export const MAX_BAD_WORDS = 1024;
export const MAX_LOGPROB_TOKEN_IDS = 1024;

export const samplingDefaults = {
  minTokens: 0,
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  typicalP: 1,
  topNSigma: 0,
  xtcThreshold: 0.1,
  xtcProbability: 0,
  dryMultiplier: 0,
  dryBase: 1.75,
  dryAllowedLength: 2,
  dryRange: 0,
  drySequenceBreakers: ['\n', ':', '"', '*'] as readonly string[],
  mirostatMode: 0,
  mirostatTau: 5,
  mirostatEta: 0.1,
  dynatempRange: 0,
  dynatempExponent: 1,
  allowedTokenIds: null as readonly number[] | null,
  badWords: [] as readonly string[],
  logprobTokenIds: [] as readonly number[],
  promptLogprobs: null as number | null,
  useBeamSearch: false,
  lengthPenalty: 1,
  earlyStopping: false as EarlyStopping,
  truncatePromptTokens: null as number | null,
  thinkingTokenBudget: null as number | null,
  stop: [] as readonly string[],
  stopTokenIds: [] as readonly number[],
  includeStopStringInOutput: false,
  ignoreEos: false,
  skipSpecialTokens: true,
  n: 1,
  logprobs: false,
  topLogprobs: 0,
  structuredOutput: null as StructuredOutput | null,
} as const;

interface Range {
  min: number;
  max: number;
  integer?: boolean;
}

const ranges: Partial<Record<keyof SamplingParams, Range>> = {
  maxTokens: { min: 1, max: 2 ** 31 - 1, integer: true },
  minTokens: { min: 0, max: 2 ** 31 - 1, integer: true },
  temperature: { min: 0, max: 100 },
  topP: { min: 0, max: 1 },
  topK: { min: -1, max: 2 ** 31 - 1, integer: true },
  minP: { min: 0, max: 1 },
  repetitionPenalty: { min: 1e-3, max: 100 },
  presencePenalty: { min: -2, max: 2 },
  frequencyPenalty: { min: -2, max: 2 },
  typicalP: { min: 0, max: 1 },
  topNSigma: { min: 0, max: 1000 },
  xtcThreshold: { min: 0, max: 1 },
  xtcProbability: { min: 0, max: 1 },
  dryMultiplier: { min: 0, max: 100 },
  dryBase: { min: 1, max: 100 },
  dryAllowedLength: { min: 1, max: 1024, integer: true },
  dryRange: { min: -1, max: 2 ** 31 - 1, integer: true },
  mirostatTau: { min: 0, max: 100 },
  mirostatEta: { min: 0, max: 1 },
  dynatempRange: { min: 0, max: 100 },
  dynatempExponent: { min: 0, max: 100 },
  thinkingTokenBudget: { min: 0, max: 2 ** 31 - 1, integer: true },
  promptLogprobs: { min: -1, max: 2 ** 31 - 1, integer: true },
  bestOf: { min: 1, max: MAX_N, integer: true },
  beamWidth: { min: 1, max: MAX_N, integer: true },
  lengthPenalty: { min: -100, max: 100 },
  seed: { min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER, integer: true },
  n: { min: 1, max: MAX_N, integer: true },
  topLogprobs: { min: 0, max: MAX_TOP_LOGPROBS, integer: true },
};

/**
 * Checks `given` over `defaults` (the model's generation_config.json) over `samplingDefaults`.
 * @throws SAMPLING_PARAM_INVALID naming the field
 */
export function resolveSamplingParams(
  given: SamplingParams,
  context: { maxTokens: number; vocabSize: number; maxPromptLogprobs?: number; defaults?: SamplingParams; drawSeed(): number },
): ResolvedSamplingParams {
  const merged: Merged = { ...samplingDefaults, ...defined(context.defaults ?? {}), ...defined(given) };
  for (const [field, range] of Object.entries(ranges) as [keyof SamplingParams, Range][]) {
    const value = merged[field as keyof typeof merged] as unknown;
    if (value !== undefined && value !== null) checkRange(field, value, range);
  }
  if (!Array.isArray(merged.stop) || merged.stop.length > MAX_STOP_STRINGS || merged.stop.some((s) => typeof s !== 'string')) {
    throw invalid('stop', `at most ${MAX_STOP_STRINGS} strings`, JSON.stringify(merged.stop).slice(0, 200));
  }
  if (!Array.isArray(merged.stopTokenIds)) throw invalid('stopTokenIds', 'a list of token ids', JSON.stringify(merged.stopTokenIds).slice(0, 200));
  for (const id of merged.stopTokenIds) checkRange('stopTokenIds', id, { min: 0, max: context.vocabSize - 1, integer: true });
  checkLists(merged, context.vocabSize);
  const beamWidth = merged.useBeamSearch ? checkBeams(merged, defined(given), invalid) : 1;
  for (const [id, bias] of Object.entries(merged.logitBias ?? {})) {
    checkRange('logitBias', Number(id), { min: 0, max: context.vocabSize - 1, integer: true });
    checkRange('logitBias', bias, { min: -100, max: 100 });
  }
  return Object.freeze({
    ...merged,
    maxTokens: Math.max(0, Math.min(merged.maxTokens ?? context.maxTokens, context.maxTokens)),
    topK: Math.max(0, merged.topK),
    promptLogprobs: checkPromptLogprobs(merged.promptLogprobs, context),
    stop: merged.stop.filter((s) => s.length > 0),
    logitBias: merged.logitBias ?? {},
    seed: merged.seed ?? context.drawSeed(),
    seedGiven: merged.seed !== undefined,
    // the beams are the candidates then
    bestOf: merged.useBeamSearch ? merged.n : (merged.bestOf ?? merged.n),
    beamWidth,
    logprobs: merged.logprobs || merged.topLogprobs > 0 || merged.logprobTokenIds.length > 0,
  });
}

/** @returns how many alternatives; -1 of `count` and of the limit are all */
function checkPromptLogprobs(count: number | null, context: { readonly vocabSize: number; readonly maxPromptLogprobs?: number }): number | null {
  if (count === null) return null;
  const { vocabSize, maxPromptLogprobs = MAX_TOP_LOGPROBS } = context;
  if (maxPromptLogprobs >= 0 && (count === -1 || count > maxPromptLogprobs)) {
    throw new MillraceError('SAMPLING_PARAM_INVALID', {
      message: 'Sampling parameter prompt_logprobs is out of range.',
      expected: `an integer from 0 to ${maxPromptLogprobs}`,
      received: String(count),
      hint: 'the engine allows more with --max-prompt-logprobs (-1: the whole vocabulary)',
      param: 'prompt_logprobs',
    });
  }
  return count === -1 ? vocabSize : Math.min(count, vocabSize);
}

function checkLists(merged: Merged, vocabSize: number): void {
  const ids = (field: 'allowedTokenIds' | 'logprobTokenIds', value: unknown, most: number) => {
    if (!Array.isArray(value) || value.length > most) throw invalid(field, `at most ${most} token ids`, shown(value));
    for (const id of value) checkRange(field, id, { min: 0, max: vocabSize - 1, integer: true });
  };
  const texts = (field: 'badWords' | 'drySequenceBreakers', value: unknown) => {
    const fits = Array.isArray(value) && value.length <= MAX_BAD_WORDS && value.every((text) => typeof text === 'string' && text !== '');
    if (!fits) throw invalid(field, `at most ${MAX_BAD_WORDS} texts that are not empty`, shown(value));
  };
  ids('logprobTokenIds', merged.logprobTokenIds, MAX_LOGPROB_TOKEN_IDS);
  if (merged.allowedTokenIds !== null) ids('allowedTokenIds', merged.allowedTokenIds, MAX_LISTED_IDS);
  if (merged.allowedTokenIds?.length === 0) throw invalid('allowedTokenIds', 'a list of one token id or more', '[]');
  texts('badWords', merged.badWords);
  texts('drySequenceBreakers', merged.drySequenceBreakers);
  if (merged.badWords.some((word) => word.trim() === '')) throw invalid('badWords', 'texts that are not blank', shown(merged.badWords));
  if (merged.mirostatMode !== 0 && merged.mirostatMode !== 2) throw invalid('mirostatMode', '0 or 2', shown(merged.mirostatMode));
  if (merged.bestOf !== undefined && merged.bestOf < merged.n) throw invalid('bestOf', `at least n, which is ${merged.n}`, String(merged.bestOf));
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? 'undefined').slice(0, 200);
}

function defined<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null)) as never;
}

function checkRange(field: keyof SamplingParams, value: unknown, { min, max, integer }: Range): void {
  const fits = typeof value === 'number' && value >= min && value <= max && (!integer || Number.isInteger(value));
  if (!fits) throw invalid(field, `${integer ? 'an integer' : 'a number'} from ${min} to ${max}`, JSON.stringify(value) ?? 'undefined');
}

function invalid(field: keyof SamplingParams, expected: string, received: string): MillraceError {
  const param = field.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
  return new MillraceError('SAMPLING_PARAM_INVALID', { message: `Sampling parameter ${param} is out of range.`, expected, received, param });
}
