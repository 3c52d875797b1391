/** Requests that do not keep all of their keys against the published rules, computed with transformers' layers. Data: make_retention_goldens.py. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chooseKeys } from '../../src/backends/reference/kv-compress.ts';
import type { RequestKvCache } from '../../src/engine/engine.ts';
import { fusePlan } from '../../src/plan/passes/fuse.ts';
import { testedBackends } from '../backends.ts';
import { loadModel } from '../drive-backend.ts';
import { engineOver } from '../fixtures/engine.ts';

interface Run {
  readonly prompt: number[];
  readonly greedy: number[];
  readonly logits: { readonly length: number; readonly values: number[] }[];
}

interface Goldens {
  readonly window: { readonly sinks: number; readonly window: number; readonly blockSize: number };
  readonly prompt: { readonly kept: number; readonly observing: number; readonly pool: number };
  readonly models: Readonly<Record<string, { readonly window: Run; readonly prompt: Run }>>;
}

const goldens = JSON.parse(readFileSync(join(import.meta.dirname, 'retention.json'), 'utf8')) as Goldens;
const { window, prompt } = goldens;
const modes: Readonly<Record<'window' | 'prompt', RequestKvCache>> = {
  window: { sinks: window.sinks, window: window.window },
  prompt: { compressPrompt: prompt.kept, observationWindow: prompt.observing, kernel: prompt.pool },
};

/** As in golden.test.ts; a window adds the rounding of angles. */
const TOLERANCE = 5e-5;

describe.each(testedBackends)('on the $label backend', ({ create }) => {
  test.for(Object.keys(goldens.models).flatMap((name) => (['window', 'prompt'] as const).map((mode) => [name, mode] as const)))(
    '%s: %s gives the tokens and the logits of the rule as published',
    async ([name, mode], context) => {
      const backend = (await create()) ?? context.skip('this backend cannot run here');
      const wanted = goldens.models[name][mode];
      const { source, plan } = loadModel(join(import.meta.dirname, name));
      const built = fusePlan(plan(undefined, 256));
      const found = new Map<number, Float32Array>();
      const options = {
        blockSize: window.blockSize,
        numBlocks: 32,
        maxModelLen: mode === 'window' ? 96 : 256,
        maxNumBatchedTokens: 32,
        maxNumSeqs: 4,
      };
      const engine = await engineOver(backend, built, source, {
        ...options,
        captureLogits: (batch, logits) => {
          if (batch.numLogitRows[0] > 0) found.set(batch.firstToken[0] + batch.numNewTokens[0], logits.slice());
        },
      });
      const params = { maxTokens: wanted.greedy.length, temperature: 0, ignoreEos: true };
      const { choices } = await engine.generate({ promptTokenIds: wanted.prompt }, params, { kvCache: modes[mode] });
      for (const { length, values } of wanted.logits) {
        const logits = found.get(length) ?? new Float32Array(0);
        const largest = Math.max(...values.map(Math.abs));
        const error = values.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i])), 0) / largest;
        expect(error, `logits after ${length} tokens`).toBeLessThan(TOLERANCE);
      }
      expect(choices[0].tokenIds).toEqual(wanted.greedy);
      await engine.close();
      source.close();
    },
  );
});

test('keys with equal pooled weights stay from the lowest on, in their order', () => {
  expect(chooseKeys(Float64Array.of(1, 5, 1, 0, 0, 3, 0, 0), 3, 3)).toEqual([0, 1, 2]);
  expect(chooseKeys(Float64Array.of(1, 5, 1, 0, 0, 3, 0, 0), 5, 3)).toEqual([0, 1, 2, 4, 5]);
  expect(chooseKeys(Float64Array.of(1, 5, 1, 0, 0, 3, 0, 0), 3, 1)).toEqual([0, 1, 5]);
  expect(chooseKeys(Float64Array.of(Number.NaN, 1, Number.NaN, 2), 2, 1)).toEqual([1, 3]);
});
