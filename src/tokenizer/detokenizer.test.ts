import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadTokenizer, tokenizerKinds } from '../../test/fixtures/tokenizers.ts';
import { IncrementalDetokenizer } from './detokenizer.ts';
import { Utf8Decoder } from './utf8-decoder.ts';

/** Without the mark that SentencePiece reads as a space. */
// U+FFFD stands for what is unfinished, so a text that has one of its own would be ambiguous
const graphemes = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replaceAll('▁', ' ').replaceAll('\ufffd', '?'));
const plain = { addSpecialTokens: false, parseSpecial: false };

describe.each(tokenizerKinds)('the detokenizer over the %s tokenizer', async (kind) => {
  const tokenizer = await loadTokenizer(kind);
  const anyIds = fc.array(fc.nat(tokenizer.vocabSize + 2), { maxLength: 80 });

  test('gives out parts that add up to the text of all ids, for any ids', () => {
    fc.assert(
      fc.property(anyIds, fc.boolean(), (ids, skipSpecialTokens) => {
        const detokenizer = new IncrementalDetokenizer(tokenizer, { skipSpecialTokens });
        const text = ids.map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
        expect(text).toBe(tokenizer.decode(ids, { skipSpecialTokens }));
        const bytes = ids.filter((id) => !(skipSpecialTokens && tokenizer.specialTokenIds.has(id))).flatMap((id) => [...tokenizer.tokenBytes(id)]);
        const whole = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
        expect(text).toBe(tokenizer.stripsLeadingSpace && whole.startsWith(' ') ? whole.slice(1) : whole);
      }),
      { numRuns: 500 },
    );
  });

  test('never gives out half a character', () => {
    fc.assert(
      fc.property(graphemes, (text) => {
        const detokenizer = new IncrementalDetokenizer(tokenizer);
        const parts = [...tokenizer.encode(text, plain)].map((id) => detokenizer.push(id));
        expect(parts.join('')).toBe(text);
        expect(detokenizer.flush()).toBe('');
        for (const part of parts) expect(part).not.toMatch(/\p{Surrogate}/u);
      }),
      { numRuns: 300 },
    );
  });

  test('continues a prompt: the text of prompt and output is the text of all ids', () => {
    fc.assert(
      fc.property(graphemes, fc.nat(), (text, at) => {
        const ids = tokenizer.encode(text, plain);
        const cut = at % (ids.length + 1);
        const prompt = tokenizer.decode(ids.subarray(0, cut)).replace(/\ufffd$/, '');
        const detokenizer = new IncrementalDetokenizer(tokenizer, { promptTokenIds: ids.subarray(0, cut) });
        const output = [...ids.subarray(cut)].map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
        expect(prompt + output).toBe(text);
      }),
      { numRuns: 300 },
    );
  });

  test('leaves special tokens out unless told to show them', () => {
    const [eos] = tokenizer.eosTokenIds;
    const ids = [...tokenizer.encode('wheel', plain), eos];
    expect(tokenizer.decode(ids)).toBe('wheel');
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(`wheel${tokenizer.tokenText(eos)}`);
  });
});

test('a leading space is dropped at the start of a text and kept behind a prompt', async () => {
  const tokenizer = await loadTokenizer('sentencepiece');
  const [the] = tokenizer.encode('the', plain);
  expect(tokenizer.tokenText(the)).toBe('▁the');
  expect(tokenizer.decode([the, the])).toBe('the the');
  expect(new IncrementalDetokenizer(tokenizer, { promptTokenIds: [1] }).push(the)).toBe('the');
  expect(new IncrementalDetokenizer(tokenizer, { promptTokenIds: [1, the] }).push(the)).toBe(' the');
});

test('UTF-8 in any cuts decodes as the platform decodes the whole', () => {
  const fragments = fc.constantFrom(
    [0x41],
    [0xc3, 0xa9],
    [0xe6, 0xb0, 0xb4],
    [0xf0, 0x9f, 0x99, 0x82],
    [0xed, 0xa0, 0x80],
    [0xf4, 0x90],
    [0xe0, 0x80],
    [0xc0],
    [0xff],
    [0x80],
    [0xf0, 0x9f],
    [0xef, 0xbb, 0xbf],
  );
  const parts = fc.array(fc.oneof(fragments, fc.array(fc.nat(255), { maxLength: 5 })), { maxLength: 20 });
  fc.assert(
    fc.property(parts, (cuts) => {
      const decoder = new Utf8Decoder();
      const text = cuts.map((part) => decoder.push(Uint8Array.from(part))).join('') + decoder.flush();
      expect(text).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(cuts.flat())));
    }),
    { numRuns: 1000 },
  );
});
