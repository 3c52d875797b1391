import { expect, test } from 'vitest';
import { greedy } from '../../test/fixtures/rows.ts';
import { normals } from '../../test/fixtures/weights.ts';
import { Sampler } from './sampler.ts';
import type { SamplingBatch } from './sampling-batch.ts';

/** Samples one row `times` times at successive positions and returns how often each token came. */
function frequencies(logits: number[], columns: Partial<SamplingBatch>, times = 4000): number[] {
  const sampler = new Sampler(logits.length);
  const counts = new Array<number>(logits.length).fill(0);
  for (let position = 0; position < times; position++) {
    const batch = greedy(1, { temperature: Float32Array.of(1), position: Uint32Array.of(position), seed: Uint32Array.of(42, 7), ...columns });
    counts[sampler.sample(Float32Array.from(logits), batch, null).tokenIds[0]]++;
  }
  return counts;
}

const softmax = (logits: number[]) => {
  const weights = logits.map((x) => Math.exp(x - Math.max(...logits)));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / sum);
};

/** Pearson's statistic of counts against probabilities. */
const chiSquare = (counts: number[], probabilities: number[]) => {
  const times = counts.reduce((a, b) => a + b);
  return counts.reduce(
    (sum, count, i) =>
      sum + (probabilities[i] === 0 ? (count === 0 ? 0 : Infinity) : (count - times * probabilities[i]) ** 2 / (times * probabilities[i])),
    0,
  );
};

const logits = [1, 2.5, 0, -1, 2, 0.5, 1.5, -0.5];
const zeroExcept = (kept: number[], probabilities: number[]) => {
  const sum = kept.reduce((total, id) => total + probabilities[id], 0);
  return probabilities.map((p, id) => (kept.includes(id) ? p / sum : 0));
};

const one = (row: number[], columns: Partial<SamplingBatch> = {}, masks: Uint32Array | null = null) =>
  new Sampler(row.length).sample(Float32Array.from(row), greedy(1, columns), masks);

// Seven degrees of freedom: the 0.999 quantile is 24.3.
test.each<[string, Partial<SamplingBatch>, number[]]>([
  ['temperature 1', {}, softmax(logits)],
  ['temperature 0.5', { temperature: Float32Array.of(0.5) }, softmax(logits.map((x) => 2 * x))],
  ['top-k 3', { topK: Int32Array.of(3) }, zeroExcept([1, 4, 6], softmax(logits))],
  ['top-p 0.6', { topP: Float32Array.of(0.6) }, zeroExcept([1, 4], softmax(logits))],
  ['top-k 4, then top-p 0.5 of what is left', { topK: Int32Array.of(4), topP: Float32Array.of(0.5) }, zeroExcept([1, 4], softmax(logits))],
  ['min-p 0.3', { minP: Float32Array.of(0.3) }, zeroExcept([1, 4, 6], softmax(logits))],
  ['min-p 0.3 with top-k 2', { minP: Float32Array.of(0.3), topK: Int32Array.of(2) }, zeroExcept([1, 4], softmax(logits))],
])('tokens come as often as they should: %s', (_, columns, expected) => {
  expect(chiSquare(frequencies(logits, columns), expected)).toBeLessThan(24.3);
});

test('the distribution over a vocabulary of many blocks is right', () => {
  const size = 5000;
  const row = Array.from({ length: size }, (_, i) => (i % 1000 === 7 ? 8 : i % 3));
  const groups = [7, 1007, 2007, 3007, 4007];
  const probabilities = softmax(row);
  const counts = frequencies(row, {}, 6000);
  const grouped = [...groups.map((id) => counts[id]), counts.reduce((a, b) => a + b) - groups.reduce((sum, id) => sum + counts[id], 0)];
  const expected = [...groups.map((id) => probabilities[id]), 1 - groups.reduce((sum, id) => sum + probabilities[id], 0)];
  expect(chiSquare(grouped, expected)).toBeLessThan(20.5); // five degrees of freedom
});

test('greedy takes the largest logit, the lower id of equals', () => {
  expect(one([1, 5, 5, 2]).tokenIds[0]).toBe(1);
  expect(one([-0, 0, -1]).tokenIds[0]).toBe(0);
});

