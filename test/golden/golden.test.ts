/** Models against Hugging Face transformers: logits within tolerance and the same greedy tokens, on every backend. Data: make_goldens.py. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { families } from '../../src/models/index.ts';
import { fusePlan } from '../../src/plan/passes/fuse.ts';
import { BUILD_TIMEOUT_MS, testedBackends } from '../backends.ts';
import { loadModel, SoloRequest } from '../drive-backend.ts';

interface Expected {
  readonly prompt: number[];
  readonly greedy: number[];
  readonly smallestMargin: number;
  readonly logits: { readonly position: number; readonly values: number[] }[];
}

const cases = readdirSync(import.meta.dirname).filter((name) => existsSync(join(import.meta.dirname, name, 'expected.json')));

/** Largest difference of a logit, as a part of the largest logit: f32 arithmetic in another order, three layers deep. */
const TOLERANCE = 2e-5;
/** Eight bits of mantissa, through three layers. */
const BF16_TOLERANCE = 2e-2;

describe.each(testedBackends)('on the $label backend', ({ create }) => {
  let backend: Backend | null = null;
  beforeAll(async () => {
    backend = await create();
  }, BUILD_TIMEOUT_MS);
  afterAll(() => backend?.close());

  test.for(cases)('%s has the logits of transformers', async (name, context) => {
    const ready = backend ?? context.skip('this backend cannot run here');
    const { prompt, greedy, logits } = readExpected(name);
    const { source, plan } = loadModel(join(import.meta.dirname, name));
    const ids = [...prompt, ...greedy];
    const request = await SoloRequest.open(ready, plan(undefined, ids.length), source, ids.length);
    const computed = await request.feed(ids);
    for (const { position, values } of logits) {
      const row = computed.subarray(position * request.vocabSize, (position + 1) * request.vocabSize);
      expectClose(`${name}, logits after position ${position}`, row, values);
    }
    request.close();
    source.close();
  });

  test('bf16 activations stay near the exact logits', async (context) => {
    const ready = backend ?? context.skip('this backend cannot run here');
    const name = 'llama-linear-bf16';
    const { prompt, greedy, logits } = readExpected(name);
    const { source, plan } = loadModel(join(import.meta.dirname, name), 'auto');
    const built = plan();
    expect(new Set(built.nodes.flatMap((node) => (node.op === 'linear' ? [node.attrs.activation] : [])))).toEqual(new Set(['bf16']));
    const request = await SoloRequest.open(ready, built, source, 128);
    const computed = await request.feed([...prompt, ...greedy]);
    for (const { position, values } of logits) {
      const row = computed.subarray(position * request.vocabSize, (position + 1) * request.vocabSize);
      expectClose(`${name}, bf16 activations, position ${position}`, row, values, BF16_TOLERANCE);
    }
    request.close();
    source.close();
  });

  test.for(cases)('%s continues greedily as transformers does, prompt in chunks, plan fused', async (name, context) => {
    const ready = backend ?? context.skip('this backend cannot run here');
    const { prompt, greedy } = readExpected(name);
    const { source, plan } = loadModel(join(import.meta.dirname, name));
    const length = prompt.length + greedy.length;
    const request = await SoloRequest.open(ready, fusePlan(plan(undefined, length)), source, length);
    expect(await request.greedy(prompt, greedy.length, 13)).toEqual(greedy);
    request.close();
    source.close();
  });

  test.for(cases)('%s has the same bits whole, in chunks and token by token', async (name, context) => {
    const ready = backend ?? context.skip('this backend cannot run here');
    const { prompt } = readExpected(name);
    const { source, plan } = loadModel(join(import.meta.dirname, name));
    const fused = fusePlan(plan());
    const logits: Float32Array[] = [];
    for (const chunk of [prompt.length, 7, 1]) {
      const request = await SoloRequest.open(ready, fused, source, prompt.length);
      let last = new Float32Array(0);
      for (let at = 0; at < prompt.length; at += chunk) last = (await request.feed(prompt.slice(at, at + chunk))) as Float32Array<ArrayBuffer>;
      logits.push(last.slice(-request.vocabSize));
      request.close();
    }
    expect(logits[1]).toEqual(logits[0]);
    expect(logits[2]).toEqual(logits[0]);
    source.close();
  });
});

test('there is golden data for every family', () => {
  for (const family of Object.keys(families)) {
    expect(cases.some((name) => name.startsWith(family))).toBe(true);
  }
});

function readExpected(name: string): Expected {
  return JSON.parse(readFileSync(join(import.meta.dirname, name, 'expected.json'), 'utf8')) as Expected;
}

function expectClose(label: string, computed: Float32Array, expected: readonly number[], tolerance = TOLERANCE): void {
  const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const differences = expected.map((x, i) => Math.abs(x - computed[i]));
  const worst = differences.reduce((most, x) => (x > most || Number.isNaN(x) ? x : most), 0);
  const pairs = expected.slice(0, 5).map((x, i) => `${computed[i]} for ${x}`);
  const report = `${label}: differs by ${worst} (${worst / largest} of the largest logit). First five: ${pairs.join(', ')}.
Hint: a large difference at position 0 is in embedding, norms or MLP; one that starts later is in rotary tables, masks or the cache.`;
  expect(computed.length, `${label}: number of logits`).toBe(expected.length);
  expect(worst / largest <= tolerance, report).toBe(true);
}
