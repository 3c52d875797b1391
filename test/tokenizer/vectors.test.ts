/** Tokenizers of real models against llama.cpp's vectors. The files lie outside the repository; without them the tests are skipped. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { tokenizerFromFolder, tokenizerFromGguf } from '../../src/tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { GgufFile } from '../../src/weights/gguf.ts';

const shared = process.env.MILLRACE_SHARED ?? resolve(import.meta.dirname, '../../../shared');
const vocabs = join(shared, 'data/tok-llama.cpp-vocabs');
const temporary = mkdtempSync(join(tmpdir(), 'millrace-vectors-'));
afterAll(() => rmSync(temporary, { recursive: true, force: true }));

const names = existsSync(vocabs)
  ? readdirSync(vocabs)
      .filter((file) => file.endsWith('.gguf.gz') && existsSync(join(vocabs, file.replace('.gz', '.inp'))))
      .map((file) => file.slice('ggml-vocab-'.length, -'.gguf.gz'.length))
  : [];

function vectors(name: string): { text: string; ids: number[] }[] {
  const inputs = readFileSync(join(vocabs, `ggml-vocab-${name}.gguf.inp`), 'utf8').split('\n__ggml_vocab_test__\n');
  const outputs = readFileSync(join(vocabs, `ggml-vocab-${name}.gguf.out`), 'utf8').split('\n');
  // The last input ends with the file's own line end.
  return inputs.slice(0, -1).map((text, i) => ({ text, ids: outputs[i].split(' ').filter(Boolean).map(Number) }));
}

function unpack(file: string, as: string): string {
  const path = join(temporary, as);
  writeFileSync(path, gunzipSync(readFileSync(file)));
  return path;
}

function check(tokenizer: Tokenizer, name: string): void {
  const cases = vectors(name);
  expect(cases.length).toBeGreaterThan(40);
  for (const { text, ids } of cases) {
    const encoded = tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: false });
    expect([text, ...encoded]).toEqual([text, ...ids]);
    // WordPiece loses white space, case and accents: its text is known by its ids only
    if (name !== 'bert-bge') expect(tokenizer.decode(encoded)).toBe(text);
  }
}

describe.skipIf(names.length === 0)('GGUF vocabularies', () => {
  test.each(names)('the tokenizer of %s gives the ids that llama.cpp gives and decodes them to the text', (name) => {
    const path = unpack(join(vocabs, `ggml-vocab-${name}.gguf.gz`), `${name}.gguf`);
    check(tokenizerFromGguf(GgufFile.open(path).metadata), name);
  });
});

describe.skipIf(!existsSync(join(shared, 'data/tok-qwen2')))('Hugging Face folders', () => {
  test.each([
    ['qwen2', 'tok-qwen2'],
    ['gpt-2', 'tok-gpt2'],
  ])('tokenizer.json of %s gives the ids that llama.cpp gives', async (name, folder) => {
    unpack(join(shared, 'data', folder, 'tokenizer.json.gz'), 'tokenizer.json');
    check(await tokenizerFromFolder(temporary), name);
  });
});

const stories = join(shared, 'models/stories260K');

describe.skipIf(!existsSync(stories))('stories260K', () => {
  test('gives the same ids from tokenizer.json, tokenizer.model and GGUF', async () => {
    const fromJson = await tokenizerFromFolder(stories);
    const fromGguf = tokenizerFromGguf(GgufFile.open(join(stories, 'stories260K.F32.gguf')).metadata);
    const folder = mkdtempSync(join(temporary, 'model-'));
    writeFileSync(join(folder, 'tokenizer.model'), readFileSync(join(stories, 'tokenizer.model')));
    const fromModel = await tokenizerFromFolder(folder);
    for (const text of ['', 'Once upon a time, there was a little girl named Lily.', '  two  spaces\n\tand 水 🙂', '</s><s>']) {
      for (const parseSpecial of [false, true]) {
        const options = { addSpecialTokens: true, parseSpecial };
        const ids = fromJson.encode(text, options);
        expect(fromGguf.encode(text, options)).toEqual(ids);
        expect(fromModel.encode(text, options)).toEqual(ids);
        if (!parseSpecial) expect(fromJson.decode(ids)).toBe(text);
      }
    }
    expect(fromGguf).toMatchObject({ bosTokenId: 1, eosTokenIds: [2], vocabSize: 512 });
  });
});

describe.skipIf(!existsSync(vocabs))('docs/tokenizers.md', () => {
  test('has a row for each published vocabulary, which says truly whether its vectors are run', () => {
    const text = readFileSync(join(import.meta.dirname, '../../docs/tokenizers.md'), 'utf8');
    const rows = new Map(
      [...text.matchAll(/^\| ([\w.-]+) \|([^|\n]*)\|([^|\n]*)\|$/gm)].map(([, name, from, result]) => [name, [from.trim(), result.trim()]]),
    );
    const published = new Set(readdirSync(vocabs).flatMap((file) => /^ggml-vocab-(.+)\.gguf\.(?:gz|inp)$/.exec(file)?.[1] ?? []));
    for (const name of published) {
      const [from, result] = rows.get(name) ?? [];
      const sources = [...(names.includes(name) ? ['GGUF'] : []), ...(['qwen2', 'gpt-2'].includes(name) ? ['tokenizer.json'] : [])];
      if (sources.length > 0) expect([name, from, result]).toEqual([name, sources.join(', '), 'all']);
      else expect([name, result]).toEqual([name, expect.stringMatching(/^not run|^no vectors/)]);
    }
  });

  test.each(['gpt-neox', 'baichuan'])('the vocabulary of %s, which has no vectors, opens', (name) => {
    const path = unpack(join(vocabs, `ggml-vocab-${name}.gguf.gz`), `${name}.gguf`);
    const tokenizer = tokenizerFromGguf(GgufFile.open(path).metadata);
    expect(tokenizer.decode(tokenizer.encode('The wheel turns.', { addSpecialTokens: false, parseSpecial: false }))).toBe('The wheel turns.');
  });
});
