/**
 * Golden encoders rewritten as GGUF files the way llama.cpp's converter writes them (positions without those that RoBERTa skips, no pooler) must give
 * the hidden states of their safetensors.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { Encoder } from '../../src/engine/encoder.ts';
import { describeEncoder, describeRemote } from '../../src/engine/inspect.ts';
import { loadEngine } from '../../src/engine/load.ts';
import { readTensor } from '../../src/quant/read-tensor.ts';
import { SafetensorsSource } from '../../src/weights/safetensors.ts';
import type { WeightSource } from '../../src/weights/weight-source.ts';
import { f32Bytes, type GgufEntry, type GgufFileTensor, ggufBytes, writeFile } from '../fixtures/checkpoint-files.ts';
import { HubServer } from '../fixtures/hub-server.ts';

const scratch = mkdtempSync(join(tmpdir(), 'millrace-gguf-encoders-'));
afterAll(() => rmSync(scratch, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

const folderOf = (name: string) => join(import.meta.dirname, name);
const options = { backend: 'reference', dtype: 'float32' } as const;

/** Names as `gguf.TensorNameMap` of the gguf package gives them. */
const words: readonly (readonly [RegExp, string])[] = [
  [/^embeddings\.(?:word|tok)_embeddings$/, 'token_embd'],
  [/^embeddings\.position_embeddings$/, 'position_embd'],
  [/^embeddings\.token_type_embeddings$/, 'token_types'],
  [/^(?:embeddings\.(?:LayerNorm|norm)|emb_ln)$/, 'token_embd_norm'],
  [/^final_norm$/, 'output_norm'],
  [/attention\.self\.query$/, 'attn_q'],
  [/attention\.self\.key$/, 'attn_k'],
  [/attention\.self\.value$/, 'attn_v'],
  [/attn\.Wqkv$/, 'attn_qkv'],
  [/(?:attention\.output\.dense|attn\.Wo|attn\.out_proj)$/, 'attn_output'],
  [/(?:attention\.output\.LayerNorm|norm1)$/, 'attn_output_norm'],
  [/attn_norm$/, 'attn_norm'],
  [/mlp_norm$/, 'ffn_norm'],
  [/(?:intermediate\.dense|mlp\.Wi|mlp\.fc11)$/, 'ffn_up'],
  [/mlp\.fc12$/, 'ffn_gate'],
  [/(?:output\.dense|mlp\.Wo|mlp\.fc2)$/, 'ffn_down'],
  [/(?:output\.LayerNorm|norm2)$/, 'layer_output_norm'],
];

interface Case {
  readonly name: string;
  readonly architecture: string;
  /** Rows of positions that the converter cuts. */
  readonly skipped: number;
  readonly extra: Readonly<Record<string, GgufEntry>>;
}

const cases: readonly Case[] = [
  { name: 'bert', architecture: 'bert', skipped: 0, extra: { 'attention.layer_norm_epsilon': ['f32', 1e-12], pooling_type: ['u32', 2] } },
  { name: 'roberta', architecture: 'bert', skipped: 2, extra: { 'attention.layer_norm_epsilon': ['f32', 1e-5] } },
  { name: 'xlm-roberta', architecture: 'bert', skipped: 2, extra: { 'attention.layer_norm_epsilon': ['f32', 1e-5], pooling_type: ['u32', 1] } },
  {
    name: 'nomic-bert',
    architecture: 'nomic-bert',
    skipped: 0,
    extra: { 'attention.layer_norm_epsilon': ['f32', 1e-12], 'rope.freq_base': ['f32', 1000], pooling_type: ['u32', 1] },
  },
  {
    name: 'modernbert',
    architecture: 'modern-bert',
    skipped: 0,
    extra: {
      'attention.layer_norm_epsilon': ['f32', 1e-5],
      'attention.sliding_window': ['u32', 16],
      'attention.sliding_window_pattern': ['u32', 3],
      'rope.freq_base': ['f32', 160_000],
      'rope.freq_base_swa': ['f32', 10_000],
      hidden_activation: ['string', 'gelu'],
    },
  },
];

/** Words of pieces as converters write those of WordPiece, the first 13 with their marks. */
const vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '▁the', '▁mill', '▁wheel', '▁turns', 's', '▁.', 'ing', '▁a'];

