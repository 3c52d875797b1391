import { expect, test } from 'vitest';
import { NullBackend } from '../backends/null/null-backend.ts';
import { ByteTokenizer } from '../tokenizer/byte-tokenizer.ts';
import { benchStep, stepText } from './step.ts';

test('the step bench measures steps in which all rows decode, and how much the engine grows by for each token: not by objects', async () => {
  const backend = new NullBackend();
  const report = await benchStep({ rows: 16, context: 40, steps: 400, blockSize: 16 }, backend, new ByteTokenizer(500));
  const { p50, p99, max } = report.hostMs;
  expect(p50).toBeGreaterThan(0);
  expect(p50).toBeLessThanOrEqual(p99);
  expect(p99).toBeLessThanOrEqual(max);
  expect(report.grownBytesPerToken).toBeLessThan(300);
  expect(backend.numSteps).toBeGreaterThanOrEqual(500);
  expect(stepText(report)).toContain('16 rows that decode');
});
