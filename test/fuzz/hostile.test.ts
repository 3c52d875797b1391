/** Files that were made to harm: each is refused with a code, quickly, and nothing outside the folder is touched. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { ErrorCode } from '../../src/base/errors.ts';
import { chatTemplateFromFolder } from '../../src/chat/load-template.ts';
import { openModel } from '../../src/engine/open-model.ts';
import { ByteTokenizer } from '../../src/tokenizer/byte-tokenizer.ts';
import { tokenizerFromFolder } from '../../src/tokenizer/load-tokenizer.ts';
import { ggufBytes, safetensorsBytes, safetensorsOf } from '../fixtures/checkpoint-files.ts';
import { targets } from './targets.ts';

const root = mkdtempSync(join(tmpdir(), 'millrace-hostile-'));
afterAll(() => rmSync(root, { recursive: true }));

const config = {
  architectures: ['LlamaForCausalLM'],
  vocab_size: 8,
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  max_position_embeddings: 8,
};
const tensor = { name: 'a', shape: [2], bytes: new Uint8Array(8) };
const whole = safetensorsBytes([tensor]);
const index = (map: unknown) => JSON.stringify({ weight_map: map });
const INDEX = 'model.safetensors.index.json';

/** A cyclic link, a pipe nobody writes to, a device without end, a folder. */
const oddities: Record<string, (path: string) => void> = {
  'a link to itself': (path) => symlinkSync(path, path),
  'a pipe': (path) => execFileSync('mkfifo', [path]),
  'a device': (path) => symlinkSync('/dev/zero', path),
  'a folder': (path) => mkdirSync(path),
  'a link to nothing': (path) => symlinkSync('nowhere', path),
};

type Folder = Record<string, string | Uint8Array | ((path: string) => void)>;

function open(files: Folder, path = ''): void {
  const folder = mkdtempSync(join(root, 'model-'));
  for (const [name, content] of Object.entries(files)) {
    if (typeof content === 'function') content(join(folder, name));
    else writeFileSync(join(folder, name), content);
  }
  openModel(join(folder, path), false).close();
}

const whenWhole: Folder = { 'config.json': JSON.stringify(config) };
const refused = (files: Folder, codes: readonly ErrorCode[], path?: string) => {
  let code: unknown = 'none';
  try {
    open(files, path);
  } catch (thrown) {
    code = (thrown as { code?: unknown }).code;
  }
  expect(codes).toContain(code);
};

test.each([
  '../a.safetensors',
  '/etc/passwd',
  'x/../../a.safetensors',
  '..\\a.safetensors',
  INDEX,
  'config.json',
  '',
  'C:\\a.safetensors',
  7,
  null,
  {},
])('an index that names %j as a shard is refused', (shard) => refused({ ...whenWhole, [INDEX]: index({ a: shard }) }, ['WEIGHTS_FILE_INVALID']));

test.each(Object.keys(oddities))('%s in the place of any file is refused, not waited for', (kind) => {
  const odd = oddities[kind];
  refused({ ...whenWhole, [INDEX]: index({ a: 'x.safetensors' }), 'x.safetensors': odd }, ['MODEL_NOT_FOUND']);
  refused({ ...whenWhole, 'model.safetensors': odd }, ['MODEL_NOT_FOUND']);
  refused({ ...whenWhole, [INDEX]: odd }, ['MODEL_NOT_FOUND']);
  refused({ 'config.json': odd, 'model.safetensors': whole }, ['MODEL_NOT_FOUND']);
  refused({ 'x.gguf': odd }, ['MODEL_NOT_FOUND'], 'x.gguf');
});

test('an index that sends tensors round in circles is refused', () => {
  const other = safetensorsBytes([{ ...tensor, name: 'b' }]);
  // each file is said to hold what the other has
  refused({ ...whenWhole, [INDEX]: index({ a: 'y.safetensors', b: 'x.safetensors' }), 'x.safetensors': whole, 'y.safetensors': other }, [
    'WEIGHTS_FILE_INVALID',
  ]);
});

