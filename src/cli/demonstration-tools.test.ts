import fc from 'fast-check';
import { afterEach, expect, test, vi } from 'vitest';
import type { RunnableTool } from '../engine/tool-loop.ts';
import { calculate, demonstrationTools } from './demonstration-tools.ts';

afterEach(() => {
  vi.useRealTimers();
});

const called = (tool: RunnableTool | undefined, args: Record<string, unknown>): unknown => tool?.execute(args, { callId: 'c', signal: undefined });

test('the calculator follows the order of operations, brackets and signs', () => {
  expect(calculate('2 + 3 * 4')).toBe(14);
  expect(calculate('(2 + 3) * -4 / 8')).toBe(-2.5);
  expect(calculate('0.1+0.2')).toBe(0.3);
});

test.each(['', '2 +', '2 3', 'process.exit()', '1/0', '(1', '('.repeat(9999), '2 ** 3'])('the calculator refuses %s', (expression) => {
  expect(() => calculate(expression)).toThrow(Error);
});

test('the calculator agrees with arithmetic on whole numbers', () => {
  const number = fc.integer({ min: 0, max: 9999 });
  fc.assert(fc.property(number, number, number, (a, b, c) => calculate(`${a} - ${b}*${c}`) === a - b * c));
});

test('the weather is made up, but the same for the same city', () => {
  const { tools } = demonstrationTools(() => undefined);
  const first = called(tools.get_weather, { city: 'Oslo' });
  expect(called(tools.get_weather, { city: 'Oslo' })).toBe(first);
  expect(JSON.parse(String(first))).toEqual({ temperature: expect.any(Number), condition: expect.any(String) });
  expect(() => called(tools.get_weather, {})).toThrow('city must be a text');
});

test('a timer rings when its minutes are over, and not after the chat', () => {
  vi.useFakeTimers();
  const rung: string[] = [];
  const { tools, close } = demonstrationTools((line) => rung.push(line));
  called(tools.set_timer, { minutes: 2 });
  called(tools.set_timer, { minutes: 5 });
  expect(() => called(tools.set_timer, { minutes: -1 })).toThrow(Error);
  vi.advanceTimersByTime(3 * 60_000);
  expect(rung).toEqual(['timer: 2 minutes are over']);
  close();
  vi.advanceTimersByTime(9 * 60_000);
  expect(rung).toHaveLength(1);
});
