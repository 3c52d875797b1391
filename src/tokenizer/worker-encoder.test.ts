import { afterAll, describe, expect, test } from 'vitest';
import { loadTokenizer, tokenizerKinds } from '../../test/fixtures/tokenizers.ts';
import { definitionFromJson } from './from-json.ts';
import { maxInlineTextLength } from './hf-tokenizer.ts';
import { buildTokenizerData } from './tokenizer-data.ts';
import { WorkerEncoder } from './worker-encoder.ts';

const options = { addSpecialTokens: true, parseSpecial: true };
const story =
  'The wheel turns 🙂 und das Wasser läuft, 水车在河边转动。\n\n    for (let i = 0; i < 10; i++) { turn(wheel[i]); }\t\t<|im_end|></s>\r\n';
const repeat = (text: string, length: number): string => text.repeat(Math.ceil(length / text.length)).slice(0, length);
/** `toEqual` takes seconds on long arrays. */
const expectSameIds = (given: Int32Array, expected: Int32Array): void => {
  expect(given.length).toBe(expected.length);
  expect(given.findIndex((id, i) => id !== expected[i])).toBe(-1);
};
const longTexts: [string, string][] = [
  ['mixed text', repeat(story, 100_000)],
  ['one letter', 'a'.repeat(100_000)],
  ['spaces', ' '.repeat(100_000)],
  ['line breaks', '\n'.repeat(100_000)],
  ['emoji', repeat('🙂', 100_000)],
  ['CJK without spaces', repeat('水车在河边转动', 100_000)],
  ['beginnings of special tokens', repeat('<|im_', 100_000)],
  ['space marks', repeat('▁a', 100_000)],
];

describe.each(tokenizerKinds)('encodeAsync of the %s tokenizer', async (kind) => {
  const tokenizer = await loadTokenizer(kind);
  afterAll(() => tokenizer.close());

  test.each(longTexts)('gives the ids of encode for a long text: %s', async (_, text) => {
    expectSameIds(await tokenizer.encodeAsync(text, options), tokenizer.encode(text, options));
  });

  test('gives the ids of encode around the length from which the worker is used, and with literal ranges', async () => {
    for (let extra = -1; extra <= 1; extra++) {
      const text = repeat(story, maxInlineTextLength + extra);
      for (const more of [{}, { parseSpecial: false }, { literalRanges: [[0, text.length]] as const }]) {
        const given = { ...options, ...more };
        expectSameIds(await tokenizer.encodeAsync(text, given), tokenizer.encode(text, given));
      }
    }
  });
});

test('the event loop turns while a long text is encoded', async () => {
  const tokenizer = await loadTokenizer('sentencepiece');
  // Starts the worker, so that only encoding is looked at.
  await tokenizer.encodeAsync('a'.repeat(maxInlineTextLength + 1), options);
  let turns = 0;
  let running = true;
  const turn = (): void => {
    turns++;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  await tokenizer.encodeAsync('a'.repeat(1_000_000), options);
  running = false;
  // On this thread it would be two or three.
  expect(turns).toBeGreaterThan(20);
  await tokenizer.close();
});

test('many long texts at once are each answered with their own ids', async () => {
  const tokenizer = await loadTokenizer('byte-level');
  const texts = Array.from({ length: 12 }, (_, i) => repeat(`${i} ${story}`, maxInlineTextLength + 1 + i * 100));
  const answers = await Promise.all(texts.map((text) => tokenizer.encodeAsync(text, options)));
  for (const [i, ids] of answers.entries()) expectSameIds(ids, tokenizer.encode(texts[i], options));
  await tokenizer.close();
});

test('closing fails what is under way and everything after it, and may be repeated', async () => {
  const tokenizer = await loadTokenizer('byte-level');
  const long = 'a'.repeat(maxInlineTextLength + 1);
  const underWay = tokenizer.encodeAsync(long, options);
  const failed = expect(underWay).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
  await tokenizer.close();
  await failed;
  await expect(tokenizer.encodeAsync(long, options)).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
  await tokenizer.close();
});

test('a text of absurd length is refused without a worker', async () => {
  const tokenizer = await loadTokenizer('byte-level');
  await expect(tokenizer.encodeAsync('x'.repeat((1 << 24) + 1), options)).rejects.toMatchObject({ code: 'PROMPT_TOO_LONG' });
  await tokenizer.close();
});

test('a text on which the own pattern of a tokenizer takes forever is given up with a code, and those behind it are encoded', async () => {
  const endless = { type: 'Split', pattern: { Regex: '(a|aa)+b' }, behavior: 'Isolated', invert: false };
  const vocab = Object.fromEntries([...'abc'].map((letter, id) => [letter, id]));
  const json = { model: { type: 'BPE', vocab, merges: [] }, added_tokens: [], pre_tokenizer: endless };
  const { encoder: data } = buildTokenizerData(definitionFromJson(json, {}));
  const encoder = new WorkerEncoder(data, 1000);
  const plain = { addSpecialTokens: false, parseSpecial: false };
  const [stuck, after] = [encoder.encode('a'.repeat(200), plain), encoder.encode('abc', plain)];
  await expect(stuck).rejects.toMatchObject({ code: 'PROMPT_TOO_LONG', received: '200 characters' });
  expect([...(await after)]).toEqual([0, 1, 2]);
  expect([...(await encoder.encode('c', plain))]).toEqual([2]);
  await encoder.close();
});
