/** What a beam search takes of the sampling parameters, and what it refuses. */
import { MillraceError } from '../base/errors.ts';
import type { SamplingParams } from './params.ts';

/** Of each field that changes a draw or an output in a way that a search has no room for: when it does nothing. */
const neutral: { readonly [K in keyof SamplingParams]?: (value: NonNullable<SamplingParams[K]>) => boolean } = {
  temperature: (value) => value === 0 || value === 1,
  topP: (value) => value === 1,
  topK: (value) => value <= 0,
  minP: (value) => value === 0,
  typicalP: (value) => value === 1,
  topNSigma: (value) => value === 0,
  xtcProbability: (value) => value === 0,
  dynatempRange: (value) => value === 0,
  mirostatMode: (value) => value === 0,
  repetitionPenalty: (value) => value === 1,
  presencePenalty: (value) => value === 0,
  frequencyPenalty: (value) => value === 0,
  dryMultiplier: (value) => value === 0,
  logitBias: (value) => Object.keys(value).length === 0,
  allowedTokenIds: () => false,
  badWords: (value) => value.length === 0,
  stop: (value) => value.every((text) => text === ''),
  structuredOutput: () => false,
  thinkingTokenBudget: () => false,
  promptLogprobs: () => false,
  logprobTokenIds: (value) => value.length === 0,
};

const because =
  'A search ranks continuations by what the model says of them, and nothing is drawn; ends are end tokens, stop token ids and max_tokens.';

/** More of the likeliest tokens of a place no backend reports. */
const MAX_OFFERS = 1024;

interface BeamFields {
  readonly n: number;
  readonly bestOf?: number | undefined;
  readonly beamWidth?: number | undefined;
  readonly earlyStopping: unknown;
}

/**
 * The width of a search, its fields checked. What the model's generation_config.json says of sampling is passed over; what the caller says of it is refused.
 * @throws SAMPLING_PARAM_INVALID naming the field
 */
export function checkBeams(
  merged: BeamFields,
  given: SamplingParams,
  invalid: (field: keyof SamplingParams, expected: string, received: string) => MillraceError,
): number {
  const { n, bestOf, beamWidth, earlyStopping } = merged;
  for (const [name, isNeutral] of Object.entries(neutral)) {
    const field = name as keyof SamplingParams;
    const value = given[field];
    if (value === undefined || value === null || (isNeutral as (value: unknown) => boolean)(value)) continue;
    const param = field.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
    throw new MillraceError('SAMPLING_PARAM_INVALID', {
      message: `use_beam_search excludes ${param}.`,
      received: JSON.stringify(value)?.slice(0, 200),
      hint: because,
      param,
    });
  }
  if (earlyStopping !== true && earlyStopping !== false && earlyStopping !== 'never') {
    throw invalid('earlyStopping', 'true, false or "never"', JSON.stringify(earlyStopping)?.slice(0, 200) ?? 'undefined');
  }
  if (given.beamWidth !== undefined && given.bestOf !== undefined && given.bestOf !== beamWidth) {
    throw invalid('bestOf', `beam_width, which is ${beamWidth}: with use_beam_search both say the same`, String(given.bestOf));
  }
  if (beamWidth !== undefined && beamWidth < n) throw invalid('beamWidth', `at least n, which is ${n}`, String(beamWidth));
  return beamWidth ?? Math.max(n, bestOf ?? 1);
}

/** @throws SAMPLING_PARAM_INVALID when a place has too few tokens, or more than are reported, for so many beams besides the end tokens */
export function checkOffers(beamWidth: number, numEndTokens: number, vocabSize: number): void {
  const most = Math.min(MAX_OFFERS, vocabSize) - numEndTokens;
  if (beamWidth <= most) return;
  throw new MillraceError('SAMPLING_PARAM_INVALID', {
    message: 'There are too many beams for the tokens that a text can go on with.',
    expected: `at most ${most} beams, beside ${numEndTokens} tokens that end a text`,
    received: String(beamWidth),
    param: 'beam_width',
  });
}