test('equals at the edge of top-k and top-p are kept by lower id', () => {
  const equal = [0, 1, 1, 1, 1, 0];
  expect(frequencies(equal, { topK: Int32Array.of(2) }, 300).map((n) => n > 0)).toEqual([false, true, true, false, false, false]);
  expect(frequencies(equal, { topP: Float32Array.of(0.3) }, 300).map((n) => n > 0)).toEqual([false, true, true, false, false, false]);
});

test('top-p of 0 and top-k of 1 are greedy', () => {
  expect(frequencies(logits, { topP: Float32Array.of(0) }, 50)[1]).toBe(50);
  expect(frequencies(logits, { topK: Int32Array.of(1) }, 50)[1]).toBe(50);
});

test('a tiny temperature is greedy and a huge one is flat, without overflow', () => {
  expect(frequencies([1e38, 3e38, -3e38], { temperature: Float32Array.of(1e-38) }, 20)).toEqual([0, 20, 0]);
  expect(
    chiSquare(
      frequencies(logits, { temperature: Float32Array.of(1e30) }),
      logits.map(() => 1 / 8),
    ),
  ).toBeLessThan(24.3);
});

test('equal seeds give equal tokens, other seeds and choices others', () => {
  const flat = new Array<number>(1000).fill(0);
  const draw = (seed: number, choice: number) =>
    Array.from(
      { length: 8 },
      (_, position) =>
        one(flat, {
          temperature: Float32Array.of(1),
          seed: Uint32Array.of(seed, 0),
          choice: Uint32Array.of(choice),
          position: Uint32Array.of(position),
        }).tokenIds[0],
    );
  expect(draw(1, 0)).toEqual(draw(1, 0));
  expect(draw(1, 0)).not.toEqual(draw(2, 0));
  expect(draw(1, 0)).not.toEqual(draw(1, 1));
});

test('a row gives the same token wherever it stands in the batch', () => {
  const size = 2000;
  const numRows = 9;
  const rows = normals(1, numRows * size, 2);
  const columns = (order: number[]): Partial<SamplingBatch> => ({
    temperature: Float32Array.from(order, (row) => (row % 4) * 0.5),
    topP: Float32Array.from(order, (row) => 1 - (row % 3) * 0.2),
    topK: Int32Array.from(order, (row) => (row % 2) * 50),
    seed: Uint32Array.from(order.flatMap((row) => [row, 1])),
    numLogprobs: Int32Array.from(order, () => 3),
  });
  const sample = (order: number[]) => {
    const logits = Float32Array.from(order.flatMap((row) => [...rows.subarray(row * size, (row + 1) * size)]));
    return new Sampler(size).sample(logits, greedy(order.length, columns(order)), null);
  };
  const order = Array.from({ length: numRows }, (_, i) => i);
  const shuffled = order.map((row) => (row * 5 + 3) % numRows);
  const [a, b] = [sample(order), sample(shuffled)];
  shuffled.forEach((row, at) => {
    expect(b.tokenIds[at]).toBe(a.tokenIds[row]);
    expect(b.logprobs[at]).toBe(a.logprobs[row]);
  });
});

test('log probabilities are of the raw logits, alternatives best first', () => {
  const bias = { biasIds: Int32Array.of(1), biasValues: Float32Array.of(-Infinity), biasStart: Int32Array.of(0, 1) };
  const result = one(logits, { numLogprobs: Int32Array.of(3), ...bias });
  const raw = softmax(logits).map(Math.log);
  expect(result.tokenIds[0]).toBe(4);
  expect(result.logprobs[0]).toBeCloseTo(raw[4], 5);
  expect([...result.topTokenIds]).toEqual([1, 4, 6]);
  expect([...result.topLogprobs].map((x, i) => Math.abs(x - raw[[1, 4, 6][i]]) < 1e-5)).toEqual([true, true, true]);
});

test('rows that ask for no log probabilities get NaN, and unused alternatives are -1', () => {
  const batch = greedy(2, { numLogprobs: Int32Array.of(-1, 2) });
  const result = new Sampler(3).sample(Float32Array.of(1, 2, 3, 1, 2, 3), batch, null);
  expect([Number.isNaN(result.logprobs[0]), Number.isNaN(result.logprobs[1])]).toEqual([true, false]);
  expect([...result.topTokenIds]).toEqual([-1, -1, 2, 1]);
  expect([...one([1, 2], { numLogprobs: Int32Array.of(5) }).topTokenIds]).toEqual([1, 0, -1, -1, -1]);
});

