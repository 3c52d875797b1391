/** Goldens of every family to GGUF and back: the same numbers, the same logits. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { loadModel, SoloRequest } from '../../test/drive-backend.ts';
import { HubServer } from '../../test/fixtures/hub-server.ts';
import { ReferenceBackend } from '../backends/reference/reference-backend.ts';
import { openModel } from '../engine/open-model.ts';
import { activationFor } from '../models/activation.ts';
import { convertModel } from './convert.ts';
import { writeSafetensors } from './safetensors-writer.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-convert-gguf-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const goldens = join(import.meta.dirname, '..', '..', 'test', 'golden');
const reference = new ReferenceBackend();
const prompt = Array.from({ length: 12 }, (_, i) => 3 + ((i * 7) % 50));

async function run(path: string) {
  const { source, model } = loadModel(path);
  const plan = model.build({
    formatOf: (tensor) => source.find(tensor)?.format ?? 'f32',
    activationFor: (format, width) => activationFor(format, width, 'float32', 'float'),
    columnOrderOf: (tensor) => source.find(tensor)?.columnOrder,
  });
  const request = await SoloRequest.open(reference, plan, source, prompt.length);
  const logits = (await request.feed(prompt)).slice();
  request.close();
  source.close();
  return { logits, formats: plan.weights.map(({ format }) => format) };
}

/** Without what files of the family cannot say. */
function sayable(name: string): string {
  const dropped: Record<string, Record<string, unknown>> = {
    gemma2: { query_pre_attn_scalar: 'head_dim' },
    gemma3: { query_pre_attn_scalar: 'head_dim', layer_types: undefined },
    gpt2: { scale_attn_by_inverse_layer_idx: false },
    mixtral: { sliding_window: null },
  };
  const from = join(goldens, name);
  if (dropped[name] === undefined) return from;
  const to = join(folder, `${name}-sayable`);
  mkdirSync(to, { recursive: true });
  const config = JSON.parse(readFileSync(join(from, 'config.json'), 'utf8')) as Record<string, unknown>;
  const changes = Object.entries(dropped[name]).map(([key, value]) => [key, value === 'head_dim' ? config.head_dim : value]);
  writeFileSync(join(to, 'config.json'), JSON.stringify({ ...config, ...Object.fromEntries(changes) }));
  copyFileSync(join(from, 'model.safetensors'), join(to, 'model.safetensors'));
  return to;
}

const families = [
  'llama-llama3',
  'llama-yarn',
  'llama-linear-bf16',
  'qwen2',
  'qwen3',
  'gemma2',
  'gemma3',
  'phi3',
  'chatglm',
  'gpt-neox',
  'bloom',
  'falcon-7b',
  'falcon-40b',
  'baichuan-7b',
  'baichuan-13b',
  'starcoder2',
  'gpt2',
  'internlm2',
  'smollm3',
  'olmo2',
  'granite',
  'mixtral',
  'qwen2-moe',
  'qwen3-moe',
  'gpt-oss',
  'gpt-oss-mxfp4',
  'glm4-moe',
  'olmoe',
  'granite-moe',
  'glm4',
];

test.each(families)('%s as GGUF has its logits, and so has the folder made of that', async (name) => {
  const from = sayable(name);
  const file = join(folder, `${name}.gguf`);
  await convertModel(from, file, { to: 'gguf', quantize: 'none' });
  const before = await run(from);
  const after = await run(file);
  let worst = 0;
  before.logits.forEach((x, i) => {
    worst = Math.max(worst, Math.abs(x - after.logits[i]));
  });
  expect(worst).toBeLessThan(2e-3);
  if (!name.startsWith('gemma') && name !== 'llama-llama3') expect(worst).toBe(0);
  if (name === 'gpt-oss-mxfp4') return;
  const back = join(folder, `${name}-back`);
  await convertModel(file, back, { quantize: 'none' });
  const again = await run(back);
  expect(again.logits).toEqual(after.logits);
});

