/**
 * Patterns of tokenizer.json: a plain string, or a regular expression in Oniguruma's syntax, which the library knows how to write in JavaScript.
 * Their running time is not bounded here: digit-groups.ts has those that are known to be slow, and the worker gives up on a text in the end.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { type Component, tokenizerInvalid } from './definition.ts';

const maxPatternLength = 1 << 16;

/**
 * @param part a component with a `pattern` of `{"Regex": ...}` or `{"String": ...}`
 * @returns the pattern with the flag `g`
 * @throws TOKENIZER_INVALID when there is none, or one that cannot be compiled
 */
export function compilePattern(part: Component): RegExp {
  const { pattern } = part;
  const [kind, source, more] = typeof pattern === 'object' && pattern !== null ? Object.entries(pattern).flat() : [];
  if ((kind !== 'Regex' && kind !== 'String') || more !== undefined || typeof source !== 'string' || source.length > maxPatternLength) {
    throw tokenizerInvalid(`The tokenizer's '${part.type.slice(0, 64)}' has no usable pattern.`, {
      expected: '{"Regex": "..."} or {"String": "..."}',
    });
  }
  return kind === 'String' ? new RegExp(escaped(source), 'gu') : compileRegex(source, part.type);
}

function compileRegex(source: string, type: string): RegExp {
  const split: Component = { type: 'Split', pattern: { Regex: source }, behavior: 'Isolated', invert: false };
  const empty = { type: 'BPE', vocab: {}, merges: [] };
  const json = { model: empty, normalizer: null, pre_tokenizer: split, post_processor: null, decoder: null, added_tokens: [] };
  let pattern: unknown = null;
  let cause: unknown;
  try {
    const { pre_tokenizer } = new LibraryTokenizer(json, {});
    pattern = pre_tokenizer !== null && 'pattern' in pre_tokenizer ? pre_tokenizer.pattern : null;
  } catch (thrown) {
    cause = thrown;
  }
  if (pattern instanceof RegExp) return pattern;
  const reason = cause instanceof Error ? ` (${cause.message.slice(0, 300)})` : '';
  throw tokenizerInvalid(`The tokenizer's '${type.slice(0, 64)}' has a pattern that cannot be compiled${reason}.`, { cause });
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/gu, '\\$&');
}