test('counts that promise more than there is are refused', () => {
  const header = (shape: unknown, end: number) =>
    safetensorsOf(JSON.stringify({ a: { dtype: 'F32', shape, data_offsets: [0, end] } }), [new Uint8Array(8)]);
  for (const shape of [[2 ** 40], [2 ** 31, 2 ** 31], [1e300], [-1], [0.5], Array(9).fill(1), ['2']]) {
    refused({ ...whenWhole, 'model.safetensors': header(shape, 8) }, ['WEIGHTS_FILE_INVALID']);
  }
  refused({ ...whenWhole, 'model.safetensors': header([2], 2 ** 50) }, ['WEIGHTS_FILE_INVALID']);
  refused({ ...whenWhole, 'model.safetensors': safetensorsOf('{}', [], 2 ** 60) }, ['WEIGHTS_FILE_INVALID']);
  const good = Buffer.from(ggufBytes({ metadata: { x: ['array', ['a'], 'string'] } }));
  for (const at of [8, 16, 45, 24]) {
    const bad = Buffer.from(good);
    bad.writeBigUInt64LE(2n ** 62n, at);
    refused({ 'x.gguf': bad }, ['WEIGHTS_FILE_INVALID', 'MODEL_ARCHITECTURE_UNKNOWN'], 'x.gguf');
  }
});

test('little text that would become much is refused', () => {
  const members = `{${Array.from({ length: 300_000 }, (_, i) => `"${i}":0`).join()}}`;
  refused({ ...whenWhole, 'model.safetensors': safetensorsOf(members, []) }, ['WEIGHTS_FILE_INVALID']);
  refused({ ...whenWhole, [INDEX]: members }, ['WEIGHTS_FILE_INVALID']);
  const deep = '['.repeat(1_000_000);
  refused({ ...whenWhole, 'model.safetensors': safetensorsOf(deep, []) }, ['WEIGHTS_FILE_INVALID']);
  refused({ ...whenWhole, [INDEX]: `${deep}${']'.repeat(1_000_000)}` }, ['WEIGHTS_FILE_INVALID']);
  refused({ 'config.json': deep, 'model.safetensors': whole }, ['MODEL_CONFIG_INVALID']);
  refused({ 'config.json': ' '.repeat(17 << 20), 'model.safetensors': whole }, ['MODEL_CONFIG_INVALID']);
  const layers = { ...config, num_hidden_layers: 1e9 };
  refused({ 'config.json': JSON.stringify(layers), 'model.safetensors': whole }, ['MODEL_CONFIG_INVALID']);
});

test.each(Object.keys(oddities))('%s in the place of tokenizer or template is refused, not waited for', async (kind) => {
  for (const name of ['tokenizer.json', 'tokenizer.model', 'tokenizer_config.json', 'chat_template.jinja']) {
    const folder = mkdtempSync(join(root, 'tokenizer-'));
    oddities[kind](join(folder, name));
    const load = name === 'chat_template.jinja' ? chatTemplateFromFolder(folder, new ByteTokenizer(300)) : tokenizerFromFolder(folder);
    const absent = kind === 'a link to nothing';
    const code = await load.then(
      (found) => (found === null ? 'nothing' : 'something'),
      (thrown: { code?: unknown }) => thrown.code,
    );
    expect(code, name).toBe(name === 'chat_template.jinja' ? (absent ? 'nothing' : 'MODEL_CONFIG_INVALID') : 'TOKENIZER_INVALID');
  }
});

test('a configuration of another width than a checkpoint with columns in their own order is refused by the shapes', async () => {
  const target = targets.find(({ name }) => name === 'quantised folder of gptq-4bit-g32-asym-act-order')!;
  const folder = mkdtempSync(join(root, 'width-'));
  for (const [name, bytes] of Object.entries(target.files)) writeFileSync(join(folder, name), bytes);
  const wider = JSON.parse(Buffer.from(target.files['config.json']).toString('utf8')) as Record<string, number>;
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...wider, intermediate_size: wider.intermediate_size * 2 }));
  await expect(target.read(folder)).rejects.toMatchObject({ code: 'WEIGHTS_SHAPE_MISMATCH' });
});
