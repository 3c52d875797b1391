/** Sampling parameters as flags, for the commands that generate. Ranges are checked by `sampling/params.ts`. */
import { resolveSamplingParams, type SamplingParams } from '../sampling/params.ts';
import type { FlagDeclaration } from './flags.ts';

export const samplingFlags: readonly FlagDeclaration[] = [
  { name: 'maxTokens', flag: 'max-tokens', kind: 'integer', env: null, meaning: 'tokens to generate at most' },
  { name: 'minTokens', flag: 'min-tokens', kind: 'integer', env: null, meaning: 'tokens to generate at least' },
  { name: 'temperature', flag: 'temperature', kind: 'number', env: null, meaning: 'randomness; 0 is greedy' },
  { name: 'topP', flag: 'top-p', kind: 'number', env: null, meaning: 'sample from the smallest set of tokens with this probability' },
  { name: 'topK', flag: 'top-k', kind: 'integer', env: null, meaning: 'sample from this many most likely tokens; 0 is off' },
  { name: 'minP', flag: 'min-p', kind: 'number', env: null, meaning: 'drop tokens less likely than this share of the most likely one' },
  { name: 'repetitionPenalty', flag: 'repetition-penalty', kind: 'number', env: null, meaning: 'above 1 discourages what was said' },
  { name: 'presencePenalty', flag: 'presence-penalty', kind: 'number', env: null, meaning: 'subtracted once from tokens already generated' },
  { name: 'frequencyPenalty', flag: 'frequency-penalty', kind: 'number', env: null, meaning: 'subtracted for each time a token was generated' },
  { name: 'typicalP', flag: 'typical-p', kind: 'number', env: null, meaning: 'locally typical sampling: probability kept; 1 is off' },
  {
    name: 'topNSigma',
    flag: 'top-n-sigma',
    kind: 'number',
    env: null,
    meaning: 'keep logits within this many standard deviations of the best; 0 is off',
  },
  { name: 'xtcProbability', flag: 'xtc-probability', kind: 'number', env: null, meaning: 'how often the likeliest tokens are dropped; 0 is off' },
  { name: 'xtcThreshold', flag: 'xtc-threshold', kind: 'number', env: null, meaning: 'the probability that makes a token likely, for XTC' },
  { name: 'dryMultiplier', flag: 'dry-multiplier', kind: 'number', env: null, meaning: 'DRY: strength of the penalty on repetitions; 0 is off' },
  { name: 'dryBase', flag: 'dry-base', kind: 'number', env: null, meaning: 'DRY: growth of the penalty for each repeated token' },
  { name: 'dryAllowedLength', flag: 'dry-allowed-length', kind: 'integer', env: null, meaning: 'DRY: shorter repetitions are free' },
  { name: 'dryRange', flag: 'dry-range', kind: 'integer', env: null, meaning: 'DRY: how many of the last tokens are looked at; 0 is all' },
  {
    name: 'drySequenceBreakers',
    flag: 'dry-sequence-breaker',
    kind: 'strings',
    env: null,
    meaning: 'DRY: a text that ends a repetition; may be repeated',
  },
  { name: 'mirostatMode', flag: 'mirostat', kind: 'integer', env: null, meaning: '2 holds the surprise near --mirostat-tau; 0 is off' },
  { name: 'mirostatTau', flag: 'mirostat-tau', kind: 'number', env: null, meaning: 'bits of surprise that mirostat aims at' },
  { name: 'mirostatEta', flag: 'mirostat-eta', kind: 'number', env: null, meaning: 'how fast mirostat gets there' },
  {
    name: 'dynatempRange',
    flag: 'dynatemp-range',
    kind: 'number',
    env: null,
    meaning: 'the temperature moves this far either way with the entropy; 0 is off',
  },
  { name: 'dynatempExponent', flag: 'dynatemp-exponent', kind: 'number', env: null, meaning: 'how the temperature moves with the entropy' },
  { name: 'badWords', flag: 'bad-word', kind: 'strings', env: null, meaning: 'a text that must not come; may be repeated' },
  {
    name: 'allowedTokenIds',
    flag: 'allowed-token-ids',
    kind: 'integers',
    env: null,
    placeholder: 'N,N',
    meaning: 'nothing but these tokens may come',
  },
  { name: 'thinkingTokenBudget', flag: 'thinking-token-budget', kind: 'integer', env: null, meaning: 'tokens of reasoning at most; 0 is none' },
  { name: 'seed', flag: 'seed', kind: 'integer', env: null, meaning: 'same seed, same answer' },
  { name: 'stop', flag: 'stop', kind: 'strings', env: null, meaning: 'end before this text; may be repeated' },
  { name: 'stopTokenIds', flag: 'stop-token-ids', kind: 'integers', env: null, placeholder: 'N,N', meaning: 'end at these token ids' },
  { name: 'ignoreEos', flag: 'ignore-eos', kind: 'boolean', env: null, meaning: 'go on after the end token' },
];

/** Of commands that print more than one answer as it comes. */
export const choiceFlags: readonly FlagDeclaration[] = [
  { name: 'n', flag: 'n', kind: 'integer', env: null, meaning: 'independent answers, printed one after another' },
  { name: 'bestOf', flag: 'best-of', kind: 'integer', env: null, meaning: 'answers generated, of which the --n likeliest per token are printed' },
  {
    name: 'beamWidth',
    flag: 'beam-width',
    kind: 'integer',
    env: null,
    meaning: 'search for the likeliest answers with this many hypotheses side by side; the --n best are printed',
  },
  {
    name: 'topLogprobs',
    flag: 'logprobs',
    kind: 'integer',
    env: null,
    meaning: 'with --json: log probabilities of tokens with this many alternatives',
  },
];

/**
 * The flags' values are exactly the fields of the same names.
 * @throws SAMPLING_PARAM_INVALID for what no model could take, before one is loaded
 */
export function samplingParams(values: Readonly<Record<string, unknown>>): SamplingParams {
  const { beamWidth, topLogprobs } = values;
  const params: SamplingParams = {
    ...values,
    ...(beamWidth === undefined ? {} : { useBeamSearch: true }),
    ...(topLogprobs === undefined ? {} : { logprobs: true }),
  };
  resolveSamplingParams(params, { maxTokens: 2 ** 31 - 1, vocabSize: 2 ** 31, drawSeed: () => 0 });
  return params;
}
