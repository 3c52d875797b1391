import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadModel, SoloRequest } from '../../test/drive-backend.ts';
import { ReferenceBackend } from '../backends/reference/reference-backend.ts';
import { formatToHold, type QuantizeTarget } from '../engine/quantize-at-load.ts';
import { activationFor } from '../models/activation.ts';
import { convertModel } from './convert.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-convert-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const goldens = join(import.meta.dirname, '..', '..', 'test', 'golden');
const reference = new ReferenceBackend();
const prompt = Array.from({ length: 12 }, (_, i) => 3 + ((i * 7) % 50));

/** Logits of a folder, its float weights rounded at load if asked, and the formats of its matrices. */
async function run(path: string, quantize: QuantizeTarget = 'none') {
  const { source, model } = loadModel(path);
  const plan = model.build({
    formatOf(tensor) {
      const stored = source.find(tensor);
      return stored === undefined ? 'f32' : formatToHold(tensor, stored, quantize, model.features.names);
    },
    activationFor: (format, width) => activationFor(format, width, 'float32', 'float'),
    columnOrderOf: (tensor) => source.find(tensor)?.columnOrder,
  });
  const request = await SoloRequest.open(reference, plan, source, prompt.length);
  const logits = (await request.feed(prompt)).slice();
  request.close();
  source.close();
  const announced = new Set(plan.weights.flatMap(({ parts }) => parts.map(({ tensor }) => source.find(tensor)?.activation)));
  return { logits, formats: plan.weights.map(({ format }) => format), announced };
}

const kept = readdirSync(join(goldens, 'quantized')).filter((name) => !/nf4|3bit/.test(name));

test.each(kept)('%s, converted as it is, has the same numbers and logits', async (name) => {
  const from = join(goldens, 'quantized', name);
  const to = join(folder, name);
  await convertModel(from, to, { quantize: 'none' });
  const [before, after] = [await run(from), await run(to)];
  expect(after.formats).toEqual(before.formats);
  expect(after.logits).toEqual(before.logits);
  expect(after.announced).toEqual(before.announced);
});

test.each(
  ['qwen2', 'llama-linear-bf16', 'gpt2', 'glm4'].flatMap((name) =>
    (['int8', 'int8-channel', 'int4', 'fp8', 'none'] as const).map((target) => [name, target] as const),
  ),
)('%s converted to %s has the logits of the same rounding at load', async (name, target) => {
  const to = join(folder, `${name}-${target}`);
  const result = await convertModel(join(goldens, name), to, { quantize: target });
  expect(result.path).toBe(to);
  // matrices that a checkpoint stores turned stay as they are
  const [before, after] = [await run(join(goldens, name), name === 'gpt2' ? 'none' : target), await run(to)];
  if (name !== 'gpt2' || target === 'none') expect(after.logits).toEqual(before.logits);
  else
    expect(after.formats.filter((format) => format !== 'q8_0')).toEqual(
      before.formats.slice(after.formats.filter((format) => format === 'q8_0').length),
    );
});

test('files beside the weights are carried along, and nothing else', async () => {
  const from = join(folder, 'with-tokenizer');
  mkdirSync(from);
  for (const name of ['config.json', 'model.safetensors']) copyFileSync(join(goldens, 'qwen2', name), join(from, name));
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja', 'generation_config.json', 'pytorch_model.bin', 'evil.py']) {
    writeFileSync(join(from, name), '{}');
  }
  await convertModel(from, join(folder, 'carried'), { quantize: 'int8' });
  expect(readdirSync(join(folder, 'carried')).sort()).toEqual([
    'chat_template.jinja',
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]);
  const config = JSON.parse(readFileSync(join(folder, 'carried', 'config.json'), 'utf8'));
  expect(config).toMatchObject({
    architectures: ['Qwen2ForCausalLM'],
    quantization_config: { quant_method: 'compressed-tensors', format: 'pack-quantized' },
  });
});

test('a target that exists is kept, unless it may be replaced', async () => {
  const to = join(folder, 'taken');
  mkdirSync(to);
  writeFileSync(join(to, 'mine.txt'), 'mine');
  await expect(convertModel(join(goldens, 'qwen2'), to, { quantize: 'none' })).rejects.toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(readdirSync(to)).toEqual(['mine.txt']);
  await convertModel(join(goldens, 'qwen2'), to, { quantize: 'none', force: true });
  expect(readdirSync(to).sort()).toEqual(['config.json', 'model.safetensors']);
});

test('what cannot be written leaves nothing behind, not even with force', async () => {
  const to = join(folder, 'never');
  const nf4 = join(goldens, 'quantized', 'bnb-nf4');
  await expect(convertModel(nf4, to, { quantize: 'none' })).rejects.toThrow(
    expect.objectContaining({ code: 'WEIGHTS_FORMAT_UNSUPPORTED', received: 'nf4' }),
  );
  expect(existsSync(to)).toBe(false);
  mkdirSync(to);
  writeFileSync(join(to, 'mine.txt'), 'mine');
  await expect(convertModel(nf4, to, { quantize: 'none', force: true })).rejects.toThrow();
  expect(readdirSync(to)).toEqual(['mine.txt']);
  expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
  await expect(convertModel(join(goldens, 'qwen2'), join(goldens, 'qwen2'), { quantize: 'none', force: true })).rejects.toThrow(/itself/);
});
