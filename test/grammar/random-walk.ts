/** Texts drawn under the masks of a grammar, as a model that knows nothing would write them. */
import { expect } from 'vitest';
import type { CompiledGrammar } from '../../src/sampling/grammar/matcher.ts';
import { VocabularyTrie } from '../../src/sampling/grammar/vocabulary-trie.ts';
import { ByteTokenizer } from '../../src/tokenizer/byte-tokenizer.ts';

const EOS = 299;
const VOCAB_SIZE = 320;
/** Ids from 256 on are words such as " 256": a vocabulary with tokens of several bytes. */
export const trie = new VocabularyTrie(new ByteTokenizer(EOS), VOCAB_SIZE, [EOS]);

/** Numbers of [0, 1), the same for the same seed. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** A text drawn under the mask, or null where it was not whole after `limit` tokens; closing characters are preferred when it grows long. */
export function walk(grammar: CompiledGrammar, draw: () => number, limit = 400): string | null {
  const matcher = grammar.matcher();
  const row = new Uint32Array(trie.numWords);
  const bytes: number[] = [];
  for (let i = 0; i < limit; i++) {
    if (matcher.isFinished) break;
    matcher.fillMask(row);
    const allowed = Array.from({ length: VOCAB_SIZE }, (_, id) => id).filter((id) => (row[id >>> 5] >>> (id & 31)) & 1);
    expect(allowed.length).toBeGreaterThan(0);
    const closing = i > 40 ? allowed.filter((id) => id === EOS || '"]},:0'.includes(String.fromCharCode(id))) : [];
    const pool = closing.length > 0 && draw() < 0.8 ? closing : allowed;
    const id = pool[Math.floor(draw() * pool.length)];
    expect(matcher.accept(id)).toBe(true);
    if (id !== EOS) bytes.push(...trie.tokenBytes(id));
  }
  return matcher.isFinished ? Buffer.from(bytes).toString() : null;
}
