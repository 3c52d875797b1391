/** `--quantize` on golden checkpoints: what becomes of each tensor, and how far the logits move, on every backend. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { formatToHold, type QuantizeTarget } from '../../src/engine/quantize-at-load.ts';
import { activationFor } from '../../src/models/activation.ts';
import { BUILD_TIMEOUT_MS, testedBackends } from '../backends.ts';
import { loadModel, SoloRequest } from '../drive-backend.ts';

/** gpt2 stores its matrices turned, glm4 gate and up in one tensor. Widths of 64 and 96. */
const names = ['llama-llama3', 'gpt2', 'glm4'];
const targets: readonly QuantizeTarget[] = ['int8', 'int8-channel', 'int4', 'fp8'];
/** Largest difference of a logit as a part of the largest: three layers of random weights. */
const tolerances = { int8: 0.05, 'int8-channel': 0.05, int4: 0.5, fp8: 0.12, none: 0 };

interface Expected {
  readonly prompt: number[];
  readonly logits: { readonly position: number; readonly values: number[] }[];
}

function planOf(name: string, target: QuantizeTarget) {
  const { source, model } = loadModel(join(import.meta.dirname, name));
  const plan = model.build({
    formatOf(tensor) {
      const stored = source.find(tensor);
      return stored === undefined ? 'f32' : formatToHold(tensor, stored, target, model.features.names);
    },
    activationFor: (format, width) => activationFor(format, width, 'float32', 'float'),
  });
  return { source, plan };
}

test('matrices are rounded, embedding and output less coarsely, vectors not', () => {
  const formats = (target: QuantizeTarget) => {
    const { source, plan } = planOf('qwen2', target);
    source.close();
    return Object.fromEntries(plan.weights.map((weight) => [weight.name, weight.format]));
  };
  const int4 = formats('int4');
  expect(int4['model.embed_tokens.weight']).toBe('q8_0');
  expect(
    Object.entries(int4)
      .filter(([name]) => /norm|bias/.test(name))
      .every(([, format]) => format === 'f32'),
  ).toBe(true);
  expect(int4['model.layers.0.mlp.down_proj.weight']).toBe('q4_0');
  expect(formats('int8')['model.layers.0.mlp.down_proj.weight']).toBe('q8_0');
  const channel = formats('int8-channel');
  expect([channel['model.layers.0.mlp.down_proj.weight'], channel['model.embed_tokens.weight']]).toEqual(['int8_channel', 'q8_0']);
  const fp8 = formats('fp8');
  expect(fp8['model.layers.0.mlp.down_proj.weight']).toBe('fp8_g32');
  expect(fp8['model.embed_tokens.weight']).toBe('f32');
});

describe.each(testedBackends)('on the $label backend', ({ create }) => {
  let backend: Backend | null = null;
  const reference = new ReferenceBackend();
  beforeAll(async () => {
    backend = await create();
  }, BUILD_TIMEOUT_MS);
  afterAll(() => backend?.close());

  test.for(names.flatMap((name) => targets.map((target) => [name, target] as const)))(
    '%s rounded to %s stays near its logits',
    async ([name, target], context) => {
      const ready = backend ?? context.skip('this backend cannot run here');
      const expected = JSON.parse(readFileSync(join(import.meta.dirname, name, 'expected.json'), 'utf8')) as Expected;
      const [computed, defined] = await Promise.all([ready, reference].map((each) => logitsOf(each, name, target, expected.prompt)));
      const width = computed.length / expected.prompt.length;
      const largest = Math.max(...computed.map(Math.abs));
      expect(Math.max(...computed.map((x, i) => Math.abs(x - defined[i]))) / largest).toBeLessThan(2e-5);
      for (const { position, values } of expected.logits.filter((entry) => entry.position < expected.prompt.length)) {
        const worst = Math.max(...values.map((x, i) => Math.abs(x - computed[position * width + i]))) / Math.max(...values.map(Math.abs));
        expect(worst).toBeLessThan(tolerances[target]);
        expect(worst).toBeGreaterThan(0);
      }
    },
  );
});

async function logitsOf(backend: Backend, name: string, target: QuantizeTarget, prompt: number[]): Promise<Float32Array> {
  const { source, plan } = planOf(name, target);
  const request = await SoloRequest.open(backend, plan, source, prompt.length);
  const logits = (await request.feed(prompt)).slice();
  request.close();
  source.close();
  return logits;
}
