import { expect, test } from 'vitest';
import { parseHubId } from './model-id.ts';
import { selectFiles, shardsOfIndex } from './select-files.ts';

const select = (name: string, paths: readonly string[]) => selectFiles(parseHubId(name)!, paths);

test('of a repository with everything, one set of weights is taken, with tokenizer and templates', () => {
  const wanted = [
    'config.json',
    'generation_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'tokenizer.model',
    'vocab.json',
    'merges.txt',
    'vocab.txt',
    'x.tiktoken',
    'chat_template.jinja',
    'additional_chat_templates/tool.jinja',
    '1_Pooling/config.json',
    'quantize_config.json',
  ];
  const others = [
    'README.md',
    'LICENSE.txt',
    '.gitattributes',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
    'tf_model.h5',
    'flax_model.msgpack',
    'model.fp16.safetensors',
    'onnx/model.onnx',
    'onnx/config.json',
    'original/consolidated.00.pth',
    'x.gguf',
  ];
  const selection = select('a/b', [...wanted, 'model.safetensors', ...others]);
  expect(selection).toEqual({ kind: 'huggingface', small: wanted, weights: ['model.safetensors'], index: null });
});

test('shards are those of the index, which may name no others', () => {
  const paths = ['config.json', 'model-1.safetensors', 'model-2.safetensors', 'consolidated.safetensors', 'model.safetensors.index.json'];
  expect(select('a/b', paths)).toMatchObject({ index: 'model.safetensors.index.json', weights: [] });
  const id = parseHubId('a/b')!;
  const index = (map: unknown) => JSON.stringify({ weight_map: map });
  expect(shardsOfIndex(id, index({ x: 'model-2.safetensors', y: 'model-1.safetensors', z: 'model-2.safetensors' }), paths)).toEqual(
    paths.slice(1, 3),
  );
  for (const bad of [index({ x: '../x.safetensors' }), index({ x: 'model-3.safetensors' }), index({ x: 7 }), index({}), index(null), '{', 'null']) {
    expect(() => shardsOfIndex(id, bad, paths), bad).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID' }));
  }
});

const ggufs = [
  'README.md',
  'M-Q4_K_M.gguf',
  'M-UD-Q4_K_M.gguf',
  'M-Q4_K_M_L.gguf',
  'M.q8_0.gguf',
  'mmproj-M-F16.gguf',
  'Q2_K/M-Q2_K-00001-of-00002.gguf',
  'Q2_K/M-Q2_K-00002-of-00002.gguf',
];

test.each([
  ['a/b', ['M-Q4_K_M.gguf']],
  ['a/b:Q4_K_M', ['M-Q4_K_M.gguf']],
  ['a/b:q4_k_m', ['M-Q4_K_M.gguf']],
  ['a/b:UD-Q4_K_M', ['M-UD-Q4_K_M.gguf']],
  ['a/b:Q8_0', ['M.q8_0.gguf']],
  ['a/b:Q2_K', ggufs.slice(6)],
  ['a/b:Q2_K/M-Q2_K-00002-of-00002.gguf', ggufs.slice(6)],
  ['a/b:M-UD-Q4_K_M.gguf', ['M-UD-Q4_K_M.gguf']],
])('%s takes %j', (name, parts) => {
  expect(select(name, ggufs)).toEqual({ kind: 'gguf', parts });
});

test('a choice that cannot be made, or a part that is missing, is answered with what there is', () => {
  const refused = (name: string, paths: readonly string[], code: string, text: string) =>
    expect(() => select(name, paths), name).toThrow(expect.objectContaining({ code, message: expect.stringContaining(text) }));
  refused('a/b:F32', ggufs, 'HUB_NOT_FOUND', 'M.q8_0.gguf');
  refused('a/b:x.gguf', ggufs, 'HUB_NOT_FOUND', 'M-Q4_K_M.gguf');
  refused('a/b', ['a-X.gguf', 'b-X.gguf'], 'HUB_NOT_FOUND', 'a/b:a-X.gguf');
  refused('a/b:Q2_K', ggufs.slice(0, 7), 'HUB_NOT_FOUND', 'lacks parts');
  refused('a/b', ['config.json', 'pytorch_model.bin'], 'WEIGHTS_FORMAT_UNSUPPORTED', 'pickles');
  refused('a/b', ['README.md'], 'HUB_NOT_FOUND', 'README.md');
  refused('a/b', ['config.json', 'x.safetensors', 'y.safetensors'], 'HUB_NOT_FOUND', 'model.safetensors.index.json');
});