test('what a file cannot say is refused, and the reason is given', async () => {
  const cases: [string, RegExp, string][] = [
    ['gemma3', /would differ in/, 'MODEL_CONFIG_INVALID'],
    ['mixtral', /would differ in the attention windows|would differ in layers/, 'MODEL_CONFIG_INVALID'],
    ['deepseek-v3', /deepseek/, 'MODEL_ARCHITECTURE_UNKNOWN'],
    ['quantized/gptq-4bit-g32-asym-act-order', /act-order/, 'WEIGHTS_FORMAT_UNSUPPORTED'],
  ];
  for (const [name, message, code] of cases) {
    const target = join(folder, 'never.gguf');
    await expect(convertModel(join(goldens, name), target, { to: 'gguf', quantize: 'none' }), name).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
    expect(existsSync(target)).toBe(false);
  }
});

test.each([
  ['q8_0', 'int8'],
  ['q4_0', 'int4'],
] as const)('a GGUF file in %s keeps its numbers as a folder, and as a file again', async (format, quantize) => {
  const file = join(folder, `qwen3-${format}.gguf`);
  const result = await convertModel(join(goldens, 'qwen3'), file, { to: 'gguf', quantize });
  expect(result.formats).toMatchObject({ [format]: expect.any(Number) });
  const before = await run(file);
  for (const [target, to] of [
    [join(folder, `qwen3-${format}`), 'safetensors'],
    [join(folder, `qwen3-${format}-again.gguf`), 'gguf'],
  ] as const) {
    await convertModel(file, target, { to, quantize: 'none' });
    const after = await run(target);
    expect(after.formats).toEqual(before.formats);
    expect(after.logits).toEqual(before.logits);
  }
});

test('numbers that the target has no place for are widened only when asked, exactly as float32', async () => {
  const file = join(folder, 'mxfp4-back.gguf');
  await convertModel(join(goldens, 'gpt-oss-mxfp4'), file, { to: 'gguf', quantize: 'none' });
  const folderOfIt = join(folder, 'gpt-oss-wide');
  await expect(convertModel(file, folderOfIt, { quantize: 'none' })).rejects.toMatchObject({
    code: 'WEIGHTS_FORMAT_UNSUPPORTED',
    received: 'mxfp4',
    hint: expect.stringContaining('--dtype'),
  });
  await convertModel(file, folderOfIt, { quantize: 'none', dtype: 'f32' });
  expect((await run(folderOfIt)).logits).toEqual((await run(file)).logits);
  const nf4 = join(goldens, 'quantized', 'bnb-nf4');
  for (const [target, to] of [
    [join(folder, 'nf4-wide'), 'safetensors'],
    [join(folder, 'nf4-wide.gguf'), 'gguf'],
  ] as const) {
    await expect(convertModel(nf4, target, { to, quantize: 'none' })).rejects.toMatchObject({ code: 'WEIGHTS_FORMAT_UNSUPPORTED', received: 'nf4' });
    await convertModel(nf4, target, { to, quantize: 'none', dtype: 'f32' });
    expect((await run(target)).logits).toEqual((await run(nf4)).logits);
  }
});

