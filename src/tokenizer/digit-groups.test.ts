import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digitGroupFinder } from './digit-groups.ts';
import { compilePattern } from './pattern.ts';

const sources = [
  String.raw`(?=(\d{3})+(?!\d))`,
  String.raw`(?=(?:\p{N}{3})+(?!\p{N}))`,
  String.raw`(?<=\d)(?=(?:\d{3})+(?!\d))`,
  String.raw`\d{1,3}(?=(?:\d{3})*\b)`,
  '[0-9]{1,3}(?=(?:[0-9]{3})*(?![0-9]))',
  String.raw`\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))`,
];

const places = (found: Iterable<{ readonly index: number; readonly 0: string }>) => Array.from(found, ({ index, 0: text }) => [index, text]);

describe.each(sources)('the pattern %s', (source) => {
  const find = digitGroupFinder(source)!;

  test('is found where the regular expression finds it', () => {
    const pattern = compilePattern({ type: 'Split', pattern: { Regex: source } });
    const text = fc.string({ unit: fc.constantFrom('1', '2', '٣', '𝟗', '½', 'a', '_', ' ', '\n', '.'), maxLength: 40 });
    fc.assert(
      fc.property(text, (text) => {
        expect(places(find(text))).toEqual(places(text.matchAll(pattern)));
      }),
    );
  });

  test('is found in a million digits, which the expression would take hours for', () => {
    let count = 0;
    for (const _ of find('7'.repeat(1_000_001))) count++;
    expect([333_333, 333_334]).toContain(count);
  });
});

test('other patterns are left to regular expressions', () => {
  for (const source of [String.raw`\d{1,3}`, String.raw`(?=(\d{3})+(?!\p{N}))`, String.raw`(?=(\d{4})+(?!\d))`, String.raw`\d{1,3}(?=(?:\d{3})*a)`])
    expect(digitGroupFinder(source), source).toBeNull();
});
