import { expect, test } from 'vitest';
import { decoderPlan } from '../../../test/fixtures/decoder.ts';
import { shardPlan } from './shard.ts';

test('a world of one runs the plan as it is', () => {
  const plan = decoderPlan();
  expect(shardPlan(plan, { worldSize: 1, rank: 0 })).toBe(plan);
});

test('larger worlds are refused by name', () => {
  expect(() => shardPlan(decoderPlan(), { worldSize: 2, rank: 0 })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(() => shardPlan(decoderPlan(), { worldSize: 1, rank: 1 })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});
