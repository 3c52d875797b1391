import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type FileTensor, f32Bytes, type GgufFileTensor, ggufBytes, safetensorsBytes } from '../../test/fixtures/checkpoint-files.ts';
import { NullBackend } from '../backends/null/null-backend.ts';
import type { MillraceError } from '../base/errors.ts';
import { characterOfByte } from '../tokenizer/byte-alphabet.ts';
import type { LoadOptions } from './config.ts';
import { type LoadHooks, loadEngine } from './load.ts';
import { openModel } from './open-model.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace open '));
afterAll(() => rmSync(folder, { recursive: true }));

const config = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 300,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  tie_word_embeddings: false,
};

function folderWith(files: Record<string, unknown>): string {
  const path = mkdtempSync(join(folder, 'model-'));
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(path, name), content instanceof Uint8Array ? content : JSON.stringify(content));
  return path;
}

const NVFP4 = 40;
const Q8_K = 15;
const shapes: Readonly<Record<string, readonly number[]>> = {
  'token_embd.weight': [256, 256],
  'output_norm.weight': [256],
  'output.weight': [256, 256],
  'blk.0.attn_norm.weight': [256],
  'blk.0.attn_q.weight': [256, 256],
  'blk.0.attn_k.weight': [256, 256],
  'blk.0.attn_v.weight': [256, 256],
  'blk.0.attn_output.weight': [256, 256],
  'blk.0.ffn_norm.weight': [256],
  'blk.0.ffn_gate.weight': [256, 256],
  'blk.0.ffn_up.weight': [256, 256],
  'blk.0.ffn_down.weight': [256, 256],
};

/** A whole small model whose matrices are in the types given, F32 where none is. */
function gguf(types: (tensor: string) => number = () => 0): Uint8Array {
  const tensors: GgufFileTensor[] = Object.entries(shapes).map(([name, shape]) => {
    const type = shape.length === 1 ? 0 : types(name);
    const elements = shape.reduce((a, b) => a * b, 1);
    const bytes = type === 0 ? f32Bytes(new Float32Array(elements).fill(0.01)) : new Uint8Array((elements / 256) * (type === NVFP4 ? 144 : 292));
    return { name, shape, type, bytes };
  });
  const metadata = {
    'general.architecture': ['string', 'llama'],
    'llama.context_length': ['u32', 128],
    'llama.embedding_length': ['u32', 256],
    'llama.block_count': ['u32', 1],
    'llama.feed_forward_length': ['u32', 256],
    'llama.attention.head_count': ['u32', 4],
    'llama.attention.head_count_kv': ['u32', 4],
    'llama.attention.layer_norm_rms_epsilon': ['f32', 1e-5],
    'tokenizer.ggml.model': ['string', 'gpt2'],
    'tokenizer.ggml.pre': ['string', 'gpt-2'],
    'tokenizer.ggml.tokens': ['array', [...characterOfByte.slice(0, 254), '<|im_end|>', '<|endoftext|>'], 'string'],
    'tokenizer.ggml.token_type': ['array', [...characterOfByte].map((_, id) => (id < 254 ? 1 : 3)), 'i32'],
    'tokenizer.ggml.merges': ['array', ['a b'], 'string'],
    'tokenizer.ggml.eos_token_id': ['u32', 254],
  } as const;
  return ggufBytes({ metadata, tensors });
}

function ggufFile(types?: (tensor: string) => number): string {
  const path = join(mkdtempSync(join(folder, 'gguf-')), 'model.gguf');
  writeFileSync(path, gguf(types));
  return path;
}

async function failure(options: LoadOptions, hooks: LoadHooks = {}): Promise<MillraceError> {
  const loaded = loadEngine(options, { backend: new NullBackend(), ...hooks });
  return loaded.then(
    () => expect.unreachable('it loaded'),
    (error: unknown) => error as MillraceError,
  );
}

test.each([
  ['torch_dtype', { torch_dtype: 'float16' }],
  ['dtype', { dtype: 'float16' }],
  ['torch_dtype of the text part', { text_config: { torch_dtype: 'float16' } }],
  ['dtype of the text part', { text_config: { dtype: 'float16' } }],
])('random weights come in the format that %s announces', async (_, announced) => {
  const path = folderWith({ 'config.json': { ...config, ...announced } });
  expect(openModel(path, true).announcedDtype).toBe('float16');
  await using engine = await loadEngine({ model: path, loadFormat: 'dummy' }, { backend: new NullBackend() });
  expect(
    new Set(
      engine
        .describe()
        .plan.weights.filter(({ shape }) => shape.length === 2)
        .map(({ format }) => format),
    ),
  ).toEqual(new Set(['f16']));
});

