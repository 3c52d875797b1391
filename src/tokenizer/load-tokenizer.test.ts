import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { loadTokenizer, readTokenizerFile, type TokenizerKind, tokenizerKinds, tokenizerVectors } from '../../test/fixtures/tokenizers.ts';
import { tokenizerFromFolder, tokenizerFromGguf } from './load-tokenizer.ts';
import type { Tokenizer } from './tokenizer.ts';

const plain = { addSpecialTokens: false, parseSpecial: false };
const withSpecial = { addSpecialTokens: true, parseSpecial: true };

interface Json {
  added_tokens: { id: number; content: string; special: boolean }[];
  model: { vocab: Record<string, number>; merges: ([string, string] | string)[]; [key: string]: unknown };
  [key: string]: unknown;
}
const readJson = (kind: TokenizerKind): Json => readTokenizerFile(kind, 'tokenizer.json') as Json;

/** Spellings by id, with the added ones. */
function tokensOf(json: Json): string[] {
  const tokens: string[] = [];
  for (const [token, id] of [...Object.entries(json.model.vocab), ...json.added_tokens.map(({ content, id }): [string, number] => [content, id])])
    tokens[id] = token;
  return tokens;
}

/** The metadata that a GGUF file of the byte-level test tokenizer has. */
function byteLevelMetadata(): Map<string, unknown> {
  const json = readJson('byte-level');
  const tokens = tokensOf(json);
  const types = tokens
    .map((_, id) => json.added_tokens.find((token) => token.id === id))
    .map((added) => (added === undefined ? 1 : added.special ? 3 : 4));
  return new Map<string, unknown>([
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', 'llama-bpe'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.token_type', Int32Array.from(types)],
    ['tokenizer.ggml.merges', json.model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' ')))],
    ['tokenizer.ggml.bos_token_id', tokens.indexOf('<|begin|>')],
    ['tokenizer.ggml.eos_token_id', BigInt(tokens.indexOf('<|im_end|>'))],
  ]);
}

/** Pieces of the SentencePiece test tokenizer with scores in the order in which they were learnt. */
function pieces(): { token: string; score: number; type: number }[] {
  return tokensOf(readJson('sentencepiece')).map((token, id) => ({
    token,
    score: id < 259 ? 0 : 259 - id,
    type: id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1,
  }));
}

function sentencePieceMetadata(): Map<string, unknown> {
  return new Map<string, unknown>([
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.tokens', pieces().map(({ token }) => token)],
    ['tokenizer.ggml.scores', Float32Array.from(pieces(), ({ score }) => score)],
    ['tokenizer.ggml.token_type', pieces().map(({ type }) => type)],
    ['tokenizer.ggml.bos_token_id', 1],
    ['tokenizer.ggml.eos_token_id', 2],
  ]);
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(Math.floor(value / 0x80))];
}
const lengthDelimited = (field: number, bytes: readonly number[]): number[] => [...varint(field * 8 + 2), ...varint(bytes.length), ...bytes];

/** A `tokenizer.model` file: pieces, trainer (BPE), normalizer. */
function sentencePieceModel(modelType = 2): Buffer {
  const entries = pieces().map(({ token, score, type }) => {
    const float = Buffer.alloc(4);
    float.writeFloatLE(score);
    return lengthDelimited(1, [...lengthDelimited(1, [...Buffer.from(token)]), 2 * 8 + 5, ...float, 3 * 8, type]);
  });
  return Buffer.from([
    ...entries.flat(),
    ...lengthDelimited(2, [3 * 8, modelType, ...varint(35 * 8), 1]),
    ...lengthDelimited(3, [...lengthDelimited(1, [0x78]), 3 * 8, 1, 4 * 8, 0]),
  ]);
}

