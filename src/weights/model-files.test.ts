import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { f32Bytes, ggufBytes, safetensorsBytes, writeFile } from '../../test/fixtures/checkpoint-files.ts';
import { openModelFiles } from './model-files.ts';

const root = mkdtempSync(join(tmpdir(), 'millrace-files-'));
afterAll(() => rmSync(root, { recursive: true }));

let made = 0;
function folder(files: Record<string, Uint8Array | string>): string {
  const path = join(root, `model ${made++}`);
  mkdirSync(path);
  for (const [name, bytes] of Object.entries(files)) writeFile(join(path, name), bytes);
  return path;
}
const weights = safetensorsBytes([{ name: 'a', shape: [1], bytes: f32Bytes([1]) }]);
const opens = (path: string) => {
  const files = openModelFiles(path);
  return files.kind === 'gguf' ? files.gguf.close() : files.openWeights().close();
};

test('a Hugging Face folder shows its pieces; absent ones are null', () => {
  const path = folder({
    'config.json': '{"hidden_size": 1}',
    'generation_config.json': '{"eos_token_id": 2}',
    'tokenizer.json': '{}',
    'chat_template.jinja': '{{ messages }}',
    'model.safetensors': weights,
  });
  const files = openModelFiles(path);
  expect(files).toMatchObject({
    kind: 'huggingface',
    config: { hidden_size: 1 },
    generationConfig: { eos_token_id: 2 },
    tokenizerJson: join(path, 'tokenizer.json'),
    tokenizerModel: null,
    tokenizerConfig: null,
    chatTemplate: '{{ messages }}',
  });
  opens(path);
});

test('one safetensors file of another name is taken, a GGUF file too', () => {
  opens(folder({ 'config.json': '{}', 'consolidated.safetensors': weights }));
  opens(join(folder({ 'm.gguf': ggufBytes({}) }), 'm.gguf'));
});

test.each<[string, Record<string, Uint8Array | string>, string, RegExp]>([
  ['without config.json', { 'model.safetensors': weights }, 'MODEL_NOT_FOUND', /no config\.json/],
  ['with only a GGUF file', { 'm.gguf': ggufBytes({}) }, 'MODEL_NOT_FOUND', /m\.gguf/],
  ['without weights', { 'config.json': '{}' }, 'MODEL_NOT_FOUND', /--load-format dummy/],
  ['with pickle weights only', { 'config.json': '{}', 'pytorch_model.bin': 'x' }, 'WEIGHTS_FORMAT_UNSUPPORTED', /run code/],
  ['with shards and no index', { 'config.json': '{}', 'a.safetensors': weights, 'b.safetensors': weights }, 'MODEL_NOT_FOUND', /index/],
  ['with a config.json that is not JSON', { 'config.json': '{' }, 'MODEL_CONFIG_INVALID', /not JSON/],
])('a folder %s is refused with the reason', (_, files, code, says) => {
  expect(() => opens(folder(files))).toThrow(expect.objectContaining({ code, message: expect.stringMatching(says) }));
});

test('paths that hold no model say what is wrong with them', () => {
  const loop = join(root, 'loop');
  symlinkSync(loop, loop);
  const file = writeFile(join(root, 'model.safetensors'), weights);
  for (const [path, says] of [
    [join(root, 'absent'), /does not exist/],
    [loop, /circle of symbolic links/],
    [join(file, 'inside'), /not a folder/],
    [file, /give the folder/],
    ['/dev/null', /neither a folder nor a plain file/],
  ] as const) {
    expect(() => openModelFiles(path)).toThrow(expect.objectContaining({ code: 'MODEL_NOT_FOUND', message: expect.stringMatching(says) }));
  }
});

test.skipIf(process.getuid?.() === 0)('a folder that may not be read says so', () => {
  const path = folder({ 'config.json': '{}' });
  chmodSync(path, 0);
  try {
    expect(() => openModelFiles(path)).toThrow(/may not be read by this user/);
  } finally {
    chmodSync(path, 0o700);
  }
});
