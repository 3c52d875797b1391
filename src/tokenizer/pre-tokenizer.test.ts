import { describe, expect, test } from 'vitest';
import { createNormalizer } from './normalizer.ts';
import { createPreTokenizer } from './pre-tokenizer.ts';

const cut = (component: Parameters<typeof createPreTokenizer>[0], text: string, sectionIndex = 0): readonly string[] =>
  createPreTokenizer(component).split(text, sectionIndex);

/** Expected pieces are those of the Rust library. */
describe('a Split pre-tokenizer', () => {
  test.each([
    ['Removed', false, ['a b']],
    ['Removed', true, ['-', '-', '-', '-', '-']],
    ['Isolated', false, ['-', '-', '-', 'a b', '-', '-']],
    ['Isolated', true, ['-', '-', '-', 'a b', '-', '-']],
    ['Contiguous', false, ['---', 'a b', '--']],
    ['Contiguous', true, ['---', 'a b', '--']],
    ['MergedWithPrevious', false, ['-', '-', '-', 'a b-', '-']],
    ['MergedWithPrevious', true, ['-', '-', '-a b', '-', '-']],
    ['MergedWithNext', false, ['-', '-', '-a b', '-', '-']],
    ['MergedWithNext', true, ['-', '-', '-', 'a b-', '-']],
  ])('of behaviour %s, inverted %s, cuts as the Rust library does', (behavior, invert, pieces) => {
    const component = { type: 'Split', pattern: { String: '-' }, behavior, invert };
    expect(cut(component, '---a b--')).toEqual(pieces);
    expect(cut(component, 'abc')).toEqual(behavior === 'Removed' && invert ? [] : ['abc']);
    expect(cut(component, '')).toEqual([]);
  });

  test('of an unknown behaviour is refused', () => {
    expect(() => cut({ type: 'Split', pattern: { String: '-' }, behavior: 'Backwards' }, '')).toThrow(
      expect.objectContaining({ code: 'TOKENIZER_INVALID' }),
    );
  });
});

test.each([
  [{ type: 'Punctuation', behavior: 'Isolated' }, 'Hey, (you)!! $5 ok', ['Hey', ',', ' ', '(', 'you', ')', '!', '!', ' ', '$', '5 ok']],
  [{ type: 'Punctuation', behavior: 'Contiguous' }, 'Hey, (you)!! $5 ok', ['Hey', ',', ' ', '(', 'you', ')!!', ' ', '$', '5 ok']],
  [{ type: 'Digits', individual_digits: true }, 'a12 ½ ٣4b', ['a', '1', '2', ' ', '½', ' ', '٣', '4', 'b']],
  [{ type: 'Digits', individual_digits: false }, 'a12 ½ ٣4b', ['a', '12', ' ', '½', ' ', '٣4', 'b']],
  [{ type: 'Metaspace', prepend_scheme: 'always', split: true }, 'a  b c', ['▁a', '▁', '▁b', '▁c']],
  [{ type: 'Metaspace', prepend_scheme: 'always', split: false }, 'a  b c', ['▁a▁▁b▁c']],
  [{ type: 'Metaspace', prepend_scheme: 'never', split: true }, 'a  b c', ['a', '▁', '▁b', '▁c']],
  [{ type: 'ByteLevel', add_prefix_space: true }, "Hi  there's 12\u0085x\ufeffy", [' Hi', ' ', ' there', "'s", ' 12', '\u0085', 'x', '\ufeff', 'y']],
])('%j cuts as the Rust library does', (component, text, pieces) => {
  expect(cut(component, text)).toEqual(pieces);
});

test('a Metaspace of scheme first marks only the text that starts the input', () => {
  const component = { type: 'Metaspace', prepend_scheme: 'first', split: true };
  expect([cut(component, 'a b'), cut(component, 'a b', 1)]).toEqual([
    ['▁a', '▁b'],
    ['a', '▁b'],
  ]);
});

test('a byte-level stage that is not the last gives its alphabet to the stages behind it', () => {
  const sequence = {
    type: 'Sequence',
    pretokenizers: [
      { type: 'ByteLevel', use_regex: false },
      { type: 'Digits', individual_digits: true },
    ],
  };
  const preTokenizer = createPreTokenizer(sequence);
  expect(preTokenizer.byteLevel).toBe(false);
  expect(preTokenizer.split('é 12', 0)).toEqual(['Ã©Ġ', '1', '2']);
});

test('a normalizer is run by the library, but nothing is put before an empty text', () => {
  const normalize = createNormalizer({ type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Prepend', prepend: '▁' }] });
  expect([normalize('e\u0301'), normalize('')]).toEqual(['▁\u00e9', '']);
  expect(createNormalizer(null)('e\u0301')).toBe('e\u0301');
});
