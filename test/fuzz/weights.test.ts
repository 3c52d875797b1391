/** Damaged and hostile checkpoints: whatever the bytes, a file opens and reads, or is refused with one of our errors, in bounded memory. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { MillraceError } from '../../src/base/errors.ts';
import { familyFor, ggufToHf, readModel } from '../../src/models/index.ts';
import { GgufFile } from '../../src/weights/gguf.ts';
import { SafetensorsSource } from '../../src/weights/safetensors.ts';
import type { WeightSource } from '../../src/weights/weight-source.ts';
import { f32Bytes, type GgufEntry, ggufBytes, safetensorsBytes, writeFile } from '../fixtures/checkpoint-files.ts';
import { mutateBytes, randomNumbers } from './mutate.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Each writes a file. */
const FILE_ROUNDS = 800;
const CONFIG_ROUNDS = 2500;

/** Reads everything that a file claims to hold. */
function readAll(source: WeightSource): void {
  for (const name of source.names()) {
    const tensor = source.find(name)!;
    expect(source.read(tensor).length).toBe(tensor.sizeBytes);
  }
}

function survives(original: Uint8Array, headerBytes: number, seed: number, open: (path: string) => void): { opened: number; refused: number } {
  const random = randomNumbers(seed);
  const result = { opened: 0, refused: 0 };
  for (let round = 0; round < FILE_ROUNDS; round++) {
    const bytes = mutateBytes(original, headerBytes, random);
    const path = writeFile(join(folder, 'mutated'), bytes);
    try {
      open(path);
      result.opened++;
    } catch (error) {
      if (!(error instanceof MillraceError))
        throw new Error(`round ${round}, seed ${seed}: ${String(error)}\n${bytes.subarray(0, 400).toString('hex')}`, { cause: error });
      expect(error.code).not.toBe('INTERNAL');
      expect(error.message.length).toBeLessThan(3000);
      result.refused++;
    }
  }
  return result;
}

const tensors = [
  { name: 'token_embd.weight', shape: [16, 8], bytes: f32Bytes(Array(128).fill(1)), type: 0 },
  { name: 'output_norm.weight', shape: [8], bytes: f32Bytes(Array(8).fill(1)), type: 0 },
  { name: 'blk.0.attn_q.weight', shape: [8, 32], bytes: new Uint8Array(8 * 34), type: 8 },
];

test('mutated safetensors files', () => {
  const original = safetensorsBytes(tensors.slice(0, 2));
  const before = process.memoryUsage();
  const { opened, refused } = survives(original, original.length - 128 * 4 - 8 * 4, 1, (path) => {
    const source = SafetensorsSource.openFile(path);
    try {
      readAll(source);
    } finally {
      source.close();
    }
  });
  expect(process.memoryUsage().heapUsed - before.heapUsed).toBeLessThan(200 << 20);
  // the mutations are of both kinds, or they test nothing
  expect(opened).toBeGreaterThan(10);
  expect(refused).toBeGreaterThan(FILE_ROUNDS / 2);
});

test('mutated GGUF files, through to the configuration', () => {
  const number = (key: string, value: number): [string, GgufEntry] => [`llama.${key}`, ['u32', value]];
  const metadata = Object.fromEntries<GgufEntry>([
    ['general.architecture', ['string', 'llama']],
    number('block_count', 1),
    number('embedding_length', 8),
    number('feed_forward_length', 16),
    number('attention.head_count', 2),
    number('attention.head_count_kv', 1),
    number('context_length', 64),
    ['llama.attention.layer_norm_rms_epsilon', ['f32', 1e-5]],
    ['tokenizer.ggml.tokens', ['array', ['<s>', 'a', 'b'], 'string']],
    ['tokenizer.ggml.scores', ['array', [0, 1, 2], 'f32']],
    ['nested', ['array', [[1], [2]], 'array']],
  ]);
  const original = ggufBytes({ metadata, tensors });
  const before = process.memoryUsage();
  const { opened, refused } = survives(original, original.length - 600, 2, (path) => {
    const file = GgufFile.open(path);
    try {
      const { config, translate } = ggufToHf(file);
      readModel(config);
      readAll(file.source(translate));
    } finally {
      file.close();
    }
  });
  expect(process.memoryUsage().heapUsed - before.heapUsed).toBeLessThan(200 << 20);
  expect(opened).toBeGreaterThan(10);
  expect(refused).toBeGreaterThan(FILE_ROUNDS / 2);
});

test('configurations with random values are planned or refused', () => {
  const random = randomNumbers(3);
  const values = [
    0,
    1,
    2,
    3,
    4,
    8,
    16,
    32,
    -1,
    0.5,
    1e9,
    1e300,
    Number.NaN,
    null,
    'x',
    '',
    true,
    false,
    [],
    [1],
    {},
    { rope_type: 'yarn', factor: 4 },
    { type: 'linear' },
  ];
  const fields = [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'max_position_embeddings',
    'rms_norm_eps',
    'rope_theta',
    'rope_scaling',
    'rope_parameters',
    'sliding_window',
    'sliding_window_pattern',
    'use_sliding_window',
    'max_window_layers',
    'layer_types',
    'hidden_act',
    'hidden_activation',
    'attention_bias',
    'tie_word_embeddings',
    'query_pre_attn_scalar',
    'final_logit_softcapping',
    'text_config',
    'quantization_config',
    'partial_rotary_factor',
  ];
  const architectures = ['LlamaForCausalLM', 'MistralForCausalLM', 'Qwen2ForCausalLM', 'Qwen3ForCausalLM', 'Gemma2ForCausalLM', 'Gemma3ForCausalLM'];
  let planned = 0;
  for (let round = 0; round < CONFIG_ROUNDS; round++) {
    const config: Record<string, unknown> = {
      vocab_size: 32,
      hidden_size: 16,
      intermediate_size: 32,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      max_position_embeddings: 64,
    };
    config.architectures = [architectures[random(architectures.length)]];
    for (let changes = random(4); changes > 0; changes--) config[fields[random(fields.length)]] = values[random(values.length)];
    try {
      expect(familyFor(config).architectures).toContain((config.architectures as string[])[0]);
      readModel(config).build({ formatOf: () => 'f32', activationFor: () => 'f32' });
      planned++;
    } catch (error) {
      if (!(error instanceof MillraceError) || error.code === 'INTERNAL' || error.code === 'PLAN_INVALID')
        throw new Error(JSON.stringify(config), { cause: error });
    }
  }
  expect(planned).toBeGreaterThan(500);
  expect(planned).toBeLessThan(CONFIG_ROUNDS - 500);
});
