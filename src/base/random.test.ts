import { expect, test } from 'vitest';
import { philox4x32, uniform24, uniformAt } from './random.ts';

const run = (counter: number[], key: [number, number]) => {
  const out = new Uint32Array(4);
  philox4x32(Uint32Array.from(counter), key[0], key[1], out);
  return [...out];
};

test('Philox gives the published words for zeros, ones and digits of pi', () => {
  expect(run([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  const ones = 0xffffffff;
  expect(run([ones, ones, ones, ones], [ones, ones])).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
  expect(run([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual([0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
});

test('the result may be written over the counter', () => {
  const words = Uint32Array.of(1, 2, 3, 4);
  philox4x32(words, 5, 6, words);
  expect([...words]).toEqual(run([1, 2, 3, 4], [5, 6]));
});

test('uniform numbers lie in [0, 1) and are exact in f32', () => {
  expect(uniform24(0)).toBe(0);
  expect(uniform24(0xffffffff)).toBe(1 - 2 ** -24);
  for (const word of [1, 0x12345678, 0x80000000]) expect(Math.fround(uniform24(word))).toBe(uniform24(word));
});

test('a draw depends on seed, choice, position and draw, and on nothing else', () => {
  const base = uniformAt(1, 2, 3, 4, 5);
  expect(uniformAt(1, 2, 3, 4, 5)).toBe(base);
  const others = [uniformAt(9, 2, 3, 4, 5), uniformAt(1, 9, 3, 4, 5), uniformAt(1, 2, 9, 4, 5), uniformAt(1, 2, 3, 9, 5), uniformAt(1, 2, 3, 4, 9)];
  expect(new Set([base, ...others]).size).toBe(6);
});
