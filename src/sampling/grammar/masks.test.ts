/** Masks against the definition: a token may follow where the automaton reads all its bytes. */
import { expect, test } from 'vitest';
import { loadTokenizer } from '../../../test/fixtures/tokenizers.ts';
import { compileJsonSchema } from './json-schema.ts';
import { CompiledGrammar } from './matcher.ts';
import { compileRegex } from './structured-output.ts';
import { VocabularyTrie } from './vocabulary-trie.ts';

const tries = await Promise.all(
  (['byte-level', 'sentencepiece'] as const).map(async (kind) => {
    const tokenizer = await loadTokenizer(kind);
    return new VocabularyTrie(tokenizer, tokenizer.vocabSize, tokenizer.eosTokenIds);
  }),
);

const grammars = [
  ['strings of any length', () => compileJsonSchema({ type: 'string' }, { compact: false }), ['"a', '"', '"\\']],
  ['strings of bounded length', () => compileJsonSchema({ type: 'string', maxLength: 5 }, { compact: false }), ['"', '"ab', '"abcd', '"é', '"abcde']],
  [
    'strings of a least length',
    () => compileJsonSchema({ type: 'string', minLength: 3, maxLength: 70 }, { compact: false }),
    ['"', '"ab', '"abcdef'],
  ],
  ['names that are not declared', () => compileJsonSchema({ properties: { name: {}, once: {} } }, { compact: false }), ['{"', '{"n', '{"on', '{"x']],
  ['words of letters', () => compileRegex('[a-z]+( [a-z]{2,6}){0,3}'), ['', 'on', 'on ', 'on th', 'on the l']],
  ['counted letters and digits', () => compileRegex('[a-zA-Z0-9_]{1,7}!'), ['', 'a', 'abcdef', 'abcdefg']],
  [
    'a pattern with length',
    () => compileJsonSchema({ type: 'string', pattern: '^[a-zA-Z ]*$', maxLength: 9 }, { compact: false }),
    ['"', '"abc', '"abcdefgh'],
  ],
  ['all but some letters', () => compileRegex('[^xyz]{0,4}|x[^a]*'), ['', 'ab', 'x', 'abcd']],
  ['addresses', () => compileJsonSchema({ type: 'string', format: 'uri' }, { compact: false }), ['"', '"http', '"http://a', '"http://a.b/c?']],
  [
    'a search with a bound',
    () => compileJsonSchema({ type: 'string', pattern: 'on', maxLength: 5 }, { compact: false }),
    ['"', '"ab', '"abc', '"on', '"onabc'],
  ],
  [
    'a search for several',
    () => compileJsonSchema({ type: 'string', pattern: '(the|\\d{3})' }, { compact: false }),
    ['"', '"t', '"th', '"12', '"the'],
  ],
  ['parts between slashes', () => compileJsonSchema({ type: 'string', pattern: '^(/[^/\\s]+)+$' }, { compact: false }), ['"', '"/', '"/ab', '"/ab/']],
  [
    'escapes in a pattern',
    () => compileJsonSchema({ type: 'string', pattern: '^([a-z ]|%[0-9a-f]{2})*$' }, { compact: false }),
    ['"', '"a', '"a%', '"a%0'],
  ],
  ['lines', () => compileRegex('(\\t?[^\\n]{0,6}\\n)*'), ['', 'ab', '\tabc', 'abcdef']],
  ['words of other scripts', () => compileRegex('[é-ÿa-z]{2,5}[Ā-\\u{10ffff}]*'), ['', 'é', 'ab', 'abcdé']],
  ['anything', () => compileJsonSchema({}, { compact: false }), ['', '{"a": [1, "', '{"a": ', '[[']],
] as const;

test.each(grammars)('%s: a mask allows exactly the tokens whose bytes may follow', (_, compile, texts) => {
  for (const trie of tries) {
    for (const text of texts) {
      const grammar = new CompiledGrammar(compile(), trie);
      const state = grammar.read(grammar.automaton.start, Buffer.from(text));
      if (state === null) throw new Error(`${text} cannot be read`);
      const mask = grammar.maskOf(state);
      const wrong: string[] = [];
      for (let id = 0; id < trie.vocabSize; id++) {
        const isEnd = trie.eosTokenIds.includes(id);
        const expected = isEnd ? state.isAccepting : trie.isUsable(id) && grammar.read(state, trie.tokenBytes(id)) !== null;
        if (((mask[id >>> 5] >>> (id & 31)) & 1) !== Number(expected)) wrong.push(Buffer.from(trie.tokenBytes(id)).toString());
      }
      expect(wrong, text).toEqual([]);
    }
  }
});
