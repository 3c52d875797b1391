/** Sampling parameters as flags, for the commands that generate. Ranges are checked by `sampling/params.ts`. */
import type { SamplingParams } from '../sampling/params.ts';
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
  { name: 'seed', flag: 'seed', kind: 'integer', env: null, meaning: 'same seed, same answer' },
  { name: 'stop', flag: 'stop', kind: 'strings', env: null, meaning: 'end before this text; may be repeated' },
  { name: 'stopTokenIds', flag: 'stop-token-ids', kind: 'integers', env: null, placeholder: 'N,N', meaning: 'end at these token ids' },
  { name: 'ignoreEos', flag: 'ignore-eos', kind: 'boolean', env: null, meaning: 'go on after the end token' },
];

/** The flags' values are exactly the fields of the same names. */
export function samplingParams(values: Readonly<Record<string, unknown>>): SamplingParams {
  return values as SamplingParams;
}
