/** Grammars of structured outputs, compiled once for all requests that ask for the same. */
import { CompiledGrammar, type GrammarMatcher } from '../sampling/grammar/matcher.ts';
import { compileStructuredOutput, type StructuredOutput, structuredOutputKey } from '../sampling/grammar/structured-output.ts';
import { VocabularyTrie } from '../sampling/grammar/vocabulary-trie.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

const MAX_GRAMMARS = 32;

export class GrammarCache {
  readonly #tokenizer: Tokenizer;
  readonly #vocabSize: number;
  readonly #eosTokenIds: readonly number[];
  /** Least recently asked for first. */
  readonly #grammars = new Map<string, CompiledGrammar>();
  #trie: VocabularyTrie | null = null;

  constructor(tokenizer: Tokenizer, vocabSize: number, eosTokenIds: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#vocabSize = vocabSize;
    this.#eosTokenIds = eosTokenIds;
  }

  /** @returns a matcher at the beginning for each choice. @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE */
  matchers(wanted: StructuredOutput, count: number): GrammarMatcher[] {
    const key = structuredOutputKey(wanted);
    let compiled = this.#grammars.get(key);
    if (compiled === undefined) {
      const grammar = compileStructuredOutput(wanted);
      this.#trie ??= new VocabularyTrie(this.#tokenizer, this.#vocabSize, this.#eosTokenIds);
      compiled = new CompiledGrammar(grammar, this.#trie);
    }
    this.#grammars.delete(key);
    this.#grammars.set(key, compiled);
    for (const oldest of this.#grammars.keys()) {
      if (this.#grammars.size <= MAX_GRAMMARS) break;
      this.#grammars.delete(oldest);
    }
    const shared = compiled;
    return Array.from({ length: count }, () => shared.matcher());
  }
}