test('penalties count prompt and output as they should', () => {
  // Prompt: 0, 1. Output: 1, 2, 2.
  const history = { historyIds: Int32Array.of(0, 1, 1, 2, 2, 99, -5), historyStart: Int32Array.of(0, 7), historyPrompt: Int32Array.of(2) };
  const raw = [4, 4, 4, -4, 3.9];
  const after = (columns: Partial<SamplingBatch>) => {
    // Read the processed logits back through the order in which bias-free greedy picks: forbid the winner again and again.
    const order: number[] = [];
    const forbidden: number[] = [];
    while (order.length < raw.length) {
      const bias = {
        biasIds: Int32Array.from(forbidden),
        biasValues: new Float32Array(forbidden.length).fill(-Infinity),
        biasStart: Int32Array.of(0, forbidden.length),
      };
      const [token] = one(raw, { ...history, ...columns, ...bias }).tokenIds;
      order.push(token);
      forbidden.push(token);
    }
    return order;
  };
  expect(after({})).toEqual([0, 1, 2, 4, 3]);
  expect(after({ repetitionPenalty: Float32Array.of(2) })).toEqual([4, 0, 1, 2, 3]);
  expect(after({ presencePenalty: Float32Array.of(1) })).toEqual([0, 4, 1, 2, 3]);
  expect(after({ frequencyPenalty: Float32Array.of(0.05) })).toEqual([0, 1, 2, 4, 3]);
  expect(after({ frequencyPenalty: Float32Array.of(0.06) })).toEqual([0, 1, 4, 2, 3]);
  expect(after({ presencePenalty: Float32Array.of(-1) })).toEqual([1, 2, 0, 4, 3]);
});

test('a mask allows only what its bits allow', () => {
  expect(one([9, 8, 7, 6], {}, Uint32Array.of(0b1100)).tokenIds[0]).toBe(2);
  const wide = new Array<number>(70).fill(0).map((_, i) => -i);
  expect(one(wide, {}, Uint32Array.of(0, 0, 1 << 4)).tokenIds[0]).toBe(68);
});

test('a NaN marks its row alone', () => {
  const result = new Sampler(3).sample(Float32Array.of(1, NaN, 3, 1, 2, 3), greedy(2, { numLogprobs: Int32Array.of(2, 2) }), null);
  expect([...result.corrupted]).toEqual([1, 0]);
  expect([...result.tokenIds]).toEqual([0, 2]);
  expect([...result.topTokenIds]).toEqual([-1, -1, 2, 1]);
});

test('infinities are handled: certain ids win, impossible ones never come', () => {
  expect(one([1, Infinity, 2, Infinity]).tokenIds[0]).toBe(1);
  expect(frequencies([1, Infinity, 2, Infinity], {}, 200).map((n) => n > 0)).toEqual([false, true, false, true]);
  expect(frequencies([-Infinity, 0, -Infinity, 0], { topP: Float32Array.of(0.99) }, 200).map((n) => n > 0)).toEqual([false, true, false, true]);
  const [logprob] = one([1, Infinity, 2, Infinity], { numLogprobs: Int32Array.of(0) }).logprobs;
  expect(logprob).toBeCloseTo(Math.log(0.5), 6);
});

test('a row in which nothing may be sampled is flagged, at any temperature', () => {
  for (const temperature of [0, 1]) {
    expect(one([-Infinity, -Infinity], { temperature: Float32Array.of(temperature) }).corrupted[0]).toBe(2);
    expect(one([1, 2], { temperature: Float32Array.of(temperature) }, Uint32Array.of(0)).corrupted[0]).toBe(2);
  }
});

test('an infinite logit can still be forbidden', () => {
  const bias = { biasIds: Int32Array.of(1), biasValues: Float32Array.of(-Infinity), biasStart: Int32Array.of(0, 1) };
  expect(one([-Infinity, Infinity, Infinity], bias).tokenIds[0]).toBe(2);
});

test('logits given to the sampler stay as they are', () => {
  const given = Float32Array.from(logits);
  const batch = greedy(1, { biasIds: Int32Array.of(1), biasValues: Float32Array.of(5), biasStart: Int32Array.of(0, 1) });
  new Sampler(8).sample(given, batch, null);
  expect([...given]).toEqual([...Float32Array.from(logits)]);
});
