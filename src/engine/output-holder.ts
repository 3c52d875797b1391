/** What the output of a request is held to, worked out once at admission: its grammar, behind its reasoning and beside its calls, and its budget. */
import { MillraceError } from '../base/errors.ts';
import { type HeldCalls, outputOutline, tagTokens } from '../chat/output-outline.ts';
import { asksForThinking, beginsBehindReasoning, beginsInReasoning, type ReasoningFormat, reasoningFormatNamed } from '../chat/reasoning.ts';
import { type ThinkingBudget, thinkingBudget } from '../chat/thinking-budget.ts';
import { isOneConstraint } from '../sampling/grammar/structured-output.ts';
import type { ResolvedSamplingParams, StructuredOutput } from '../sampling/params.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerateInput, ModelInfo } from './engine.ts';
import { GrammarCache } from './grammar-cache.ts';
import { HeldOutput } from './held-output.ts';

/** Tokens at the end of a prompt in which a tag of reasoning is looked for. */
const TAIL = 16;

export class OutputHolder {
  readonly #tokenizer: Tokenizer;
  readonly #reasoning: ReasoningFormat | null;
  readonly #thinksOnRequest: boolean;
  readonly #tags: ReadonlyMap<string, number>;
  readonly #grammars: GrammarCache;

  constructor(tokenizer: Tokenizer, { vocabSize, outputFormats }: ModelInfo, eosTokenIds: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#reasoning = reasoningFormatNamed(outputFormats?.reasoning ?? null);
    this.#thinksOnRequest = outputFormats?.thinksOnRequest ?? false;
    this.#tags = tagTokens(tokenizer);
    this.#grammars = new GrammarCache(tokenizer, vocabSize, eosTokenIds, [...this.#tags.values()]);
  }

  /**
   * The constraint on a whole output. In a conversation reasoning may come before what is held, unless the model thinks on request only and nobody
   * asked, or its end stands in the prompt, or the prompt ends within an answer.
   * @throws NOT_SUPPORTED for calls and answers that cannot be told apart
   */
  constraintOf(
    input: GenerateInput,
    prompt: Int32Array,
    { structuredOutput: answer, thinkingTokenBudget }: ResolvedSamplingParams,
    calls: HeldCalls | null,
  ): StructuredOutput | null {
    // what is not exactly one constraint is refused where it is compiled
    if (answer !== null && (answer.outline !== undefined || !isOneConstraint(answer))) return answer;
    const reasoning = this.#offersReasoning(input, prompt, thinkingTokenBudget ?? 0) ? this.#reasoning : null;
    const outline = outputOutline({ reasoning, isOpen: this.#isOpen(prompt), answer, calls }, this.#tags);
    return outline === null ? answer : { outline, disableAnyWhitespace: answer?.disableAnyWhitespace };
  }

  /** @returns one for each of `count` choices. @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE, NOT_SUPPORTED */
  async hold(constraint: StructuredOutput | null, prompt: Int32Array, maxThinking: number | null, count: number): Promise<(HeldOutput | null)[]> {
    const matchers = constraint === null ? [] : await this.#grammars.matchers(constraint, count);
    return Array.from({ length: count }, (_, i) => HeldOutput.of(matchers[i] ?? null, this.#thinking(prompt, maxThinking)));
  }

  close(): void {
    this.#grammars.close();
  }

  /** Where nobody reasons no bound is exceeded. */
  #thinking(prompt: Int32Array, maxTokens: number | null): ThinkingBudget | null {
    if (maxTokens === null || this.#reasoning === null) return null;
    const budget = thinkingBudget(this.#reasoning, this.#tokenizer, maxTokens, this.#isOpen(prompt));
    if (budget !== null) return budget;
    throw new MillraceError('NOT_SUPPORTED', {
      message: `A budget of reasoning is not supported: the vocabulary lacks tokens of the format ${this.#reasoning.name}.`,
      param: 'thinking_token_budget',
    });
  }

  #offersReasoning(input: GenerateInput, prompt: Int32Array, budget: number): boolean {
    if (!('messages' in input) || this.#reasoning === null) return false;
    if (this.#isOpen(prompt)) return true;
    if (input.template?.continueFinalMessage === true) return false;
    if (beginsBehindReasoning(this.#reasoning, this.#tailOf(prompt))) return false;
    return !this.#thinksOnRequest || budget > 0 || asksForThinking(input.template?.kwargs);
  }

  #isOpen(prompt: Int32Array): boolean {
    return this.#reasoning !== null && beginsInReasoning(this.#reasoning, this.#tailOf(prompt));
  }

  #tailOf(prompt: Int32Array): string {
    return this.#tokenizer.decode(prompt.slice(-TAIL), { skipSpecialTokens: false });
  }
}
