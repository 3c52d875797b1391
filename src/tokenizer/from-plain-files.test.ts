/** Folders without tokenizer.json: classes, added tokens, refusals. Ids against the reference libraries: test/tokenizer/goldens.test.ts. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { goldenTokenizersFolder } from '../../test/tokenizer/goldens.ts';
import { tokenizerFromFolder } from './load-tokenizer.ts';

const scratch = mkdtempSync(join(tmpdir(), 'millrace-plain-tokenizers-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const asText = { addSpecialTokens: false, parseSpecial: false };
const asPrompt = { addSpecialTokens: true, parseSpecial: true };
let count = 0;

/** A golden folder with other small files. */
function folderOf(golden: string, files: Readonly<Record<string, unknown>>, without: readonly string[] = []): string {
  const folder = join(scratch, String(count++));
  cpSync(join(goldenTokenizersFolder, golden), folder, { recursive: true });
  for (const name of without) rmSync(join(folder, name));
  for (const [name, value] of Object.entries(files)) writeFileSync(join(folder, name), JSON.stringify(value));
  return folder;
}

const vocabularyOf = (golden: string) =>
  JSON.parse(readFileSync(join(goldenTokenizersFolder, golden, 'vocab.json'), 'utf8')) as Record<string, number>;

test('added_tokens.json and special_tokens_map.json say what is found in a prompt, what ends a text, and what no text can become', async () => {
  const tokenizer = await tokenizerFromFolder(join(goldenTokenizersFolder, 'plain-gpt2'));
  const size = Object.keys(vocabularyOf('plain-gpt2')).length;
  expect(tokenizer.eosTokenIds).toEqual([size]);
  expect([...tokenizer.encode('<|end|>', asPrompt)]).toEqual([size]);
  expect([...tokenizer.encode('<|end|>', asText)]).not.toContain(size);
  expect([...tokenizer.encode('a<tool>b', asText)]).toContain(size + 1);
});

test('a tokenizer.model takes the tokens of added_tokens_decoder behind its own, and the end that the configuration names', async () => {
  const pieces = (await tokenizerFromFolder(join(goldenTokenizersFolder, 'spm-bpe'))).vocabSize;
  const special = { content: '<|im_end|>', special: true, normalized: false };
  const config = {
    tokenizer_class: 'LlamaTokenizer',
    eos_token: '<|im_end|>',
    added_tokens_decoder: {
      [pieces]: special,
      [pieces + 2]: { content: '<call>', special: false, normalized: false },
      1: { content: '<s>', special: true },
    },
  };
  const tokenizer = await tokenizerFromFolder(folderOf('spm-bpe', { 'tokenizer_config.json': config }));
  expect(tokenizer.vocabSize).toBe(pieces + 3);
  expect(tokenizer.eosTokenIds).toEqual([pieces]);
  const ids = [...tokenizer.encode('The wheel<|im_end|> turns <call>', asPrompt)];
  expect(ids.filter((id) => id >= pieces)).toEqual([pieces, pieces + 2]);
  expect([...tokenizer.encode('<|im_end|>', asText)].every((id) => id < pieces)).toBe(true);
  expect(tokenizer.decode(ids.slice(-1))).toBe('<call>');
  // the same from the file of older repositories
  const older = { 'tokenizer_config.json': { eos_token: '<|im_end|>' }, 'added_tokens.json': { '<|im_end|>': pieces } };
  const old = await tokenizerFromFolder(folderOf('spm-bpe', older));
  expect([old.vocabSize, old.eosTokenIds]).toEqual([pieces + 1, [pieces]]);
});

test('Whisper begins a text with its start and ends it; Qwen 2 cuts digits one by one and normalises', async () => {
  const size = Object.keys(vocabularyOf('plain-gpt2')).length;
  const added = { '<|startoftranscript|>': size, '<|notimestamps|>': size + 1 };
  const whisper = await tokenizerFromFolder(
    folderOf('plain-gpt2', { 'tokenizer_config.json': { tokenizer_class: 'WhisperTokenizer' }, 'added_tokens.json': added }, [
      'special_tokens_map.json',
    ]),
  );
  const ids = [...whisper.encode('mill', asPrompt)];
  expect([ids.slice(0, 2), ids.at(-1)]).toEqual([[size, size + 1], size - 1]);
  const [qwen, gpt2] = await Promise.all(
    ['Qwen2Tokenizer', 'GPT2Tokenizer'].map((tokenizer_class) =>
      tokenizerFromFolder(folderOf('plain-gpt2', { 'tokenizer_config.json': { tokenizer_class } })),
    ),
  );
  expect([...qwen.encode('e\u0301', asText)]).toEqual([...gpt2.encode('é', asText)]);
  expect([...qwen.encode('1234', asText)]).toEqual(['1', '2', '3', '4'].flatMap((digit) => [...gpt2.encode(digit, asText)]));
});

test('what the files do not say is refused by name: other classes, a vocabulary without merges, pieces of another numbering', async () => {
  const refused = (golden: string, files: Readonly<Record<string, unknown>>, without: readonly string[] = []) =>
    tokenizerFromFolder(folderOf(golden, files, without)).then(
      () => 'read',
      (error: { code: string; received?: string; message: string }) => [error.code, error.received ?? error.message],
    );
  const ofClass = (tokenizer_class: string) => ({ 'tokenizer_config.json': { tokenizer_class } });
  expect(await refused('plain-gpt2', ofClass('CLIPTokenizer'))).toEqual(['TOKENIZER_INVALID', 'CLIPTokenizer']);
  expect(await refused('plain-bert', ofClass('BertJapaneseTokenizer'))).toEqual(['TOKENIZER_INVALID', 'BertJapaneseTokenizer']);
  expect(await refused('spm-xlmr', ofClass('CamembertTokenizer'))).toEqual(['TOKENIZER_INVALID', 'CamembertTokenizer']);
  expect(await refused('spm-xlmr', { 'config.json': { model_type: 'mbart' } })).toEqual(['TOKENIZER_INVALID', 'mbart']);
  expect(await refused('plain-gpt2', {}, ['merges.txt'])).toEqual(['TOKENIZER_INVALID', expect.stringContaining('merges.txt')]);
  expect(await refused('plain-gpt2', { 'vocab.json': ['a'] })).toEqual(['TOKENIZER_INVALID', expect.stringContaining('vocab.json')]);
  const far = { added_tokens_decoder: { 4000000: { content: '<far>', special: true } } };
  expect(await refused('spm-bpe', { 'tokenizer_config.json': far })).toEqual(['TOKENIZER_INVALID', '4000000']);
});
