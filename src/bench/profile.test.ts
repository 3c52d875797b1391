import { expect, test } from 'vitest';
import type { NodeTime } from '../backends/backend.ts';
import { profileLines, profileText } from './profile.ts';

const node = (name: string, microseconds: number, waitMicroseconds = 0): NodeTime => ({
  node: name,
  op: 'linear',
  calls: 2,
  microseconds,
  waitMicroseconds,
});
const reading = {
  nodes: [node('layers.0.up', 100, 10), node('layers.1.up', 300, 30), node('logits', 1000), { ...node('final-norm', 0), calls: 0 }],
  steps: 2,
  deviceMs: 1.6,
  sampleMs: 0.1,
  hostMs: 0.2,
  elapsedMs: 2,
};

test('nodes that differ in the number of their layer are one line, and the lines add up to the whole step', () => {
  const lines = profileLines([reading], (name) => (name === 'logits' ? 5e6 : 0));
  expect(lines.map(({ what, callsPerStep, microsecondsPerStep }) => [what, callsPerStep, Math.round(microsecondsPerStep)])).toEqual([
    ['layers.*.up (linear)', 2, 200],
    ['logits (linear)', 1, 500],
    ['between nodes', 1, 50],
    ['sampling', 1, 50],
    ['JavaScript: schedule, fill, output', 1, 100],
    ['handing over, promises, readers', 1, 100],
    ['whole step', 1, 1000],
  ]);
  expect(lines[0].waitMicroseconds).toBe(20);
  expect(lines[1].gbPerSecond).toBeCloseTo(10);
  expect(profileText(lines)).toMatch(/^logits \(linear\) +1 +500\.0 +50\.0 % +10\.0$/m);
});

test('several readings are one', () => {
  expect(profileLines([reading, reading], () => 0)).toEqual(profileLines([reading], () => 0));
  expect(profileText(profileLines([], () => 0))).toBe('no steps were counted');
});
