/** Grammars of structured outputs, compiled once for all requests that ask for the same. */
import { CompiledGrammar, type GrammarMatcher } from '../sampling/grammar/matcher.ts';
import { type StructuredOutput, structuredOutputKey } from '../sampling/grammar/structured-output.ts';
import { VocabularyTrie } from '../sampling/grammar/vocabulary-trie.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { GrammarCompiler } from './compile-grammar.ts';

const MAX_GRAMMARS = 32;

export class GrammarCache {
  readonly #tokenizer: Tokenizer;
  readonly #vocabSize: number;
  readonly #eosTokenIds: readonly number[];
  /** Least recently asked for first. */
  readonly #grammars = new Map<string, Promise<CompiledGrammar>>();
  readonly #compiler = new GrammarCompiler();
  #trie: VocabularyTrie | null = null;

  constructor(tokenizer: Tokenizer, vocabSize: number, eosTokenIds: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#vocabSize = vocabSize;
    this.#eosTokenIds = eosTokenIds;
  }

  /** @returns a matcher at the beginning for each choice. @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE */
  async matchers(wanted: StructuredOutput, count: number): Promise<GrammarMatcher[]> {
    const key = structuredOutputKey(wanted);
    const compiled = this.#grammars.get(key) ?? this.#compiled(wanted, key);
    this.#grammars.delete(key);
    this.#grammars.set(key, compiled);
    for (const oldest of this.#grammars.keys()) {
      if (this.#grammars.size <= MAX_GRAMMARS) break;
      this.#grammars.delete(oldest);
    }
    const shared = await compiled;
    return Array.from({ length: count }, () => shared.matcher());
  }

  /** One that fails is forgotten: it is asked for again when somebody asks again. */
  #compiled(wanted: StructuredOutput, key: string): Promise<CompiledGrammar> {
    const compiled = this.#compiler.compile(wanted, key.length).then((grammar) => {
      this.#trie ??= new VocabularyTrie(this.#tokenizer, this.#vocabSize, this.#eosTokenIds);
      return new CompiledGrammar(grammar, this.#trie);
    });
    compiled.catch(() => {
      if (this.#grammars.get(key) === compiled) this.#grammars.delete(key);
    });
    return compiled;
  }

  close(): void {
    this.#compiler.close();
  }
}
