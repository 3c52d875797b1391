/** Grammars of structured outputs, compiled once for all requests that ask for the same. */
import { KeptMemory } from '../sampling/grammar/kept-memory.ts';
import { grammarLimits } from '../sampling/grammar/limits.ts';
import { CompiledGrammar, type GrammarMatcher } from '../sampling/grammar/matcher.ts';
import { type StructuredOutput, structuredOutputKey } from '../sampling/grammar/structured-output.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { GrammarCompiler } from './compile-grammar.ts';
import { VocabularyLoader } from './load-vocabulary.ts';

const MAX_GRAMMARS = 32;

export class GrammarCache {
  /** Least recently asked for first. */
  readonly #grammars = new Map<string, Promise<CompiledGrammar>>();
  readonly #compiler = new GrammarCompiler();
  readonly #vocabulary: VocabularyLoader;
  readonly #memory = new KeptMemory(grammarLimits.keptBytes);

  constructor(tokenizer: Tokenizer, vocabSize: number, eosTokenIds: readonly number[], tagTokenIds: readonly number[] = []) {
    this.#vocabulary = new VocabularyLoader({ tokenizer, vocabSize, eosTokenIds, tagTokenIds });
  }

  /** @returns a matcher at the beginning for each choice. @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE */
  async matchers(wanted: StructuredOutput, count: number): Promise<GrammarMatcher[]> {
    const key = structuredOutputKey(wanted);
    const compiled = this.#grammars.get(key) ?? this.#compiled(wanted, key);
    this.#grammars.delete(key);
    this.#grammars.set(key, compiled);
    for (const oldest of this.#grammars.keys()) {
      if (this.#grammars.size <= MAX_GRAMMARS) break;
      void this.#grammars.get(oldest)?.then(
        ({ automaton }) => this.#memory.release(automaton),
        () => undefined,
      );
      this.#grammars.delete(oldest);
    }
    const shared = await compiled;
    return Array.from({ length: count }, () => shared.matcher());
  }

  /** One that fails is forgotten: it is asked for again when somebody asks again. */
  #compiled(wanted: StructuredOutput, key: string): Promise<CompiledGrammar> {
    const compiled = this.#compileWithVocabulary(wanted, key);
    compiled.catch(() => {
      if (this.#grammars.get(key) === compiled) this.#grammars.delete(key);
    });
    return compiled;
  }

  async #compileWithVocabulary(wanted: StructuredOutput, key: string): Promise<CompiledGrammar> {
    const vocabulary = this.#vocabulary.load();
    vocabulary.catch(() => undefined); // a grammar that is refused is told of first
    const grammar = await this.#compiler.compile(wanted, key.length);
    return new CompiledGrammar(grammar, await vocabulary, this.#memory);
  }

  close(): void {
    this.#vocabulary.close();
    this.#compiler.close();
  }
}
