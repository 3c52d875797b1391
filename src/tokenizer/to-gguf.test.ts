import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { tokenizerDefinitionFromFolder, tokenizerFromFolder, tokenizerFromGguf } from './load-tokenizer.ts';
import { differenceOfTokenizers } from './same-tokenizer.ts';
import { checkTokenizerFolder, tokenizerToFolder } from './to-folder.ts';
import { tokenizerToGguf } from './to-gguf.ts';

const fixtures = join(import.meta.dirname, '..', '..', 'test', 'fixtures', 'tokenizers');
const folder = mkdtempSync(join(tmpdir(), 'millrace-to-gguf-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function inGguf(kind: string, more = 0) {
  const definition = await tokenizerDefinitionFromFolder(join(fixtures, kind));
  const entries = tokenizerToGguf(definition, definition.tokens.length + more);
  return { definition, metadata: new Map<string, unknown>([...entries].map(([key, [, value]]) => [key, value])) };
}

test.each([
  ['byte-level', 'gpt2', 'tokenizer.json'],
  ['sentencepiece', 'llama', 'tokenizer.model'],
])('%s is of the kind %s in a GGUF file and becomes %s of a folder', async (kind, model, file) => {
  const { metadata } = await inGguf(kind, 5);
  expect(metadata.get('tokenizer.ggml.model')).toBe(model);
  const original = await tokenizerFromFolder(join(fixtures, kind));
  expect(differenceOfTokenizers(original, tokenizerFromGguf(metadata))).toBeNull();
  const files = tokenizerToFolder(metadata);
  expect([...files.keys()]).toContain(file);
  for (const [name, content] of files) writeFileSync(join(folder, name), content);
  await checkTokenizerFolder(metadata, folder);
  for (const name of files.keys()) rmSync(join(folder, name));
});

test('rows of the embedding without a token are unused tokens', async () => {
  const { definition, metadata } = await inGguf('byte-level', 2);
  const size = definition.tokens.length;
  expect((metadata.get('tokenizer.ggml.tokens') as string[]).slice(size)).toEqual([`[PAD${size}]`, `[PAD${size + 1}]`]);
  expect([...(metadata.get('tokenizer.ggml.token_type') as Int32Array)].slice(size)).toEqual([5, 5]);
});

test('a way of cutting text that has no name is refused, as are more tokens than the model has', async () => {
  const { definition } = await inGguf('byte-level');
  const split = { type: 'Split', pattern: { Regex: '[aeiou]' }, behavior: 'Isolated', invert: false };
  const odd = { type: 'Sequence', pretokenizers: [split, { type: 'ByteLevel', add_prefix_space: false, use_regex: false }] };
  const refused = expect.objectContaining({ code: 'TOKENIZER_INVALID' });
  expect(() => tokenizerToGguf({ ...definition, preTokenizer: odd }, definition.tokens.length)).toThrow(refused);
  expect(() => tokenizerToGguf({ ...definition, normalizer: { type: 'Lowercase' } }, definition.tokens.length)).toThrow(/would differ in/);
  expect(() => tokenizerToGguf(definition, 300)).toThrow(refused);
});

test('a folder that reads otherwise than the file is found out', async () => {
  const { metadata } = await inGguf('sentencepiece');
  for (const [name, content] of tokenizerToFolder(new Map([...metadata, ['tokenizer.ggml.add_space_prefix', false]]))) {
    writeFileSync(join(folder, name), content);
  }
  await expect(checkTokenizerFolder(metadata, folder)).rejects.toMatchObject({ code: 'TOKENIZER_INVALID' });
});
