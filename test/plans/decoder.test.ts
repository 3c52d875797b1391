import { expect, test } from 'vitest';
import { fusePlan } from '../../src/plan/passes/fuse.ts';
import { printPlan } from '../../src/plan/print.ts';
import { decoderPlan } from '../fixtures/decoder.ts';

test('a decoder of one layer prints as it did', () => {
  expect(printPlan(decoderPlan({ numLayers: 1, bias: true, format: 'q8_0', activation: 'int8-group32' }))).toMatchSnapshot();
});

test('a fused decoder with two cache groups, norms of q and k, soft caps and sinks prints as it did', () => {
  const features = { window: 20, qkNorm: true, attentionSoftCap: 50, logitSoftCap: 30, sinks: true };
  expect(printPlan(fusePlan(decoderPlan(features)))).toMatchSnapshot();
});
