/** Values out of the JSON of tokenizer files, checked. */
import { type MergeList, maxTokenLength, maxVocabSize, tokenizerInvalid } from './definition.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** @returns the ids in order, each once; negative and fractional ones are left out */
export function uniqueIds(ids: readonly number[]): number[] {
  return [...new Set(ids.filter((id) => Number.isInteger(id) && id >= 0))];
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @throws TOKENIZER_INVALID when it cannot be the id of that spelling */
export function checkEntry(spelling: unknown, id: unknown): asserts id is number {
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= maxVocabSize) {
    throw tokenizerInvalid('A token has an id that cannot be one.', {
      expected: `an integer from 0 to ${maxVocabSize - 1}`,
      received: String(id).slice(0, 64),
    });
  }
  if (typeof spelling !== 'string' || spelling.length > maxTokenLength)
    throw tokenizerInvalid(`The token ${id} has no spelling or an absurdly long one.`);
}

export function namedId(name: unknown, ids: ReadonlyMap<string, number>): number | null {
  const spelling = spellingOf(name);
  return spelling === null ? null : (ids.get(spelling) ?? null);
}

/** A token in a configuration: a string or an object with `content`. */
export function spellingOf(name: unknown): string | null {
  if (typeof name === 'string') return name;
  return isObject(name) && typeof name.content === 'string' ? name.content : null;
}

/** @returns columns for that many merges, all zero */
export function emptyMergeList(length: number): MergeList {
  return { left: new Int32Array(length), right: new Int32Array(length), merged: new Int32Array(length), rank: new Int32Array(length) };
}
