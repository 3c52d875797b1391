import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadTokenizer, tokenizerKinds, tokenizerVectors } from '../../test/fixtures/tokenizers.ts';

const plain = { addSpecialTokens: false, parseSpecial: false };
const withSpecial = { addSpecialTokens: true, parseSpecial: true };
const anyText = fc.oneof(fc.string({ unit: 'binary', maxLength: 60 }), fc.string({ unit: 'grapheme', maxLength: 60 }), fc.lorem());

describe.each(tokenizerKinds)('the %s tokenizer', async (kind) => {
  const tokenizer = await loadTokenizer(kind);
  /** SentencePiece writes a space as `▁`, and so reads a `▁` as a space. */
  const readable = (text: string): string => (kind === 'sentencepiece' ? text.replaceAll('▁', ' ') : text);

  test.each(tokenizerVectors(kind))('gives the ids of the Rust library for $text', ({ text, ids, idsWithSpecial, decoded }) => {
    expect([...tokenizer.encode(text, plain)]).toEqual(ids);
    expect([...tokenizer.encode(text, withSpecial)]).toEqual(idsWithSpecial);
    expect(tokenizer.decode(idsWithSpecial)).toBe(decoded);
  });

  test('decodes what it encoded, for any text', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(tokenizer.decode(tokenizer.encode(text, plain))).toBe(readable(text));
      }),
      { numRuns: 300 },
    );
  });

  test('never gives a special token for plain text, however it spells one', () => {
    const spellings = [...tokenizer.specialTokenIds].map((id) => tokenizer.tokenText(id));
    const hostile = fc.array(fc.oneof(fc.constantFrom(...spellings), fc.constantFrom('<', '|', '>', 's', ' ', '▁'), fc.string({ maxLength: 4 })), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(hostile, (parts) => {
        const text = parts.join('');
        const ids = tokenizer.encode(text, plain);
        expect([...ids].filter((id) => tokenizer.specialTokenIds.has(id) && tokenizer.tokenText(id) !== '<unk>')).toEqual([]);
        expect(tokenizer.decode(ids)).toBe(readable(text));
      }),
      { numRuns: 300 },
    );
  });

  test('recognises special tokens where told, but not in literal ranges', () => {
    const special = tokenizer.tokenText(tokenizer.eosTokenIds[0]);
    const text = `a${special}b${special}c`;
    const second = text.lastIndexOf(special);
    const count = (ids: Int32Array): number => ids.filter((id) => id === tokenizer.eosTokenIds[0]).length;
    expect(count(tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: true }))).toBe(2);
    for (const range of [
      [second, second + special.length] as const,
      [second + 1, second + 2] as const,
      [second + special.length - 1, second + special.length + 1] as const,
    ]) {
      const ids = tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: true, literalRanges: [range] });
      expect(count(ids)).toBe(1);
    }
  });

  test('knows the bytes of every token: those of a text are those of its tokens', () => {
    const text = 'The wheel 🙂 ü 水\n\tend';
    const bytes = [...tokenizer.encode(text, plain)].flatMap((id) => [...tokenizer.tokenBytes(id)]);
    const prefix = tokenizer.stripsLeadingSpace ? ' ' : '';
    expect(Buffer.from(bytes).toString('utf8')).toBe(prefix + text);
  });

  test('finds every token by its spelling, and nothing outside the vocabulary', () => {
    for (let id = 0; id < tokenizer.vocabSize; id++) expect(tokenizer.tokenId(tokenizer.tokenText(id))).toBe(id);
    expect(tokenizer.tokenId('no such token')).toBeUndefined();
    expect(tokenizer.tokenId('')).toBeUndefined();
    expect(tokenizer.tokenText(-1)).toBe('');
    expect(tokenizer.tokenBytes(tokenizer.vocabSize)).toHaveLength(0);
    expect(tokenizer.decode([-1, tokenizer.vocabSize, Number.NaN])).toBe('');
  });
});

test('byte fallback writes characters outside the vocabulary as their bytes', async () => {
  const tokenizer = await loadTokenizer('sentencepiece');
  const ids = [...tokenizer.encode('水', plain)];
  expect(ids.map((id) => tokenizer.tokenText(id))).toEqual(['▁', '<0xE6>', '<0xB0>', '<0xB4>']);
  expect([...tokenizer.tokenBytes(ids[1])]).toEqual([0xe6]);
});

test('an added token that is not special is recognised in plain text as well', async () => {
  const tokenizer = await loadTokenizer('byte-level');
  const id = tokenizer.tokenId('<tool>');
  expect([...tokenizer.encode('a<tool>b', plain)]).toContain(id);
});

test('a text of absurd length is refused', async () => {
  const tokenizer = await loadTokenizer('byte-level');
  expect(() => tokenizer.encode('x'.repeat((1 << 24) + 1), plain)).toThrow(expect.objectContaining({ code: 'PROMPT_TOO_LONG' }));
});
