/** A model cut into stages, each a program with a cache of its own, run in one step (S1): the logits are those of the whole, bit for bit. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { soloBatch } from '../../src/engine/scorer.ts';
import { BUILD_TIMEOUT_MS, testedBackends } from '../backends.ts';
import { loadModel, SoloRequest } from '../drive-backend.ts';

describe.each(testedBackends)('on the $label backend', ({ create }) => {
  let backend: Backend | null = null;
  beforeAll(async () => {
    backend = await create();
  }, BUILD_TIMEOUT_MS);
  afterAll(() => backend?.close());

  test.for(['qwen2-window', 'gemma3', 'llama-yarn'])('%s in three stages has the logits of the whole', async (name, context) => {
    const ready = backend ?? context.skip('this backend cannot run here');
    const { prompt } = JSON.parse(readFileSync(join(import.meta.dirname, name, 'expected.json'), 'utf8')) as { prompt: number[] };
    const { source, plan } = loadModel(join(import.meta.dirname, name));
    const whole = await SoloRequest.open(ready, plan(), source, prompt.length);
    const expected = await whole.feed(prompt);

    const stages = [plan({ from: 0, to: 1 }), plan({ from: 1, to: 2 }), plan({ from: 2, to: 3 })];
    const limits = { maxTokens: prompt.length, maxLogitRows: prompt.length };
    const entries = [];
    for (const [index, stage] of stages.entries()) {
      const program = await ready.compile(stage, source, limits);
      const spec = { groups: stage.cacheGroups.map((group) => ({ ...group, numBlocks: 4 })), blockSize: 16, dtype: 'f32' as const };
      const cache = await ready.createCache(spec);
      const batch = soloBatch(spec, Int32Array.from(prompt), 0, 0, 1);
      entries.push({ program, cache, batch, ...(index === 0 ? {} : { embeddings: { entry: index - 1, output: 'hidden' } }) });
    }
    const { outputs } = await ready.execute({ entries, sampling: null, readOutputs: ['logits'] });
    expect(Buffer.from(outputs.logits.buffer).equals(Buffer.from(expected.buffer))).toBe(true);

    for (const { program, cache } of entries) {
      cache.close();
      program.close();
    }
    whole.close();
    source.close();
  });
});
