/** Sampling fields, at each endpoint that takes them: the engine is given the value, and the tokens show it. */
import assert from 'node:assert/strict';
import type { SamplingParams } from '../../src/sampling/params.ts';
import { type Api, type Case, type Json, one } from './api.ts';

export interface SamplingEndpoint {
  readonly path: string;
  /** A request that draws some 24 tokens at a temperature of 1.5, with these fields added. */
  body(fields: object): Json;
  /** Names of the fields where they are not vLLM's. */
  readonly names?: Readonly<Record<string, string>>;
  /** Where fields stand, for the table: `options.`. */
  readonly prefix?: string;
}

interface Effect {
  readonly value: unknown;
  readonly param: keyof SamplingParams;
  /** What the engine is given, when not the value itself. */
  readonly given?: unknown;
  /** Fields without which this one does nothing; the comparison has them too. */
  readonly needs?: Readonly<Record<string, unknown>>;
  readonly shows: string;
  /** `greedy`: the tokens of temperature 0; `changes`: other tokens than without the field. */
  readonly expect: 'greedy' | 'changes' | ((tokens: readonly number[], control: readonly number[], api: Api) => void);
}

const changes = (param: keyof SamplingParams, value: unknown, needs?: Effect['needs']): Effect => ({
  param,
  value,
  shows: 'the engine samples with it: other tokens from the same seed',
  expect: 'changes',
  ...(needs === undefined ? {} : { needs }),
});
const greedy = (param: keyof SamplingParams, value: unknown): Effect => ({
  param,
  value,
  shows: 'so narrow, it gives the tokens of temperature 0',
  expect: 'greedy',
});
const needs = {
  xtc: { xtc_probability: 1 },
  dry: { dry_multiplier: 20, dry_allowed_length: 1 },
  mirostat: { mirostat_mode: 2 },
  dynatemp: { dynatemp_range: 1.4 },
};
const allowed = [300, 301, 302];

const effects: Readonly<Record<string, Effect>> = {
  temperature: { ...greedy('temperature', 0), shows: '0 is greedy, whatever the seed' },
  top_p: greedy('topP', 1e-6),
  top_k: greedy('topK', 1),
  min_p: greedy('minP', 1),
  top_n_sigma: greedy('topNSigma', 1e-4),
  repetition_penalty: changes('repetitionPenalty', 3),
  presence_penalty: changes('presencePenalty', 2, { temperature: 2 }), // what the pocket model is sure of, 2 does not change
  frequency_penalty: changes('frequencyPenalty', 2),
  typical_p: changes('typicalP', 0.05),
  xtc_probability: changes('xtcProbability', 1, { xtc_threshold: 0.01 }),
  xtc_threshold: changes('xtcThreshold', 0.005, needs.xtc),
  dry_multiplier: changes('dryMultiplier', 20, { dry_allowed_length: 1 }),
  dry_base: { ...changes('dryBase', 2, needs.dry), shows: 'the engine is given it', expect: () => {} },
  dry_allowed_length: { ...changes('dryAllowedLength', 1, { dry_multiplier: 20 }), shows: 'the engine is given it', expect: () => {} },
  dry_range: { ...changes('dryRange', 4, needs.dry), shows: 'the engine is given it', expect: () => {} },
  dry_sequence_breakers: { ...changes('drySequenceBreakers', [' '], needs.dry), shows: 'the engine is given it', expect: () => {} },
  mirostat_mode: changes('mirostatMode', 2),
  mirostat_tau: changes('mirostatTau', 0.1, needs.mirostat),
  mirostat_eta: { ...changes('mirostatEta', 0.9, needs.mirostat), shows: 'the engine is given it', expect: () => {} },
  dynatemp_range: changes('dynatempRange', 1.4),
  dynatemp_exponent: changes('dynatempExponent', 0.1, needs.dynatemp),
  allowed_token_ids: {
    param: 'allowedTokenIds',
    value: allowed,
    shows: 'only these tokens come',
    expect: (tokens) => assert.ok(tokens.length > 0 && tokens.every((id) => allowed.includes(id))),
  },
  bad_words: {
    param: 'badWords',
    value: ['the', 'a', 'was'],
    shows: 'none of the texts comes',
    expect: (tokens, _control, { engine }) => assert.doesNotMatch(` ${engine.tokenizer.decode(tokens)}`, /[ ](the|a|was)\b/),
  },
  thinking_token_budget: { param: 'thinkingTokenBudget', value: 5, shows: 'the engine is given it', expect: () => {} },
  thinking_budget: { param: 'thinkingTokenBudget', value: 5, shows: 'the engine is given it', expect: () => {} },
  seed: changes('seed', 77),
  logit_bias: {
    param: 'logitBias',
    value: { 301: 100 },
    shows: 'a bias of 100 forces the token',
    expect: (tokens) => assert.ok(tokens.length > 0 && tokens.every((id) => id === 301)),
  },
  max_tokens: { param: 'maxTokens', value: 3, shows: 'no more tokens come', expect: (tokens) => assert.equal(tokens.length, 3) },
};

/** Cases of the named fields. @param names vLLM's */
export function samplingCases(endpoint: SamplingEndpoint, fields: readonly string[]): Case[] {
  return fields.map((field) => {
    const effect = effects[field];
    assert.ok(effect, `an effect for ${field}`);
    const shown = `${endpoint.prefix ?? ''}${endpoint.names?.[field] ?? field}`;
    return one(shown, effect.shows, (api) => check(api, endpoint, field, effect));
  });
}

async function check(api: Api, { path, body, names }: SamplingEndpoint, field: string, effect: Effect): Promise<void> {
  const named = (given: Readonly<Record<string, unknown>>) =>
    Object.fromEntries(Object.entries(given).map(([name, value]) => [names?.[name] ?? name, value]));
  const control = await api.tokens(path, body(named(effect.needs ?? {})));
  const { params, result } = await api.generate(path, body(named({ ...effect.needs, [field]: effect.value })));
  assert.deepEqual(params[effect.param], effect.given ?? effect.value);
  const tokens = result.choices[0]?.tokenIds ?? [];
  if (typeof effect.expect === 'function') effect.expect(tokens, control, api);
  else if (effect.expect === 'changes') assert.notDeepEqual(tokens, control);
  else {
    assert.deepEqual(tokens, await api.tokens(path, body(named({ temperature: 0 }))));
    assert.notDeepEqual(tokens, control);
  }
}

/** What every endpoint with vLLM's further fields takes. */
export const furtherFields = [
  ...['typical_p', 'top_n_sigma', 'xtc_probability', 'xtc_threshold', 'dry_multiplier', 'dry_base', 'dry_allowed_length', 'dry_range'],
  ...[
    'dry_sequence_breakers',
    'mirostat_mode',
    'mirostat_tau',
    'mirostat_eta',
    'dynatemp_range',
    'dynatemp_exponent',
    'allowed_token_ids',
    'bad_words',
    'thinking_token_budget',
    'thinking_budget',
  ],
];
export const openAiSampling = [
  ...['max_tokens', 'temperature', 'top_p', 'top_k', 'min_p', 'repetition_penalty', 'presence_penalty', 'frequency_penalty', 'logit_bias', 'seed'],
  ...furtherFields,
];
