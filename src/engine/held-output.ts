/** What the next token of one output may be: as its grammar has it, and as its budget of reasoning leaves it. */
import type { ThinkingBudget } from '../chat/thinking-budget.ts';
import type { GrammarMatcher } from '../sampling/grammar/matcher.ts';

export class HeldOutput {
  readonly #grammar: GrammarMatcher | null;
  readonly #thinking: ThinkingBudget | null;

  constructor(grammar: GrammarMatcher | null, thinking: ThinkingBudget | null) {
    this.#grammar = grammar;
    this.#thinking = thinking;
  }

  /** Null where there is nothing to be held to. */
  static of(grammar: GrammarMatcher | null, thinking: ThinkingBudget | null): HeldOutput | null {
    return grammar === null && thinking === null ? null : new HeldOutput(grammar, thinking);
  }

  get hasGrammar(): boolean {
    return this.#grammar !== null;
  }

  /** Anything may come next. */
  get isFree(): boolean {
    if (this.#grammar !== null) return false;
    const { forcedToken = -1, only = null, never = -1 } = this.#thinking ?? {};
    return forcedToken < 0 && only === null && never < 0;
  }

  /** Nothing may follow. */
  get isFinished(): boolean {
    return this.#grammar?.isFinished ?? false;
  }

  /** The token that must follow, or -1. @throws GRAMMAR_TOO_LARGE */
  get forcedToken(): number {
    const forced = this.#thinking?.forcedToken ?? -1;
    return forced >= 0 ? forced : (this.#grammar?.forcedToken ?? -1);
  }

  /** Writes the ids that may follow: bit `id % 32` of word `id / 32`. @throws GRAMMAR_TOO_LARGE */
  fillMask(row: Uint32Array, withholdsEnd = false): void {
    const { forcedToken = -1, only = null, never = -1 } = this.#thinking ?? {};
    if (forcedToken >= 0) {
      row.fill(0);
      setBit(row, forcedToken);
      return;
    }
    if (this.#grammar === null) row.fill(0xffffffff);
    else this.#grammar.fillMask(row, withholdsEnd);
    if (only !== null) keepOnly(row, only);
    if (never >= 0) row[never >>> 5] &= ~(1 << (never & 31));
  }

  accept(tokenId: number): void {
    this.#thinking?.accept(tokenId);
    this.#grammar?.accept(tokenId);
  }
}

function setBit(row: Uint32Array, id: number): void {
  row[id >>> 5] |= 1 << (id & 31);
}

function keepOnly(row: Uint32Array, ids: readonly number[]): void {
  const kept = ids.filter((id) => ((row[id >>> 5] >>> (id & 31)) & 1) === 1);
  row.fill(0);
  for (const id of kept) setBit(row, id);
}
