import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ggufBytes } from '../../test/fixtures/checkpoint-files.ts';
import { loadTokenizer, readTokenizerFile, tokenizerFolder, tokenizerVectors } from '../../test/fixtures/tokenizers.ts';
import { characterOfByte } from '../tokenizer/byte-alphabet.ts';
import { tokenizerFromGguf } from '../tokenizer/load-tokenizer.ts';
import { GgufFile } from '../weights/gguf.ts';
import { openModelFiles } from '../weights/model-files.ts';
import { openModel } from './open-model.ts';
import { MAX_INLINE_TOKENIZER_BYTES, readTokenizerInWorker } from './read-tokenizer.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace read tokenizer '));
afterAll(() => rmSync(folder, { recursive: true }));

const plain = { addSpecialTokens: false, parseSpecial: false };
const withSpecial = { addSpecialTokens: true, parseSpecial: true };

test('a tokenizer read by the worker encodes and decodes as one read here', async () => {
  const [fromWorker, here] = await Promise.all([
    readTokenizerInWorker({ kind: 'folder', path: tokenizerFolder('byte-level'), extraEosIds: [7] }),
    loadTokenizer('byte-level'),
  ]);
  for (const { text, ids, idsWithSpecial, decoded } of tokenizerVectors('byte-level')) {
    expect([...fromWorker.encode(text, plain)]).toEqual(ids);
    expect([...fromWorker.encode(text, withSpecial)]).toEqual(idsWithSpecial);
    expect(fromWorker.decode(idsWithSpecial)).toBe(decoded);
  }
  const { vocabSize, bosTokenId, eosTokenIds, specialTokenIds, stripsLeadingSpace } = here;
  expect(fromWorker).toMatchObject({ vocabSize, bosTokenId, stripsLeadingSpace });
  expect(fromWorker.eosTokenIds).toEqual([...eosTokenIds, 7]);
  expect([...fromWorker.specialTokenIds]).toEqual([...specialTokenIds]);
  // the long way, through the encoding worker, works on the tables that came from the other worker
  const long = 'The wheel turns. '.repeat(1000);
  expect(await fromWorker.encodeAsync(long, plain)).toEqual(here.encode(long, plain));
  await fromWorker.close();
});

test('a folder with a large tokenizer.json loads through the worker, and a damaged one is refused with its code', async () => {
  const config = { ...llamaConfig, vocab_size: 2000 };
  const json = { ...(readTokenizerFile('byte-level', 'tokenizer.json') as object), padding: 'x'.repeat(MAX_INLINE_TOKENIZER_BYTES) };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(json));
  let turns = 0;
  const interval = setInterval(() => turns++, 1);
  const tokenizer = await openModel(folder, true).loadTokenizer();
  clearInterval(interval);
  expect(turns).toBeGreaterThan(10);
  const [vector] = tokenizerVectors('byte-level');
  expect([...tokenizer.encode(vector.text, plain)]).toEqual(vector.ids);
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify({ ...json, model: { type: 'MadeUp' } }));
  const failed = openModel(folder, true).loadTokenizer();
  await expect(failed).rejects.toMatchObject({
    code: 'TOKENIZER_INVALID',
    message: expect.stringContaining('a BPE, Unigram, WordPiece or WordLevel model'),
  });
});

test('a long vocabulary in GGUF metadata is stepped over when the model is opened and read by the worker', async () => {
  const tokens = [...characterOfByte, ...Array.from({ length: 9000 }, (_, i) => `unused ${i}`)];
  const path = join(folder, 'model.gguf');
  const metadata = {
    'tokenizer.ggml.model': ['string', 'gpt2'],
    'tokenizer.ggml.pre': ['string', 'gpt-2'],
    'tokenizer.ggml.tokens': ['array', tokens, 'string'],
    'tokenizer.ggml.merges': ['array', ['a b'], 'string'],
    'tokenizer.ggml.eos_token_id': ['u32', 5],
    'after.it': ['string', 'is read'],
  } as const;
  writeFileSync(path, ggufBytes({ metadata }));
  const files = openModelFiles(path);
  if (files.kind !== 'gguf') throw new Error('not a GGUF file');
  expect([...files.gguf.skippedLists]).toEqual(['tokenizer.ggml.tokens']);
  expect(files.gguf.metadata.has('tokenizer.ggml.tokens')).toBe(false);
  expect(files.gguf.metadata.get('tokenizer.ggml.merges')).toEqual(['a b']);
  expect(files.gguf.metadata.get('after.it')).toBe('is read');
  files.gguf.close();
  const whole = GgufFile.open(path);
  const here = tokenizerFromGguf(whole.metadata);
  whole.close();
  const fromWorker = await readTokenizerInWorker({ kind: 'gguf', path });
  expect(fromWorker.vocabSize).toBe(tokens.length);
  expect(fromWorker.eosTokenIds).toEqual([5]);
  expect(fromWorker.encode('wheel', plain)).toEqual(here.encode('wheel', plain));
});

test('a list that runs out of its file is refused, stepped over or not', () => {
  const bytes = ggufBytes({ metadata: { list: ['array', Array.from({ length: 9000 }, () => 'ab'), 'string'] } });
  const path = join(folder, 'short.gguf');
  writeFileSync(path, bytes.subarray(0, bytes.length - 50));
  for (const longest of [10, Infinity]) {
    expect(() => GgufFile.open(path, longest)).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID' }));
  }
});

const llamaConfig = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
};
