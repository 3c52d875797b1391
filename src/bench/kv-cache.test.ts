import { expect, test } from 'vitest';
import { benchKvCache, kvCacheText } from './kv-cache.ts';

test('the cache bench measures a full tree and says what it found', async () => {
  const report = await benchKvCache({ promptTokens: 2000, cachedTokens: 20_000, blockSize: 16, repetitions: 2 });
  expect(report.numNodes).toBeGreaterThan(1000);
  // a node takes its tokens and some dozens of bytes, not an object
  expect(report.treeBytes / report.numNodes).toBeLessThan(1000);
  for (const { median, min, max } of [report.matchMs, report.insertMs, report.allocateMs, report.freeMs]) {
    expect(min).toBeLessThanOrEqual(median);
    expect(median).toBeLessThanOrEqual(max);
  }
  expect(kvCacheText(report)).toContain('tree of 20,000 cached tokens');
});
