import { expect, test } from 'vitest';
import { ByteTokenizer } from '../../tokenizer/byte-tokenizer.ts';
import { compileJsonSchema } from './json-schema.ts';
import { KeptMemory } from './kept-memory.ts';
import { CompiledGrammar } from './matcher.ts';
import { VocabularyTrie } from './vocabulary-trie.ts';

const trie = new VocabularyTrie(new ByteTokenizer(299), 299, [298]);

test('what all grammars keep stays below one limit, and a grammar that forgot allows the same tokens again', () => {
  const memory = new KeptMemory(60_000);
  const grammars = [1, 2, 3].map(
    (length) =>
      new CompiledGrammar(compileJsonSchema({ type: 'array', items: { type: 'string', maxLength: 50 * length } }, { compact: false }), trie, memory),
  );
  const masksOf = (grammar: CompiledGrammar): string => {
    const matcher = grammar.matcher();
    const row = new Uint32Array(trie.numWords);
    const seen: string[] = [];
    for (const byte of Buffer.from('["abcdefghijklmnopqrstuvwxyz", "0123456789"]')) {
      matcher.fillMask(row);
      seen.push(row.join());
      expect(matcher.accept(byte)).toBe(true);
      expect(memory.totalBytes).toBeLessThanOrEqual(memory.limitBytes);
    }
    return seen.join(';');
  };
  const first = grammars.map(masksOf);
  expect(grammars.map(({ automaton }) => automaton.numStates).some((count) => count < 10)).toBe(true);
  expect(grammars.map(masksOf)).toEqual(first);
});

test('a keeper that is released is counted no more', () => {
  const memory = new KeptMemory(100);
  const keeper = { forget: () => undefined };
  memory.grow(keeper, 70);
  memory.release(keeper);
  memory.grow({ forget: () => undefined }, 90);
  expect(memory.totalBytes).toBe(90);
});
