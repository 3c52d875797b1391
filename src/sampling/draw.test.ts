import fc from 'fast-check';
import { expect, test } from 'vitest';
import { expF32, sumBlocks } from './arithmetic.ts';
import { type Shape, TokenDrawer } from './draw.ts';

const f = Math.fround;

/** The definition in `draw.ts` by a full sort and nothing clever. */
function drawBySorting(logits: Float32Array, { temperature, topK, topP, minP }: Shape, u: number): number {
  const maximum = Math.max(...logits);
  const weights = Float32Array.from(logits, (x) => expF32(f(f(x - maximum) / temperature)));
  const sorted = [...logits.keys()].filter((id) => logits[id] > -Infinity).sort((a, b) => logits[b] - logits[a] || a - b);
  const limited = topK > 0 && topK < logits.length ? sorted.slice(0, topK) : sorted;
  const mass = limited === sorted ? sumBlocks(weights, weights.length) : limited.reduce((sum, id) => f(sum + weights[id]), 0);
  const threshold = topP < 1 ? f(topP * mass) : Infinity;
  const kept: number[] = [];
  let total = 0;
  for (const id of limited) {
    if (kept.length > 0 && (weights[id] === 0 || weights[id] < minP)) break;
    kept.push(id);
    total = f(total + weights[id]);
    if (total >= threshold) break;
  }
  let sum = 0;
  for (const id of kept) {
    sum = f(sum + weights[id]);
    if (sum > f(u * total)) return id;
  }
  return kept[kept.length - 1];
}

const logitRows = fc.oneof(
  fc.array(fc.integer({ min: -4, max: 4 }), { minLength: 1, maxLength: 60 }), // many ties
  fc.array(fc.float({ min: -50, max: 50, noNaN: true }), { minLength: 1, maxLength: 300 }),
  fc.array(fc.oneof(fc.constant(-Infinity), fc.float({ min: -3000, max: 3000, noNaN: true })), { minLength: 1, maxLength: 100 }),
);
const shapes = fc.record({
  temperature: fc.constantFrom(1, 0.5, 3, 0.01).map(f),
  topK: fc.constantFrom(0, 1, 2, 7, 50),
  topP: fc.constantFrom(0, 0.1, 0.5, 0.9, 0.9999).map(f),
  minP: fc.constantFrom(0, 0.1, 1).map(f),
});

test('a draw sorts only as far as it must and takes the token that a full sort would give', () => {
  fc.assert(
    fc.property(logitRows, shapes, fc.integer({ min: 0, max: 2 ** 24 - 1 }), (list, shape, word) => {
      const logits = Float32Array.from(list);
      const maximum = Math.max(...logits);
      fc.pre(maximum > -Infinity);
      const u = word * 2 ** -24;
      expect(new TokenDrawer(logits.length).draw(logits, maximum, shape, u)).toBe(drawBySorting(logits, shape, u));
    }),
    { numRuns: 500 },
  );
});

test('in vocabulary order every u in [0, 1) gives a token that may be sampled, the first and last included', () => {
  fc.assert(
    fc.property(logitRows, fc.constantFrom(0, 1, 2 ** 23, 2 ** 24 - 1), (list, word) => {
      const logits = Float32Array.from(list);
      const maximum = Math.max(...logits);
      fc.pre(maximum > -Infinity);
      const token = new TokenDrawer(logits.length).draw(logits, maximum, { temperature: 1, topK: 0, topP: 1, minP: 0 }, word * 2 ** -24);
      expect(logits[token]).toBeGreaterThan(maximum - 88);
    }),
    { numRuns: 300 },
  );
});
