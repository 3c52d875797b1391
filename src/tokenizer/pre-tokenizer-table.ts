/**
 * Pre-tokenizers by the name that GGUF files give in `tokenizer.ggml.pre`. Each is what the models' own tokenizer.json says,
 * written as such a component.
 */
import type { Component } from './definition.ts';

/** What a name stands for. */
export interface NamedPreTokenizer {
  readonly component: Component;
  /** Pre-tokens in the vocabulary are taken whole. */
  readonly ignoreMerges: boolean;
  /** Whether a BOS is added when the file does not say. */
  readonly addBos: boolean;
}

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const upper = '\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}';
const lower = '\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}';
const spaces = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const llama3 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`;
const qwen2 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`;
const qwen35 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${spaces}`;
const tekken = `[^\\r\\n\\p{L}\\p{N}]?[${upper}]*[${lower}]+|[^\\r\\n\\p{L}\\p{N}]?[${upper}]+[${lower}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;
const o200k =
  `[^\\r\\n\\p{L}\\p{N}]?[${upper}]*[${lower}]+${contractions}?|[^\\r\\n\\p{L}\\p{N}]?[${upper}]+[${lower}]*${contractions}?` +
  `|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;
const deepseekLetters =
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|';

const gpt2Like = named([gpt2]);
const digitsFirst = named(['\\p{N}', gpt2]);
const llama3Like = named([llama3], { ignoreMerges: true, addBos: true });
const qwen2Like = named([qwen2]);
const o200kLike = named([o200k]);

export const namedPreTokenizers: ReadonlyMap<string, NamedPreTokenizer> = new Map([
  // What files made before the key existed were read with: punctuation apart, digits in threes.
  ['default', named(['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2, '\\p{N}+', '[0-9][0-9][0-9]'])],
  ['gpt-2', gpt2Like],
  ['gpt2', gpt2Like],
  ['phi-2', gpt2Like],
  ['mpt', gpt2Like],
  ['olmo', gpt2Like],
  ['jais', gpt2Like],
  ['dbrx', named([llama3])],
  ['smaug-bpe', named([llama3])],
  ['llama3', llama3Like],
  ['llama-v3', llama3Like],
  ['llama-bpe', llama3Like],
  ['qwen2', qwen2Like],
  ['deepseek-r1-qwen', qwen2Like],
  ['megrez', qwen2Like],
  ['stablelm2', qwen2Like],
  ['qwen35', named([qwen35])],
  ['smollm', digitsFirst],
  ['starcoder', digitsFirst],
  ['refact', digitsFirst],
  ['command-r', digitsFirst],
  ['codeshell', digitsFirst],
  ['exaone', digitsFirst],
  ['minerva-7b', digitsFirst],
  ['falcon', named(['[\\p{P}\\$\\+<=>\\^~\\|`]+', gpt2, '[0-9][0-9][0-9]'])],
  ['tekken', named([tekken], { ignoreMerges: true })],
  ['pixtral', named([tekken], { ignoreMerges: true })],
  ['gpt-4o', o200kLike],
  ['llama4', o200kLike],
  ['deepseek-coder', named(['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', '[一-龥ࠀ-一가-\uD7FF]+', '\\p{N}'])],
  ['deepseek-v3', named(['\\p{N}{1,3}', '[一-龥぀-ゟ゠-ヿ]+', `${deepseekLetters}${spaces}`])],
]);

function named(patterns: readonly string[], more: { ignoreMerges?: boolean; addBos?: boolean } = {}): NamedPreTokenizer {
  const splits = patterns.map((pattern) => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false }));
  const component = { type: 'Sequence', pretokenizers: [...splits, { type: 'ByteLevel', add_prefix_space: false, use_regex: false }] };
  return { component, ignoreMerges: more.ignoreMerges ?? false, addBos: more.addBos ?? false };
}
