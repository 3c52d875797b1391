import fc from 'fast-check';
import { expect, test } from 'vitest';
import { StopStringMatcher } from './stop-strings.ts';

const letters = fc.constantFrom('a', 'b', '\n', '🙂');
const stopStrings = fc.array(fc.string({ unit: letters, maxLength: 5 }), { maxLength: 4 });
const texts = fc.array(fc.string({ unit: letters, maxLength: 6 }), { maxLength: 12 });

/** The rule on the whole text: earliest end, then longest. */
function findStop(text: string, stops: string[]): { at: number; stop: string } | null {
  for (let end = 1; end <= text.length; end++) {
    const completed = stops.filter((stop) => stop.length > 0 && text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length);
    if (completed.length > 0) return { at: end - completed[0].length, stop: completed[0] };
  }
  return null;
}

test('however the text is cut, it ends where the whole text first completes a stop string', () => {
  fc.assert(
    fc.property(stopStrings, texts, fc.boolean(), (stops, parts, includeStop) => {
      const matcher = new StopStringMatcher(stops, { includeStop });
      let given = '';
      let stop: string | null = null;
      for (const part of parts) {
        const match = matcher.push(part);
        given += match.text;
        stop ??= match.stop;
      }
      given += matcher.flush();
      const whole = parts.join('');
      const expected = findStop(whole, stops);
      expect(stop).toBe(expected?.stop ?? null);
      expect(given).toBe(expected === null ? whole : whole.slice(0, expected.at + (includeStop ? expected.stop.length : 0)));
    }),
    { numRuns: 2000 },
  );
});

test('no more is held back than what may become a stop string', () => {
  fc.assert(
    fc.property(stopStrings, texts, (stops, parts) => {
      const matcher = new StopStringMatcher(stops);
      let given = '';
      let seen = '';
      for (const part of parts) {
        const match = matcher.push(part);
        if (match.stop !== null) return;
        given += match.text;
        seen += part;
        const held = seen.slice(given.length);
        if (held.length > 0) expect(stops.some((stop) => stop.length > held.length && stop.startsWith(held))).toBe(true);
        for (const stop of stops) {
          for (let length = held.length + 1; length < stop.length; length++)
            expect(seen.endsWith(stop.slice(0, length)) && length <= seen.length).toBe(false);
        }
      }
    }),
    { numRuns: 1000 },
  );
});

test('after a stop everything is swallowed', () => {
  const matcher = new StopStringMatcher(['END']);
  expect(matcher.push('one EN')).toEqual({ text: 'one ', stop: null });
  expect(matcher.push('D two')).toEqual({ text: '', stop: 'END' });
  expect(matcher.push('three')).toEqual({ text: '', stop: null });
  expect(matcher.flush()).toBe('');
});

test('text below min_tokens passes, and no stop string starts in it', () => {
  const matcher = new StopStringMatcher(['ab']);
  expect(matcher.push('a')).toEqual({ text: '', stop: null });
  expect(matcher.pass('ab a')).toBe('aab a');
  expect(matcher.push('b')).toEqual({ text: 'b', stop: null });
  expect(matcher.push('ab')).toEqual({ text: '', stop: 'ab' });
});
