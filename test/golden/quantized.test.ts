/** Quantised safetensors checkpoints against what their formulas mean, computed by transformers, on every backend. Data: make_quantized.py. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import type { WeightFormat } from '../../src/plan/plan.ts';
import { BUILD_TIMEOUT_MS, testedBackends } from '../backends.ts';
import { loadModel, SoloRequest } from '../drive-backend.ts';

interface Expected {
  readonly prompt: number[];
  /** By position. */
  readonly logits: Readonly<Record<string, number[]>>;
}

const folder = join(import.meta.dirname, 'quantized');
const cases = readdirSync(folder);
const readExpected = (name: string) => JSON.parse(readFileSync(join(folder, name, 'expected.json'), 'utf8')) as Expected;

/** Largest difference of a logit, as a part of the largest logit: f32 arithmetic in another order. */
const TOLERANCE = 1e-5;
/** Activations in 8-bit groups of 32, or of whole rows. */
const INT8_TOLERANCE = 3e-2;
const TOKEN_TOLERANCE = 6e-2;

/** The format that each is held in. */
const formats: Readonly<Record<string, WeightFormat>> = {
  'gptq-4bit-g32': 'q4_0',
  'gptq-4bit-g128-asym': 'int4_g128',
  'gptq-4bit-g32-asym-act-order': 'int4_g32',
  'gptq-3bit-g64-asym': 'int3_g64',
  'gptq-2bit-g32-asym-v2': 'int2_g32',
  'gptq-8bit-row': 'q8_0',
  'gptq-8bit-g32-asym-act-order': 'int8_g32',
  'awq-4bit-g64': 'int4_g64',
  'ct-w4a16-g128': 'q4_0',
  'ct-w4a16-g32-asym': 'int4_g32',
  'ct-w4a16-g32-act-order': 'q4_0',
  'ct-w8a16-row': 'q8_0',
  'ct-w8a8-dynamic': 'int8_channel',
  'ct-w8a8-static': 'int8_channel',
  'ct-fp8-row': 'fp8_g128',
  'fp8-tensor': 'fp8_g128',
  'fp8-block': 'fp8_g128',
  'fbgemm-fp8': 'fp8_g128',
  'fp8-e5m2-row': 'fp8_e5m2_g128',
  'e5m2-cast': 'fp8_e5m2_g128',
  'bnb-nf4': 'nf4',
  'bnb-nf4-double': 'nf4',
  'bnb-int8': 'int8_g128',
};

test('every golden says in which format it is held', () => {
  expect([...cases].sort()).toEqual(Object.keys(formats).sort());
});

test.each(cases)('%s is held in the format that its numbers fit, in little more than the bytes of its file', (name) => {
  const { source, plan } = loadModel(join(folder, name));
  const built = plan();
  const matrices = built.nodes.flatMap((node) => (node.op === 'linear' ? node.weights.slice(0, 1) : [])).map((id) => built.weights[id ?? 0]);
  const projections = matrices.filter((weight) => !weight.name.includes('embed_tokens'));
  expect(new Set(projections.map((weight) => weight.format))).toEqual(new Set([formats[name]]));
  const held = built.weights.flatMap(({ parts }) => parts).reduce((sum, { tensor }) => sum + (source.find(tensor)?.sizeBytes ?? 0), 0);
  const stored = source.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  expect(held / stored).toBeLessThan(1.15);
  const gathers = built.nodes.filter((node) => node.op === 'gather-columns').length;
  expect(gathers > 0).toBe(name.includes('act-order'));
  source.close();
});

test('W8A8 checkpoints are run with int8 activations of a scale a token, unless the user says otherwise', () => {
  for (const name of ['ct-w8a8-dynamic', 'ct-w8a8-static']) {
    const activations = (choice: 'auto' | 'float' | 'int8-group32') => {
      const { source, plan } = loadModel(join(folder, name), 'auto', choice);
      const linears = plan().nodes.flatMap((node) => (node.op === 'linear' && !node.name.includes('logits') ? [node.attrs.activation] : []));
      source.close();
      return linears;
    };
    expect(activations('auto')).toContain('int8-token');
    expect(activations('float')).not.toContain('int8-token');
    expect(activations('int8-group32')).toContain('int8-group32');
  }
});

describe.each(testedBackends)('on the $label backend', ({ create }) => {
  let backend: Backend | null = null;
  beforeAll(async () => {
    backend = await create();
  }, BUILD_TIMEOUT_MS);
  afterAll(() => backend?.close());

  test.for(cases)('%s has the logits of its dequantised weights', async (name, context) => {
    const ready = backend ?? context.skip('this backend cannot run here');
    const exact = await largestError(ready, name, 'float');
    expect(exact, 'float activations').toBeLessThan(TOLERANCE);
    const rounded = await largestError(ready, name, 'auto');
    expect(rounded, 'activations by default').toBeLessThan(name.startsWith('ct-w8a8') ? TOKEN_TOLERANCE : INT8_TOLERANCE);
  });
});

async function largestError(backend: Backend, name: string, activation: 'float' | 'auto'): Promise<number> {
  const { prompt, logits } = readExpected(name);
  const { source, plan } = loadModel(join(folder, name), activation === 'float' ? 'float32' : 'auto', activation);
  const request = await SoloRequest.open(backend, plan(), source, prompt.length);
  const computed = await request.feed(prompt);
  let worst = 0;
  for (const [position, right] of Object.entries(logits)) {
    const row = computed.subarray(Number(position) * request.vocabSize, (Number(position) + 1) * request.vocabSize);
    const largest = Math.max(...right.map(Math.abs));
    right.forEach((value, i) => {
      worst = Math.max(worst, Math.abs(row[i] - value) / largest);
    });
  }
  request.close();
  source.close();
  return worst;
}
