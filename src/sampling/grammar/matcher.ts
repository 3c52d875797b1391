/** A compiled grammar over one vocabulary, and where one output stands in it. */
import { Automaton, type State } from './automaton.ts';
import { forcedTokenOf } from './forced-tokens.ts';
import type { Grammar } from './grammar.ts';
import type { KeptMemory } from './kept-memory.ts';
import { walk, walkPlain } from './mask-walk.ts';
import { isPlainExact } from './runs.ts';
import { MAX_PLAIN } from './vocabulary-tables.ts';
import type { VocabularyTrie } from './vocabulary-trie.ts';

/** How many tokens can be taken back. */
const MAX_ROLLBACK = 64;

/** Shared by all outputs with this grammar: what one finds out, the others know. */
export class CompiledGrammar {
  readonly automaton: Automaton;
  readonly trie: VocabularyTrie;

  /** @param memory shared with other grammars, see `Automaton` */
  constructor(grammar: Grammar, trie: VocabularyTrie, memory?: KeptMemory) {
    this.automaton = new Automaton(grammar, memory);
    this.trie = trie;
  }

  matcher(): GrammarMatcher {
    return new GrammarMatcher(this);
  }

  /** Whether the bytes are a text of the grammar; for tests. */
  accepts(bytes: Uint8Array): boolean {
    const end = this.read(this.automaton.start, bytes);
    return end?.isAccepting ?? false;
  }

  /** @returns the state behind these bytes, or null */
  read(from: State, bytes: Uint8Array): State | null {
    let state: State | null = from;
    for (let i = 0; i < bytes.length && state !== null; i++) state = this.automaton.next(state, bytes[i]);
    return state;
  }

  /** The one token that may follow, or -1. */
  forcedTokenOf(state: State): number {
    if (state.forcedToken === -2) state.forcedToken = forcedTokenOf(state, this.automaton, this.trie);
    return state.forcedToken;
  }

  /** Words of allowed ids where no token is forced; belongs to the state. */
  maskOf(state: State): Uint32Array {
    if (state.mask !== null) return state.mask;
    const { trie, automaton } = this;
    const mask = this.#plainTokens(state);
    walk(trie.tables.rest, state, automaton, mask);
    if (automaton.grammar.hasControls) walk(trie.tables.controls, state, automaton, mask);
    if (state.isAccepting) for (const id of trie.eosTokenIds) mask[id >>> 5] |= 1 << (id & 31);
    automaton.keepMask(state, mask);
    return mask;
  }

  /** The tokens of plain characters that may follow. */
  #plainTokens(state: State): Uint32Array {
    const { trie, automaton } = this;
    const { plainMasks } = trie.tables;
    if (state.numPlain >= MAX_PLAIN) return plainMasks[MAX_PLAIN].slice();
    if (isPlainExact(state, automaton)) return plainMasks[state.numPlain].slice();
    return walkPlain(trie.tables, state, automaton);
  }
}

export class GrammarMatcher {
  readonly #compiled: CompiledGrammar;
  /** States behind the last tokens, newest last; what is older is forgotten. */
  readonly #states: State[];
  #hasEnded = false;

  constructor(compiled: CompiledGrammar) {
    this.#compiled = compiled;
    this.#states = [compiled.automaton.start];
  }

  /** Nothing may follow: the end token was taken, or the text is complete. */
  get isFinished(): boolean {
    return this.#hasEnded || (this.#state.isAccepting && this.#state.isFinal);
  }

  /** The text may end here. */
  get isAccepting(): boolean {
    return this.#state.isAccepting;
  }

  /** The token that must follow: the mask allows no other. -1 where several may follow or the text may end. @throws GRAMMAR_TOO_LARGE */
  get forcedToken(): number {
    return this.#hasEnded ? -1 : this.#compiled.forcedTokenOf(this.#state);
  }

  /** Writes the ids that may follow: bit `id % 32` of word `id / 32`. @throws GRAMMAR_TOO_LARGE */
  /** @param withholdsEnd leave the end tokens out where the text may also go on */
  fillMask(row: Uint32Array, withholdsEnd = false): void {
    const forced = this.forcedToken;
    if (forced < 0) {
      row.set(this.#compiled.maskOf(this.#state));
      if (withholdsEnd && this.#state.isAccepting) this.#withholdEnd(row);
      return;
    }
    row.fill(0);
    row[forced >>> 5] = 1 << (forced & 31);
  }

  #withholdEnd(row: Uint32Array): void {
    const { eosTokenIds } = this.#compiled.trie;
    for (const id of eosTokenIds) row[id >>> 5] &= ~(1 << (id & 31));
    if (row.some((word) => word !== 0)) return;
    for (const id of eosTokenIds) row[id >>> 5] |= 1 << (id & 31);
  }

  /** @returns false, and stays where it is, when the token may not follow. @throws GRAMMAR_TOO_LARGE */
  accept(tokenId: number): boolean {
    if (this.#hasEnded) return false;
    const { trie } = this.#compiled;
    if (trie.eosTokenIds.includes(tokenId) && (this.#state.isAccepting || !trie.isTag(tokenId))) {
      this.#hasEnded = this.#state.isAccepting;
      return this.#hasEnded;
    }
    const bytes = trie.tokenBytes(tokenId);
    const next = bytes.length === 0 ? null : this.#compiled.read(this.#state, bytes);
    if (next === null) return false;
    this.#states.push(next);
    if (this.#states.length > 2 * MAX_ROLLBACK) this.#states.splice(0, MAX_ROLLBACK);
    return true;
  }

  /** Takes back the last tokens, an end token among them; at most 64. */
  rollback(numTokens: number): void {
    let count = numTokens;
    if (this.#hasEnded && count > 0) {
      this.#hasEnded = false;
      count--;
    }
    this.#states.length = Math.max(1, this.#states.length - count);
  }

  get #state(): State {
    return this.#states[this.#states.length - 1];
  }
}