function bytesOf({ name, architecture, skipped, extra }: Case, withTokenizer = false): Uint8Array {
  const source: WeightSource = SafetensorsSource.openFile(join(folderOf(name), 'model.safetensors'));
  const tensors = [...source.names()].flatMap((full): GgufFileTensor[] => {
    const [, stem, kind] = /^(?:roberta\.)?(.*)\.(weight|bias)$/.exec(full)!;
    const word = words.find(([pattern]) => pattern.test(stem))?.[1];
    if (word === undefined || stem.startsWith('lm_head')) return [];
    const tensor = source.find(full)!;
    const [rows, ...rest] = tensor.shape;
    let [shape, values] = [tensor.shape, readTensor(source, tensor)];
    if (word === 'position_embd') [shape, values] = [[rows - skipped, ...rest], values.slice(skipped * rest[0])];
    // as tools write it that drop dimensions of one
    if (word === 'token_types' && rows === 1) shape = rest;
    const layer = /layers?\.(\d+)\./.exec(stem)?.[1];
    return [{ name: `${layer === undefined ? '' : `blk.${layer}.`}${word}.${kind}`, shape, bytes: f32Bytes(values), type: 0 }];
  });
  source.close();
  const tokens = Array.from({ length: 300 }, (_, id) => vocabulary[id] ?? `▁w${id}`);
  const tokenizer: Record<string, GgufEntry> = {
    'tokenizer.ggml.model': ['string', 'bert'],
    'tokenizer.ggml.tokens': ['array', tokens, 'string'],
    'tokenizer.ggml.token_type': ['array', tokens.map((_, id) => (id < 5 ? 3 : 1)), 'i32'],
    'tokenizer.ggml.cls_token_id': ['u32', 2],
    'tokenizer.ggml.seperator_token_id': ['u32', 3],
  };
  const common: Record<string, GgufEntry> = {
    block_count: ['u32', 4],
    context_length: ['u32', name === 'modernbert' || name === 'nomic-bert' ? 128 : 64],
    embedding_length: ['u32', 64],
    feed_forward_length: ['u32', 96],
    'attention.head_count': ['u32', 4],
    'attention.causal': ['bool', false],
    ...extra,
  };
  const own = Object.fromEntries(Object.entries(common).map(([key, entry]) => [`${architecture}.${key}`, entry]));
  return ggufBytes({ metadata: { 'general.architecture': ['string', architecture], ...own, ...(withTokenizer ? tokenizer : {}) }, tensors });
}

const write = (given: Case, withTokenizer = false) => writeFile(join(scratch, `${given.name}-${withTokenizer}.gguf`), bytesOf(given, withTokenizer));

test.each(cases)('$name as a GGUF file has the hidden states of its safetensors', async (given) => {
  const { texts } = JSON.parse(readFileSync(join(folderOf(given.name), 'hidden.json'), 'utf8')) as { texts: { ids: number[]; types: number[] }[] };
  await using original = await Encoder.load({ ...options, model: folderOf(given.name) });
  await using converted = await Encoder.load({ ...options, model: write(given) });
  const [ids, types] = [texts.map((text) => text.ids), texts.map((text) => text.types)];
  const expected = await original.encode(ids, types);
  const actual = await converted.encode(ids, types);
  const worst = Math.max(...expected.flatMap((states, i) => [...states].map((x, j) => Math.abs(x - actual[i][j]))));
  // the file's epsilon and bases are single numbers
  expect(worst).toBeLessThan(1e-5);
  expect(converted.info).toMatchObject({ maxTokens: original.info.maxTokens, vocabSize: 300, hiddenSize: 64 });
});

test('the file says how a text becomes a vector, and holds the tokenizer', async () => {
  await using encoder = await Encoder.load({ ...options, model: write(cases[0], true) });
  expect(encoder.info.pooling).toEqual({ pooling: 'cls', normalize: false });
  const [ofText] = await encoder.embed(['The mill wheels turns.']);
  const [ofIds] = await encoder.embed([[2, 5, 6, 7, 9, 8, 10, 3]]);
  expect(ofText).toEqual(ofIds);
});

test('it is refused where text is to be generated, described by inspect, and named when it is damaged', async () => {
  const path = write(cases[4]);
  await expect(loadEngine({ model: path, backend: 'reference' })).rejects.toMatchObject({ code: 'MODEL_CANNOT_GENERATE' });
  const description = await describeEncoder({ model: path, backend: 'reference' });
  expect(description?.model).toMatchObject({ architecture: 'ModernBertModel', numParameters: 159_040 });
  const cut = writeFile(join(scratch, 'cut.gguf'), readFileSync(path).subarray(0, 2000));
  await expect(Encoder.load({ ...options, model: cut })).rejects.toMatchObject({ code: 'WEIGHTS_FILE_INVALID' });
  const headless = { ...cases[0], extra: { ...cases[0].extra, 'attention.head_count': ['string', 'four'] as const } };
  await expect(Encoder.load({ ...options, model: write(headless) })).rejects.toMatchObject({ code: 'MODEL_CONFIG_INVALID' });
});

test('an encoder is loaded by its hub name, as folder and as GGUF file, and described without its weights', async () => {
  const hub = await HubServer.start();
  try {
    const large = (bytes: Uint8Array) => ({ bytes: Buffer.from(bytes), large: true });
    hub.publish('org/encoder', {
      'config.json': readFileSync(join(folderOf('bert'), 'config.json'), 'utf8'),
      'model.safetensors': large(readFileSync(join(folderOf('bert'), 'model.safetensors'))),
      'bert-f32.gguf': large(bytesOf(cases[0])),
    });
    vi.stubEnv('HF_ENDPOINT', hub.url);
    vi.stubEnv('HF_HOME', join(scratch, 'home'));
    for (const model of ['org/encoder', 'org/encoder:bert-f32.gguf']) {
      const description = await describeRemote({ ...options, model });
      expect(description?.model).toMatchObject({ architecture: 'BertModel', servedNames: [model], vocabSize: 300 });
      expect(description?.describe().memory.weightBytes).toBeGreaterThan(200_000);
      await using encoder = await Encoder.load({ ...options, model });
      expect(await encoder.embed([[5, 9, 200]], { pooling: 'mean' })).toHaveLength(1);
      // from the cache now
      expect((await describeRemote({ ...options, model }))?.model).toMatchObject({ architecture: 'BertModel' });
    }
  } finally {
    await hub.close();
  }
});
