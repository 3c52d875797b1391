/** Whole GGUF models in each block format, on every backend: they load, and the native logits are the reference's. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { WeightFormat } from '../../src/plan/plan.ts';
import { weightFormats } from '../../src/quant/formats/index.ts';
import { BUILD_TIMEOUT_MS, testedBackends } from '../backends.ts';
import { loadModel, SoloRequest } from '../drive-backend.ts';
import { f32Bytes, type GgufFileTensor, ggufBytes } from '../fixtures/checkpoint-files.ts';
import { normals } from '../fixtures/weights.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-gguf-quants-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** ggml's numbers. */
const types: Partial<Record<WeightFormat, number>> = {
  q4_0: 2,
  q4_1: 3,
  q5_0: 6,
  q5_1: 7,
  q8_0: 8,
  q2_k: 10,
  q3_k: 11,
  q4_k: 12,
  q5_k: 13,
  q6_k: 14,
  iq4_nl: 20,
  iq4_xs: 23,
  mxfp4: 39,
  iq2_xxs: 16,
  iq2_xs: 17,
  iq2_s: 22,
  iq3_xxs: 18,
  iq3_s: 21,
  iq1_s: 19,
  iq1_m: 29,
  tq1_0: 34,
  tq2_0: 35,
};
/** What files called Q4_K_M and Q4_0 hold: the embedding, which is the output head too, in Q6_K. */
const mixtures: Record<string, (tensor: string) => WeightFormat> = {
  'q4_k with the embedding and v in q6_k': (tensor) => (/token_embd|attn_v/.test(tensor) ? 'q6_k' : 'q4_k'),
  'q4_0 with the embedding in q6_k': (tensor) => (tensor.includes('token_embd') ? 'q6_k' : 'q4_0'),
};
for (const format of Object.keys(types) as WeightFormat[]) mixtures[format] = () => format;

const WIDTH = 256;
const shapes: Record<string, readonly number[]> = {
  'token_embd.weight': [300, WIDTH],
  'output_norm.weight': [WIDTH],
  'blk.0.attn_norm.weight': [WIDTH],
  'blk.0.attn_q.weight': [WIDTH, WIDTH],
  'blk.0.attn_k.weight': [WIDTH, WIDTH],
  'blk.0.attn_v.weight': [WIDTH, WIDTH],
  'blk.0.attn_output.weight': [WIDTH, WIDTH],
  'blk.0.ffn_norm.weight': [WIDTH],
  'blk.0.ffn_gate.weight': [1280, WIDTH],
  'blk.0.ffn_up.weight': [1280, WIDTH],
  'blk.0.ffn_down.weight': [WIDTH, 1280],
};

function modelFile(name: string, formatOf: (tensor: string) => WeightFormat): string {
  const tensors: GgufFileTensor[] = Object.entries(shapes).map(([tensor, shape], i) => {
    const columns = shape[1] ?? 1;
    const values = normals(i + 1, shape[0] * columns, shape.length === 1 ? 0.1 : columns ** -0.5);
    if (shape.length === 1) return { name: tensor, shape, type: 0, bytes: f32Bytes(values.map((x) => x + 1)) };
    const format = formatOf(tensor);
    return { name: tensor, shape, type: types[format] ?? 0, bytes: weightFormats[format].quantize(values) };
  });
  const metadata = {
    'general.architecture': ['string', 'llama'],
    'llama.context_length': ['u32', 128],
    'llama.embedding_length': ['u32', WIDTH],
    'llama.block_count': ['u32', 1],
    'llama.feed_forward_length': ['u32', 1280],
    'llama.attention.head_count': ['u32', 4],
    'llama.attention.head_count_kv': ['u32', 4],
    'llama.attention.layer_norm_rms_epsilon': ['f32', 1e-5],
    'llama.vocab_size': ['u32', 300],
  } as const;
  const path = join(folder, `${name.replaceAll(' ', '-')}.gguf`);
  writeFileSync(path, ggufBytes({ metadata, tensors }));
  return path;
}

const prompt = Array.from({ length: 70 }, (_, i) => (i * 37) % 300);

async function logitsOf(backend: Parameters<typeof SoloRequest.open>[0], path: string, activation: 'auto' | 'float'): Promise<Float32Array> {
  const { plan, source } = loadModel(path, 'auto', activation);
  const request = await SoloRequest.open(backend, plan(), source, prompt.length + 1);
  const logits = [...(await request.feed(prompt)), ...(await request.feed([5]))];
  request.close();
  source.close();
  return Float32Array.from(logits);
}

for (const { label, create } of testedBackends.filter((backend) => backend.label !== 'reference')) {
  test.each(Object.keys(mixtures))(`a GGUF file of %s has the reference's logits, ${label}`, { timeout: BUILD_TIMEOUT_MS }, async (name) => {
    const backend = await create();
    if (backend === null) return;
    const path = modelFile(name, mixtures[name]);
    // floats differ by rounding only; 8-bit activations may tip over to the next step now and then
    for (const [activation, tolerance] of [
      ['float', 1e-5],
      ['auto', 0.02],
    ] as const) {
      const expected = await logitsOf(new ReferenceBackend(), path, activation);
      const actual = await logitsOf(backend, path, activation);
      const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      expect(largest).toBeGreaterThan(0.1);
      let worst = 0;
      for (let i = 0; i < expected.length; i++) worst = Math.max(worst, Math.abs(actual[i] - expected[i]));
      expect(worst / largest, activation).toBeLessThan(tolerance);
    }
    await backend.close();
  });
}