describe('number formats that are not read', () => {
  test('are all named in one error, the output head and the embedding among them', async () => {
    const error = await failure({ model: ggufFile((name) => (name === 'output.weight' ? Q8_K : NVFP4)) });
    expect(error.code).toBe('WEIGHTS_FORMAT_UNSUPPORTED');
    expect(error.message).toContain('9 of 12 tensors');
    for (const name of ['embed_tokens', 'q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'])
      expect(error.message).toMatch(new RegExp(`${name}\\.weight is stored as NVFP4`));
    expect(error.message).toContain('lm_head.weight is stored as Q8_K');
  });

  test('do not make a model share its embedding when only its output head is in one', async () => {
    const error = await failure({ model: ggufFile((name) => (name === 'output.weight' ? Q8_K : 0)) });
    expect(error.code).toBe('WEIGHTS_FORMAT_UNSUPPORTED');
    expect(error.message).toContain('1 of 12 tensors');
  });

  test('of safetensors are named in one error as well', async () => {
    const tensor = (name: string, shape: readonly number[]): FileTensor => ({ name, shape, bytes: new Uint8Array(shape.reduce((a, b) => a * b, 1)) });
    const bytes = safetensorsBytes([tensor('model.embed_tokens.weight', [300, 64]), tensor('lm_head.weight', [300, 64])], 'F8_E4M3');
    const error = await failure({ model: folderWith({ 'config.json': config, 'model.safetensors': bytes }) });
    expect(error.message).toMatch(/embed_tokens\.weight is stored as F8_E4M3.*lm_head\.weight is stored as F8_E4M3/);
  });
});

test('a generation of a GGUF model ends at the end tokens that its metadata name', async () => {
  await using engine = await loadEngine({ model: ggufFile() }, { backend: new NullBackend() });
  // the one named, and the other control token that ends a text in its family
  expect(engine.tokenizer.eosTokenIds).toEqual([254, 255]);
});

describe.skipIf(process.platform !== 'linux')('a load that fails leaves no file open', () => {
  /** Descriptors that the process has open. */
  const numOpenFiles = () => readdirSync('/proc/self/fd').length;
  const cases: readonly (readonly [what: string, model: () => string, hooks: LoadHooks])[] = [
    ['unread formats', () => ggufFile(() => NVFP4), {}],
    ['a metadata key that is missing', () => damaged('llama.block_count', 'llama.block_xxxxx'), {}],
    ['an unknown architecture', () => damaged('general.architecture', 'general.architectury'), {}],
    ['a tokenizer that is not read', () => damaged('gpt2', 'none'), {}],
    ['a cut-off file', () => cutOff(), {}],
    ['missing tensors', () => folderWith({ 'config.json': config, 'model.safetensors': safetensorsBytes([]) }), {}],
    [
      'a configuration that makes no model',
      () => folderWith({ 'config.json': { architectures: ['Nonsense'] }, 'model.safetensors': safetensorsBytes([]) }),
      {},
    ],
    [
      'a machine that is too small',
      () => ggufFile(),
      { machine: { numCpus: 1, totalMemoryBytes: 2 ** 28, availableMemoryBytes: 2 ** 27, reasons: [] } },
    ],
    ['a caller who has left', () => ggufFile(), { signal: AbortSignal.abort() }],
  ];

  function damaged(from: string, to: string): string {
    const path = join(mkdtempSync(join(folder, 'damaged-')), 'model.gguf');
    const bytes = Buffer.from(gguf());
    const at = bytes.indexOf(from);
    expect(at).toBeGreaterThan(0);
    bytes.write(to, at);
    writeFileSync(path, bytes);
    return path;
  }

  function cutOff(): string {
    const path = join(mkdtempSync(join(folder, 'cut-')), 'model.gguf');
    writeFileSync(path, gguf().subarray(0, 100_000));
    return path;
  }

  test.each(cases)('%s', async (_, model, hooks) => {
    const path = model();
    await failure({ model: path }, hooks); // what is opened once and kept, such as modules, is open now
    const before = numOpenFiles();
    for (let i = 0; i < 3; i++) await failure({ model: path }, hooks);
    expect(numOpenFiles()).toBe(before);
  });
});
