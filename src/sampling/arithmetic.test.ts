import { expect, test } from 'vitest';
import { EXP_MIN, expF32, logF32, SUM_BLOCK, sumBlocks, sumLanes } from './arithmetic.ts';

const f = Math.fround;

test('exp is within two units in the last place and exact where sampling needs it', () => {
  for (let x = EXP_MIN; x <= 0; x += 0.00391) {
    const exact = Math.exp(f(x));
    expect(Math.abs(expF32(f(x)) - exact) / exact).toBeLessThan(2 ** -23);
  }
  expect([expF32(0), expF32(-0), expF32(-Infinity), expF32(-88), expF32(-1e30)]).toEqual([1, 1, 0, 0, 0]);
});

test('exp never rises when its argument falls', () => {
  let last = 1;
  for (let x = 0; x > -20; x -= 0.00037) {
    const y = expF32(f(x));
    expect(y).toBeLessThanOrEqual(last * (1 + 2 ** -22));
    last = y;
  }
});

test('log is within two units in the last place', () => {
  for (let x = 1; x < 1e6; x *= 1.0017) {
    const exact = Math.log(f(x));
    expect(Math.abs(logF32(f(x)) - exact)).toBeLessThanOrEqual(2 ** -23 * Math.max(exact, 0.5));
  }
  expect(logF32(1)).toBe(0);
});

test('every result is an f32 number', () => {
  for (let x = -80; x < 0; x += 0.7) expect(f(expF32(f(x)))).toBe(expF32(f(x)));
  for (let x = 1; x < 1000; x *= 1.3) expect(f(logF32(f(x)))).toBe(logF32(f(x)));
});

test('a sum of a block adds sixteen lanes and folds them in halves', () => {
  const values = Float32Array.from({ length: 53 }, (_, i) => f(Math.sin(i) * 10 ** (i % 7)));
  const lanes = new Float32Array(16);
  values.slice(3).forEach((value, i) => {
    lanes[i % 16] += value;
  });
  let width = 16;
  while (width > 1) {
    width /= 2;
    for (let l = 0; l < width; l++) lanes[l] = f(lanes[l] + lanes[l + width]);
  }
  expect(sumLanes(values, 3, 53)).toBe(lanes[0]);
});

test('a blocked sum adds the sums of its blocks in order', () => {
  const values = Float32Array.from({ length: 2 * SUM_BLOCK + 5 }, (_, i) => f(1 + Math.cos(i)));
  const sums = new Float32Array(3);
  const total = sumBlocks(values, values.length, sums);
  expect([...sums]).toEqual([0, 1, 2].map((b) => sumLanes(values, b * SUM_BLOCK, Math.min(values.length, (b + 1) * SUM_BLOCK))));
  expect(total).toBe(f(f(sums[0] + sums[1]) + sums[2]));
});