/** A golden with a tokenizer, for whose tokens its embedding is made longer. */
async function withTokenizer(): Promise<string> {
  const to = join(folder, 'with-tokenizer');
  mkdirSync(to);
  const tokenizers = join(goldens, '..', 'fixtures', 'tokenizers', 'byte-level');
  const settings = JSON.parse(readFileSync(join(tokenizers, 'tokenizer_config.json'), 'utf8')) as object;
  copyFileSync(join(tokenizers, 'tokenizer.json'), join(to, 'tokenizer.json'));
  const template =
    "{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>{% endfor %}{{ '<|im_start|>' if add_generation_prompt }}";
  writeFileSync(join(to, 'tokenizer_config.json'), JSON.stringify({ ...settings, chat_template: template }));
  const config = JSON.parse(readFileSync(join(goldens, 'qwen2', 'config.json'), 'utf8')) as object;
  writeFileSync(join(to, 'config.json'), JSON.stringify({ ...config, vocab_size: 710, eos_token_id: [702, 701], bos_token_id: 700 }));
  const { source } = loadModel(join(goldens, 'qwen2'));
  const groups = [...source.names()].map((name) => {
    const { shape, sizeBytes, ...stored } = source.find(name)!;
    const rows = /embed_tokens|lm_head/.test(name) ? 710 : shape[0];
    const bytes = Buffer.alloc((sizeBytes / shape[0]) * rows, source.read({ ...stored, shape, sizeBytes }));
    const dtype = 'F32' as const;
    return { tensors: [{ name, dtype, shape: [rows, ...shape.slice(1)], sizeBytes: bytes.length }], produce: () => [bytes] };
  });
  await writeSafetensors(join(to, 'model.safetensors'), groups);
  source.close();
  return to;
}

test('tokenizer, end tokens and chat template go into a GGUF file, out again and in again', async () => {
  const from = await withTokenizer();
  const paths = [join(folder, 'whole.gguf'), join(folder, 'whole'), join(folder, 'whole-again.gguf')];
  await convertModel(from, paths[0], { to: 'gguf', quantize: 'none' });
  await convertModel(paths[0], paths[1], { quantize: 'none' });
  await convertModel(paths[1], paths[2], { to: 'gguf', quantize: 'none' });
  const text = "It's 2024,  and naïve 日本 texts\n\n\tare <b>read</b> alike 🙂.<|im_end|>";
  const read = async (path: string) => {
    const opened = openModel(path, false);
    const tokenizer = await opened.loadTokenizer();
    const template = await opened.loadChatTemplate(tokenizer);
    opened.close();
    return {
      ids: tokenizer.encode(text, { addSpecialTokens: true, parseSpecial: true }),
      eosTokenIds: new Set([...tokenizer.eosTokenIds, ...opened.eosTokenIds]),
      prompt: template?.render([{ role: 'user', content: 'Hi' }], { addGenerationPrompt: true }),
    };
  };
  const original = await read(from);
  expect(original.prompt).toContain('Hi');
  for (const path of paths) expect(await read(path)).toEqual(original);
});

test('being stopped leaves nothing behind', async () => {
  for (const [name, to] of [
    ['stopped.gguf', 'gguf'],
    ['stopped', 'safetensors'],
  ] as const) {
    const stop = new AbortController();
    const where = join(folder, 'place', name);
    const onProgress = () => stop.abort(new Error('stopped by hand'));
    await expect(convertModel(join(goldens, 'qwen2'), where, { to, quantize: 'none', signal: stop.signal, onProgress })).rejects.toThrow('by hand');
  }
  expect(readdirSync(join(folder, 'place'))).toEqual([]);
});

test('a target whose name says otherwise is refused', async () => {
  await expect(convertModel(join(goldens, 'qwen2'), join(folder, 'x.gguf'), { quantize: 'none' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  await expect(convertModel(join(goldens, 'qwen2'), join(folder, 'x'), { to: 'gguf', quantize: 'none' })).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
});

test('a model is fetched by its name on the hub', async () => {
  const hub = await HubServer.start();
  const from = join(goldens, 'qwen2');
  hub.publish('org/tiny', Object.fromEntries(['config.json', 'model.safetensors'].map((name) => [name, { bytes: readFileSync(join(from, name)) }])));
  vi.stubEnv('HF_ENDPOINT', hub.url);
  vi.stubEnv('HF_HOME', join(folder, 'hub'));
  try {
    await convertModel('org/tiny', join(folder, 'fetched.gguf'), { to: 'gguf', quantize: 'none' });
  } finally {
    vi.unstubAllEnvs();
    await hub.close();
  }
  expect((await run(join(folder, 'fetched.gguf'))).logits).toEqual((await run(from)).logits);
});
