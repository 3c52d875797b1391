/** Each way of shaping a distribution against its definition, written down again in doubles. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { greedy } from '../../test/fixtures/rows.ts';
import { badWordSequences, completingTokens } from './processors/bad-words.ts';
import { type DrySettings, dryPenalties } from './processors/dry.ts';
import { Sampler } from './sampler.ts';
import type { SamplingBatch } from './sampling-batch.ts';
import { plainShaping, type Shaping, shapingFields } from './shaping.ts';

const logits = [1, 2.5, 0, -1, 2, 0.5, 1.5, -0.5];
const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);

function softmax(row: number[], temperature = 1): number[] {
  const weights = row.map((x) => Math.exp((x - Math.max(...row)) / temperature));
  return weights.map((w) => w / sum(weights));
}

const renormalised = (kept: number[]) => kept.map((p) => p / sum(kept));
const keepOnly = (probabilities: number[], keeps: (p: number, id: number) => boolean) =>
  renormalised(probabilities.map((p, id) => (keeps(p, id) ? p : 0)));

function draw(shaping: Partial<Shaping>, columns: Partial<SamplingBatch> = {}, row = logits, position = 0) {
  const packed = Float32Array.from(shapingFields, (field) => ({ ...plainShaping, ...shaping })[field]);
  const common = { temperature: Float32Array.of(1), position: Uint32Array.of(position), seed: Uint32Array.of(42, 7), shaping: packed };
  return new Sampler(row.length).sample(Float32Array.from(row), greedy(1, { ...common, ...columns }), null);
}

function chiSquare(expected: number[], shaping: Partial<Shaping>, columns: Partial<SamplingBatch> = {}, times = 4000): number {
  const counts = new Array<number>(logits.length).fill(0);
  for (let position = 0; position < times; position++) counts[draw(shaping, columns, logits, position).tokenIds[0]]++;
  return sum(counts.map((n, i) => (expected[i] === 0 ? (n === 0 ? 0 : Infinity) : (n - times * expected[i]) ** 2 / (times * expected[i]))));
}

const entropyOf = (probabilities: number[]) => -sum(probabilities.map((p) => (p > 0 ? p * Math.log(p) : 0)));

function typical(probabilities: number[], mass: number): number[] {
  const entropy = entropyOf(probabilities);
  const byDistance = probabilities
    .map((p, id) => ({ id, p }))
    .sort((a, b) => Math.abs(-Math.log(a.p) - entropy) - Math.abs(-Math.log(b.p) - entropy));
  const kept = new Set<number>();
  for (let reached = 0; reached < mass; ) {
    const { id, p } = byDistance[kept.size];
    kept.add(id);
    reached += p;
  }
  return keepOnly(probabilities, (_, id) => kept.has(id));
}

function sigma(n: number): number[] {
  const mean = sum(logits) / logits.length;
  const deviation = Math.sqrt(sum(logits.map((x) => (x - mean) ** 2)) / logits.length);
  return keepOnly(softmax(logits), (_, id) => logits[id] >= 2.5 - n * deviation);
}

function excluded(probabilities: number[], threshold: number): number[] {
  const last = Math.min(...probabilities.filter((p) => p >= threshold));
  return keepOnly(probabilities, (p) => p <= last);
}

const p = softmax(logits);
const mix = (a: number[], b: number[], share: number) => a.map((x, i) => x * (1 - share) + b[i] * share);
const dynamic = (T: number, range: number, exponent: number) =>
  softmax(logits, Math.max(0, T - range) + (T + range - Math.max(0, T - range)) * (entropyOf(p) / Math.log(8)) ** exponent);

// Seven degrees of freedom: the 0.999 quantile is 24.3.
test.each<[string, Partial<Shaping>, Partial<SamplingBatch>, number[]]>([
  ['typical 0.5', { typicalP: 0.5 }, {}, typical(p, 0.5)],
  ['typical 0.9 at temperature 2', { typicalP: 0.9 }, { temperature: Float32Array.of(2) }, typical(softmax(logits, 2), 0.9)],
  ['top-n-sigma 1', { topNSigma: 1 }, {}, sigma(1)],
  ['top-n-sigma 1.5 keeps the same at any temperature', { topNSigma: 1.5 }, { temperature: Float32Array.of(1) }, sigma(1.5)],
  ['XTC always', { xtcProbability: 1, xtcThreshold: 0.1 }, {}, excluded(p, 0.1)],
  ['XTC in a third of the draws', { xtcProbability: 1 / 3, xtcThreshold: 0.1 }, {}, mix(p, excluded(p, 0.1), 1 / 3)],
  ['XTC with one choice above the threshold does nothing', { xtcProbability: 1, xtcThreshold: 0.3 }, {}, p],
  ['dynamic temperature', { dynatempRange: 0.8 }, {}, dynamic(1, 0.8, 1)],
  ['dynamic temperature from 0, exponent 2', { dynatempRange: 1.5, dynatempExponent: 2 }, {}, dynamic(1, 1.5, 2)],
  ['mirostat drops what surprises more than mu', { mirostatMode: 2, mirostatMu: 2.5 }, {}, keepOnly(p, (x) => -Math.log2(x) <= 2.5)],
  ['mirostat with a low mu keeps the best', { mirostatMode: 2, mirostatMu: -3 }, {}, keepOnly(p, (x) => x === Math.max(...p))],
  [
    'typical after top-k',
    { typicalP: 0.5 },
    { topK: Int32Array.of(4) },
    typical(
      keepOnly(p, (x) => x >= p[0]),
      0.5,
    ).map((x) => (Number.isNaN(x) ? 0 : x)),
  ],
])('tokens come as often as they should: %s', (_, shaping, columns, expected) => {
  expect(chiSquare(expected, shaping, columns)).toBeLessThan(24.3);
});

test('mirostat moves mu by the surprise of the token among what was kept', () => {
  const shaping = { mirostatMode: 2, mirostatMu: 4, mirostatTau: 3, mirostatEta: 0.2 };
  const { tokenIds, mirostatMu } = draw(shaping);
  const kept = keepOnly(p, (x) => -Math.log2(x) <= 4);
  expect(mirostatMu[0]).toBeCloseTo(4 - 0.2 * (-Math.log2(kept[tokenIds[0]]) - 3), 4);
  expect(draw({}).mirostatMu[0]).toBeNaN();
});

test('mirostat settles at the surprise aimed at', () => {
  const row = Array.from({ length: 400 }, (_, i) => -3 * Math.log(i + 1) * 0.4);
  let mu = 6;
  let surprises = 0;
  const times = 1500;
  for (let position = 0; position < times; position++) {
    const before = mu;
    [mu] = draw({ mirostatMode: 2, mirostatMu: mu, mirostatTau: 3 }, {}, row, position).mirostatMu;
    if (position >= 500) surprises += (before - mu) / 0.1 + 3;
  }
  expect(surprises / (times - 500)).toBeCloseTo(3, 1);
});

test('log probabilities asked for by id stand behind the alternatives', () => {
  const wanted = { numLogprobs: Int32Array.of(2), wantedIds: Int32Array.of(3, 99, 1), wantedStart: Int32Array.of(0, 3) };
  const { topTokenIds, topLogprobs } = draw({}, wanted);
  expect([...topTokenIds]).toEqual([1, 4, 3, -1, 1]);
  expect(topLogprobs[2]).toBeCloseTo(Math.log(p[3]), 5);
  expect(topLogprobs[4]).toBe(topLogprobs[0]);
});

const dry = (settings: Partial<DrySettings> = {}): DrySettings => ({
  ...{ multiplier: 0.5, base: 2, allowedLength: 2, range: 0, isBreaker: () => false },
  ...settings,
});

test('DRY punishes what would carry on a repetition, more the longer it is', () => {
  expect(dryPenalties(Int32Array.of(1, 2, 3, 9, 1, 2), dry())).toEqual([[3, 0.5]]);
  expect(dryPenalties(Int32Array.of(7, 1, 2, 3, 9, 7, 1, 2), dry())).toEqual([[3, 1]]);
  expect(dryPenalties(Int32Array.of(1, 2, 3, 9, 1, 2), dry({ allowedLength: 3 }))).toEqual([]);
  expect(dryPenalties(Int32Array.of(1, 2, 3, 9, 1, 2), dry({ range: 4 }))).toEqual([]);
  expect(dryPenalties(Int32Array.of(1, 2, 3, 9, 1, 2), dry({ isBreaker: (id) => id === 2 }))).toEqual([]);
  expect(dryPenalties(Int32Array.of(), dry())).toEqual([]);
});

test('DRY finds the repetitions that comparing every pair of places finds', () => {
  const history = fc.array(fc.nat(3), { maxLength: 60 });
  fc.assert(
    fc.property(history, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 40 }), fc.boolean(), (ids, allowedLength, range, breaks) => {
      const isBreaker = (id: number) => breaks && id === 3;
      const window = range > 0 ? ids.slice(-range) : ids;
      const end = window.length;
      const lengths = new Map<number, number>();
      for (let next = 1; next < end; next++) {
        let run = 0;
        while (run < next && window[next - 1 - run] === window[end - 1 - run] && !isBreaker(window[end - 1 - run])) run++;
        if (run >= allowedLength) lengths.set(window[next], Math.max(run, lengths.get(window[next]) ?? 0));
      }
      const expected = new Map([...lengths].map(([id, length]) => [id, Math.fround(Math.min(3e38, 0.5 * 2 ** (length - allowedLength)))]));
      expect(new Map(dryPenalties(Int32Array.from(ids), dry({ allowedLength, range, isBreaker })))).toEqual(expected);
    }),
  );
});

test('bad words are spelled at the start of a text and behind a space, and forbidden where they would be complete', () => {
  const tokenizer = { encode: (text: string) => Int32Array.from(text, (c) => c.charCodeAt(0)) };
  const sequences = badWordSequences(['ab', ' ab', 'c'], tokenizer);
  expect(sequences.map((ids) => String.fromCharCode(...ids))).toEqual(['ab', ' ab', 'c', ' c']);
  const forbidden = (output: string) => completingTokens(sequences, tokenizer.encode(output)).map((id) => String.fromCharCode(id));
  expect(forbidden('')).toEqual(['c']);
  expect(forbidden('xa')).toEqual(['b', 'c']);
  expect(forbidden('a ')).toEqual(['c']);
});