const folder = mkdtempSync(join(tmpdir(), 'millrace-tokenizer-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(files: Record<string, unknown>): string {
  const dir = mkdtempSync(join(folder, 'model-'));
  for (const [name, content] of Object.entries(files))
    writeFileSync(join(dir, name), Buffer.isBuffer(content) || typeof content === 'string' ? content : JSON.stringify(content));
  return dir;
}

describe('a tokenizer from GGUF metadata', () => {
  test('of the byte-level kind gives the same ids as from tokenizer.json', () => {
    const tokenizer = tokenizerFromGguf(byteLevelMetadata());
    for (const { text, ids, idsWithSpecial, decoded } of tokenizerVectors('byte-level')) {
      expect([...tokenizer.encode(text, plain)]).toEqual(ids);
      expect([...tokenizer.encode(text, withSpecial)]).toEqual(idsWithSpecial);
      expect(tokenizer.decode(idsWithSpecial)).toBe(decoded);
    }
    expect(tokenizer.eosTokenIds.map((id) => tokenizer.tokenText(id))).toEqual(['<|im_end|>']);
  });

  test('of the SentencePiece kind gives the same ids as from tokenizer.json', () => {
    const tokenizer = tokenizerFromGguf(sentencePieceMetadata());
    for (const { text, ids, idsWithSpecial } of tokenizerVectors('sentencepiece')) {
      expect([...tokenizer.encode(text, plain)]).toEqual(ids);
      expect([...tokenizer.encode(text, withSpecial)]).toEqual(idsWithSpecial);
    }
    expect(tokenizer).toMatchObject({ bosTokenId: 1, eosTokenIds: [2], stripsLeadingSpace: true });
  });

  test('adds BOS and EOS and the space in front as the file says', () => {
    const base = Object.fromEntries(sentencePieceMetadata());
    const bare = tokenizerFromGguf({
      ...base,
      'tokenizer.ggml.add_bos_token': false,
      'tokenizer.ggml.add_eos_token': true,
      'tokenizer.ggml.add_space_prefix': false,
    });
    const ids = [...bare.encode('the', { addSpecialTokens: true, parseSpecial: false })];
    expect(ids.map((id) => bare.tokenText(id)).join('|')).toMatch(/^t.*\|<\/s>$/);
    expect(bare.stripsLeadingSpace).toBe(false);
  });

  test('takes every control token that ends a turn as an end, and ids given beside', () => {
    const metadata = byteLevelMetadata();
    metadata.set('tokenizer.ggml.eos_token_id', metadata.get('tokenizer.ggml.bos_token_id'));
    const tokenizer = tokenizerFromGguf(metadata, [5]);
    expect(tokenizer.eosTokenIds.map((id) => tokenizer.tokenText(id))).toEqual(['<|begin|>', '<|im_end|>', tokenizer.tokenText(5)]);
  });

  test.each<[string, Record<string, unknown>]>([
    ['no tokens', { 'tokenizer.ggml.tokens': undefined }],
    ['tokens that are not strings', { 'tokenizer.ggml.tokens': [1, 2, 3] }],
    ['an unknown kind', { 'tokenizer.ggml.model': 'rwkv' }],
    ['an unknown pre-tokenizer', { 'tokenizer.ggml.pre': 'made-up' }],
    ['types of another length', { 'tokenizer.ggml.token_type': [1, 2] }],
    ['types that are not numbers', { 'tokenizer.ggml.token_type': 'normal' }],
    ['a BOS outside the vocabulary', { 'tokenizer.ggml.bos_token_id': 1e6 }],
    ['an EOS that is not an integer', { 'tokenizer.ggml.eos_token_id': 1.5 }],
    ['no merges', { 'tokenizer.ggml.merges': undefined }],
    ['a merge that is no pair', { 'tokenizer.ggml.merges': ['ab'] }],
  ])('is refused with a clear error: %s', (_, change) => {
    const metadata = { ...Object.fromEntries(byteLevelMetadata()), ...change };
    expect(() => tokenizerFromGguf(metadata)).toThrow(expect.objectContaining({ code: 'TOKENIZER_INVALID' }));
  });
});

describe('a tokenizer from a folder', () => {
  test('with only tokenizer.model gives the same ids as from tokenizer.json', async () => {
    const tokenizer = await tokenizerFromFolder(write({ 'tokenizer.model': sentencePieceModel() }));
    for (const { text, ids, idsWithSpecial } of tokenizerVectors('sentencepiece')) {
      expect([...tokenizer.encode(text, plain)]).toEqual(ids);
      expect([...tokenizer.encode(text, withSpecial)]).toEqual(idsWithSpecial);
    }
  });

  test('collects end ids from the tokenizer, generation_config.json and the caller', async () => {
    const dir = write({
      'tokenizer.json': readJson('byte-level'),
      'tokenizer_config.json': { eos_token: { content: '<|im_end|>' } },
      'generation_config.json': { eos_token_id: [3, 4] },
    });
    const tokenizer = await tokenizerFromFolder(dir, [4, 9]);
    expect([...tokenizer.eosTokenIds].sort((a, b) => a - b)).toEqual([3, 4, 9, tokenizer.tokenId('<|im_end|>')]);
  });

  test('lets tokenizer_config.json decide over BOS and EOS for the classes that do so', async () => {
    const config = { ...(readTokenizerFile('sentencepiece', 'tokenizer_config.json') as object), add_bos_token: false, add_eos_token: true };
    const tokenizer = await tokenizerFromFolder(write({ 'tokenizer.json': readJson('sentencepiece'), 'tokenizer_config.json': config }));
    const ids = tokenizer.encode('the', { addSpecialTokens: true, parseSpecial: false });
    expect([ids[0] === 1, ids.at(-1)]).toEqual([false, 2]);
  });

  test('treats tokens that tokenizer_config.json names as special, even when tokenizer.json does not', async () => {
    const json = readJson('byte-level');
    for (const token of json.added_tokens) token.special = false;
    const config = { bos_token: '<|begin|>', eos_token: '<|im_end|>', additional_special_tokens: ['<|im_start|>'] };
    const tokenizer = await tokenizerFromFolder(write({ 'tokenizer.json': json, 'tokenizer_config.json': config }));
    expect([...tokenizer.specialTokenIds].map((id) => tokenizer.tokenText(id)).sort()).toEqual(['<|begin|>', '<|im_end|>', '<|im_start|>']);
  });

  test('adds tokens that only tokenizer_config.json has', async () => {
    const id = (await loadTokenizer('byte-level')).vocabSize;
    const config = { added_tokens_decoder: { [id]: { content: '<|new|>', special: true } } };
    const tokenizer = await tokenizerFromFolder(write({ 'tokenizer.json': readJson('byte-level'), 'tokenizer_config.json': config }));
    expect([...tokenizer.encode('<|new|>', withSpecial)].slice(1)).toEqual([id]);
  });

  test.each<[string, (json: Json) => unknown]>([
    ['not an object', () => []],
    ['no model', (json) => ({ ...json, model: undefined })],
    ['a model of another kind', (json) => ({ ...json, model: { type: 'MadeUp', vocab: [['a', 0]] } })],
    ['a vocabulary that is a list', (json) => ({ ...json, model: { ...json.model, vocab: ['a'] } })],
    ['an empty vocabulary', (json) => ({ ...json, added_tokens: [], model: { ...json.model, vocab: {}, merges: [] } })],
    ['a huge id', (json) => ({ ...json, model: { ...json.model, vocab: { ...json.model.vocab, q: 4e9 } } })],
    ['a negative id', (json) => ({ ...json, model: { ...json.model, vocab: { ...json.model.vocab, q: -1 } } })],
    ['an id given twice', (json) => ({ ...json, model: { ...json.model, vocab: { ...json.model.vocab, twice: 5 } } })],
    ['an endless spelling', (json) => ({ ...json, model: { ...json.model, vocab: { ...json.model.vocab, ['x'.repeat(20_000)]: 900 } } })],
    ['merges that are no list', (json) => ({ ...json, model: { ...json.model, merges: 7 } })],
    ['a merge of three', (json) => ({ ...json, model: { ...json.model, merges: [['a', 'b', 'c']] } })],
    ['a merge of unknown tokens', (json) => ({ ...json, model: { ...json.model, merges: [['no such', 'token']] } })],
    ['an added token without id', (json) => ({ ...json, added_tokens: [{ content: 'x' }] })],
    ['an unknown pre-tokenizer', (json) => ({ ...json, pre_tokenizer: { type: 'MadeUp' } })],
    ['a pre-tokenizer without type', (json) => ({ ...json, pre_tokenizer: {} })],
    ['a pattern that is missing', (json) => ({ ...json, pre_tokenizer: { type: 'Split', behavior: 'Isolated' } })],
    ['a pattern that does not compile', (json) => ({ ...json, pre_tokenizer: { type: 'Split', behavior: 'Isolated', pattern: { Regex: '(((' } } })],
    ['an unknown normalizer', (json) => ({ ...json, normalizer: { type: 'MadeUp' } })],
    ['an unknown decoder', (json) => ({ ...json, decoder: { type: 'CTC' } })],
    ['a post-processor that drops the text', (json) => ({ ...json, post_processor: { type: 'TemplateProcessing', single: [], pair: [] } })],
    ['a post-processor that is malformed', (json) => ({ ...json, post_processor: { type: 'TemplateProcessing', single: 3 } })],
    [
      'a post-processor with an unknown token',
      (json) => ({ ...json, post_processor: { type: 'BertProcessing', cls: ['nope', 1], sep: ['nope', 2] } }),
    ],
  ])('is refused with a clear error: %s', async (_, change) => {
    await expect(tokenizerFromFolder(write({ 'tokenizer.json': change(readJson('byte-level')) }))).rejects.toMatchObject({
      code: 'TOKENIZER_INVALID',
    });
  });

  test('that nests its parts absurdly deep is refused rather than overflowing the stack', async () => {
    const deep = (open: string, close: string): string => open.repeat(20_000) + close.repeat(20_000);
    const json = JSON.stringify({ ...readJson('byte-level'), normalizer: 0 });
    for (const text of [json.replace('"normalizer":0', `"normalizer":${deep('{"type":"Sequence","normalizers":[', ']}')}`), deep('[', ']')]) {
      await expect(tokenizerFromFolder(write({ 'tokenizer.json': text }))).rejects.toMatchObject({ code: 'TOKENIZER_INVALID' });
    }
  });

  test.each<[string, Record<string, unknown>]>([
    ['no tokenizer', { 'config.json': {} }],
    ['broken JSON', { 'tokenizer.json': '{"model": ' }],
    ['a broken configuration', { 'tokenizer.json': readJson('byte-level'), 'tokenizer_config.json': '{' }],
    ['a truncated tokenizer.model', { 'tokenizer.model': sentencePieceModel().subarray(0, 3001) }],
    ['a tokenizer.model of another kind', { 'tokenizer.model': sentencePieceModel(3) }],
    ['an empty tokenizer.model', { 'tokenizer.model': '' }],
    ['a tokenizer.model that is something else', { 'tokenizer.model': Buffer.from('{"not": "a protobuf"}') }],
  ])('that holds %s is refused with a clear error', async (_, files) => {
    await expect(tokenizerFromFolder(write(files))).rejects.toMatchObject({ code: 'TOKENIZER_INVALID' });
  });
});

test('a tokenizer.model with any bytes changed is read or refused with a clear error', async () => {
  const dir = write({});
  const original = sentencePieceModel();
  const changes = fc.array(fc.tuple(fc.nat(original.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(changes, fc.nat(original.length), async (bytes, length) => {
      const changed = Buffer.from(original);
      for (const [at, byte] of bytes) changed[at] = byte;
      writeFileSync(join(dir, 'tokenizer.model'), length % 2 === 0 ? changed : changed.subarray(0, length));
      const tokenizer = await tokenizerFromFolder(dir).catch((thrown: unknown) => thrown);
      if (tokenizer instanceof Error) expect(tokenizer).toMatchObject({ code: 'TOKENIZER_INVALID' });
      else expect((tokenizer as Tokenizer).encode('the mill', plain)).toBeInstanceOf(Int32Array);
    }),
    { numRuns: 150 },
  );
});

test('a tokenizer.json with any one value exchanged is read or refused with a clear error', async () => {
  const dir = write({});
  const junk = fc.constantFrom<unknown>(
    null,
    true,
    -1,
    1e99,
    '',
    'x',
    [],
    {},
    [[]],
    { type: 'Sequence' },
    { type: 'Split', pattern: { Regex: '[' } },
  );
  const paths = [
    'version',
    'added_tokens',
    'normalizer',
    'pre_tokenizer',
    'post_processor',
    'decoder',
    'model',
    'model.type',
    'model.vocab',
    'model.merges',
    'model.unk_token',
  ];
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...tokenizerKinds), fc.constantFrom(...paths), junk, async (kind, path, value) => {
      const json = readJson(kind) as unknown as Record<string, Record<string, unknown>>;
      const [outer, inner] = path.split('.');
      if (inner === undefined) json[outer] = value as Record<string, unknown>;
      else json[outer][inner] = value;
      writeFileSync(join(dir, 'tokenizer.json'), JSON.stringify(json));
      const tokenizer = await tokenizerFromFolder(dir).catch((thrown: unknown) => thrown);
      if (tokenizer instanceof Error) expect(tokenizer).toMatchObject({ code: 'TOKENIZER_INVALID' });
      else expect((tokenizer as Tokenizer).encode('the mill', plain)).toBeInstanceOf(Int32Array);
    }),
    { numRuns: 200 },
  );
});

test('a Metaspace pre-tokenizer marks spaces and cuts before them, once at the start or always', async () => {
  const json = readJson('sentencepiece');
  const ids = async (scheme: string, text: string): Promise<string[]> => {
    const pre = { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split: true };
    const dir = write({ 'tokenizer.json': { ...json, normalizer: null, pre_tokenizer: pre, post_processor: null }, 'tokenizer_config.json': {} });
    const tokenizer = await tokenizerFromFolder(dir);
    return [...tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: true })].map((id) => tokenizer.tokenText(id));
  };
  expect(await ids('always', 'the</s>the')).toEqual(['▁the', '</s>', '▁the']);
  expect((await ids('first', 'the</s>the')).slice(0, 2)).toEqual(['▁the', '</s>']);
  expect((await ids('first', 'the</s>the')).join('')).toBe('▁the</s>the');
  expect((await ids('never', 'the the')).join('')).toBe('the▁the');
});
