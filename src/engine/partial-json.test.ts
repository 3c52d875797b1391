import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parsePartialJson } from './partial-json.ts';

/** Whether `part` can become `whole` by growing. */
function canBecome(part: unknown, whole: unknown): boolean {
  if (typeof part === 'string') return typeof whole === 'string' && whole.startsWith(part);
  if (Array.isArray(part)) return Array.isArray(whole) && part.length <= whole.length && part.every((item, i) => canBecome(item, whole[i]));
  if (typeof part !== 'object' || part === null) return Object.is(part, whole);
  return typeof whole === 'object' && whole !== null && Object.entries(part).every(([name, value]) => canBecome(value, (whole as never)[name]));
}

test('every beginning of a text is a value that can grow to the whole one, and the whole text is the whole value', () => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: 'grapheme' }), fc.constantFrom(undefined, 1), fc.boolean(), (given, indent, escapes) => {
      const value: unknown = JSON.parse(JSON.stringify(given));
      let text = JSON.stringify([value], null, indent);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: all that is not ASCII is escaped
      if (escapes) text = text.replace(/[^\x00-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
      for (let length = 0; length < text.length; length++) {
        const part = parsePartialJson(text.slice(0, length));
        expect(part === undefined || canBecome(part, [value]), `${text.slice(0, length)} -> ${JSON.stringify(part)}`).toBe(true);
      }
      expect(parsePartialJson(text)).toEqual([value]);
    }),
    { numRuns: 200 },
  );
});

test.each([
  ['{"na', {}],
  ['{"name": "Ad', { name: 'Ad' }],
  ['{"name": "Ad\\u00', { name: 'Ad' }],
  ['{"age": 3', {}],
  ['{"age": 3,', { age: 3 }],
  ['{"a": [1, {"b": tr', { a: [1, {}] }],
  ['{"__proto__": 1}', JSON.parse('{"__proto__": 1}')],
  ['', undefined],
])('%s', (text, value) => {
  expect(parsePartialJson(text)).toEqual(value);
});
