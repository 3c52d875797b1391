import { expect, test } from 'vitest';
import { decoderPlan } from '../../../test/fixtures/decoder.ts';
import type { Plan } from '../plan.ts';
import { fusePlan } from './fuse.ts';
import { ARENA_ALIGNMENT, planMemory } from './memory.ts';

const limits = { maxTokens: 33, maxLogitRows: 5 };

/** First and last node that touch each value's memory, found here from the rules alone. */
function lifetimes(plan: Plan): Map<number, [number, number]> {
  const found = new Map<number, [number, number]>();
  const touch = (id: number, at: number) => {
    const base = plan.values[id].view?.of ?? id;
    const [first] = found.get(base) ?? [at];
    found.set(base, [first, at]);
  };
  touch(plan.input.value, -1);
  plan.nodes.forEach(({ inputs, outputs }, at) => {
    for (const id of [...inputs, ...outputs]) touch(id, at);
  });
  for (const id of Object.values(plan.outputs)) touch(id, plan.nodes.length);
  return found;
}

test.each([
  ['as built', decoderPlan({ numLayers: 3, qkNorm: true })],
  ['fused', fusePlan(decoderPlan({ numLayers: 3, bias: true }))],
])('values that are alive together never share bytes: %s', (_, plan) => {
  const { offsets, arenaBytes } = planMemory(plan, limits);
  const placed = [...lifetimes(plan)].map(([id, [first, last]]) => {
    const { axis, width } = plan.values[id];
    return { first, last, begin: offsets[id], end: offsets[id] + (axis === 'tokens' ? 33 : 5) * width * 4 };
  });
  for (const a of placed) {
    expect(a.begin % ARENA_ALIGNMENT).toBe(0);
    expect(a.end).toBeLessThanOrEqual(arenaBytes);
    for (const b of placed) {
      if (a === b || a.first > b.last || b.first > a.last) continue;
      expect(a.end <= b.begin || b.end <= a.begin, `${JSON.stringify(a)} and ${JSON.stringify(b)}`).toBe(true);
    }
  }
});

test('the arena does not grow with the number of layers', () => {
  const bytes = (numLayers: number) => planMemory(decoderPlan({ numLayers }), limits).arenaBytes;
  expect(bytes(12)).toBe(bytes(3));
});

test('the same plan lies the same way twice', () => {
  expect(planMemory(decoderPlan(), limits)).toEqual(planMemory(decoderPlan(), limits));
});

test('views and values that nothing touches have no place of their own', () => {
  const plan = fusePlan(decoderPlan());
  const { offsets } = planMemory(plan, limits);
  const used = new Set(plan.nodes.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]));
  const placeless = plan.values.filter(({ id, view }) => view !== undefined || !used.has(id));
  expect(placeless.length).toBeGreaterThan(0);
  for (const { id } of placeless) expect(offsets[id]).toBe(-1);
});
