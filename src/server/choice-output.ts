import type { OutputEvent } from '../chat/output-events.ts';
import { type HeldCalls, tagTokens } from '../chat/output-outline.ts';
import { type OutputFormats, OutputParser, outputFormats } from '../chat/output-parser.ts';
import { SyntaxWriter } from '../chat/output-syntax.ts';
import { beginsInReasoning, reasoningFormatNamed } from '../chat/reasoning.ts';
import { forcedCall } from '../chat/tool-calls/forced.ts';
import type { ToolCallFormat, ToolDefinition } from '../chat/tool-calls/format.ts';
import { toolCallFormatNamed } from '../chat/tool-calls/index.ts';
import type { GenerationChoice, GenerationDelta } from '../engine/request-stream.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { ServedModel } from './model-table.ts';
import type { GenerationRequest } from './openai/request.ts';
import { notSupported } from './openai/unsupported.ts';

/** What a request says about tools; no tools, no calls. */
export interface ToolUse {
  readonly tools: readonly ToolDefinition[];
  /** Whether one turn may hold several calls. */
  readonly allowsMany: boolean;
  /** One of these is called whatever the model would do; null where it may do as it likes. */
  readonly forced: readonly ToolDefinition[] | null;
  /** The request names the tool, so that a call is no news. */
  readonly isNamed?: boolean;
  /** Calls that the model makes by itself are held to the schemas of the tools, too. */
  readonly isStrict?: boolean;
}

export const noTools: ToolUse = { tools: [], allowsMany: true, forced: null };

/** How the outputs of one conversation are held and read: shared by its choices. */
export class ChatReading {
  readonly formats: OutputFormats;
  readonly tokenizer: Tokenizer;
  /** What is to be generated. */
  readonly generating: { readonly request: GenerationRequest; readonly markerTokenIds: ReadonlySet<number>; readonly calls?: HeldCalls };
  readonly #use: ToolUse;
  readonly #isEither: boolean;

  /**
   * @param isChat false for a plain continuation, which is text and nothing else
   * @throws NOT_SUPPORTED when there are tools and nobody knows how the model writes calls
   */
  constructor({ engine }: Pick<ServedModel, 'engine'>, request: GenerationRequest, isChat = true) {
    const { toolUse: use, params } = request;
    const names = engine.model.outputFormats;
    const own = use.tools.length === 0 ? null : toolCallFormatNamed(names?.toolCalls ?? null);
    if (use.tools.length > 0 && use.forced === null && own === null) {
      throw notSupported('tools', "The model's chat template teaches no format of tool calls that is known here: tool use");
    }
    const calls = own === null ? null : heldCalls(use, own, params.structuredOutput ?? null, engine.tokenizer);
    // without a format of its own that can be held, a schema of the whole output forces the call
    const forced = use.forced === null || calls !== null ? null : forcedCall(use.forced);
    this.tokenizer = engine.tokenizer;
    this.formats = outputFormats(engine.tokenizer, isChat ? reasoningFormatNamed(names?.reasoning ?? null) : null, forced?.format ?? own);
    this.#use = use;
    this.#isEither = calls?.mode === 'instead';
    this.generating = {
      request: forced === null ? request : { ...request, params: { ...params, structuredOutput: { json: forced.schema } } },
      markerTokenIds: new Set(this.formats.markers.keys()),
      ...(calls === null ? {} : { calls }),
    };
  }

  /** Whether the request named the tool that is called. */
  get isNamed(): boolean {
    return this.#use.isNamed ?? false;
  }

  /** One for each choice. */
  read(promptTokenIds: Int32Array): ChoiceOutput {
    const { reasoning } = this.formats;
    const tail = reasoning === null ? '' : this.tokenizer.decode(promptTokenIds.slice(-16), { skipSpecialTokens: false });
    const parser = new OutputParser(this.formats, {
      beginsInReasoning: reasoning !== null && beginsInReasoning(reasoning, tail),
      tools: this.#use.tools,
      isEither: this.#isEither,
      ...(this.#use.allowsMany ? {} : { maxCalls: 1 }),
    });
    return new ChoiceOutput(parser, this);
  }
}

/** @returns null where calls are not held in the format's own syntax */
function heldCalls(use: ToolUse, format: ToolCallFormat, answer: object | null, tokenizer: Tokenizer): HeldCalls | null {
  const { tools, forced, allowsMany, isStrict = false } = use;
  if (forced !== null) {
    const canHold = format.callSyntax(new SyntaxWriter(tagTokens(tokenizer)), forced, allowsMany) !== null;
    return canHold ? { format, tools: forced, allowsMany, mode: 'required' } : null;
  }
  if (answer !== null) return { format, tools, allowsMany, mode: 'instead' };
  return isStrict ? { format, tools, allowsMany, mode: 'within' } : null;
}

/** One choice as it is read: what its text means, and how much of it was reasoning. */
export class ChoiceOutput {
  readonly #parser: OutputParser;
  readonly #reading: ChatReading;
  /** Tokens while it is open how many of them are reasoning. */
  #unsettled: number[] = [];
  #reasoningTokens = 0;
  #isSettled = false;
  #hasCalls = false;
  /** Arguments of the call that began last, as far as they came. */
  #arguments = '';

  constructor(parser: OutputParser, reading: ChatReading) {
    this.#parser = parser;
    this.#reading = reading;
  }

  /** True once a call has begun. */
  get hasCalls(): boolean {
    return this.#hasCalls;
  }

  /** Whether the last call has arguments that can be read; one that a stop string cut in two has none. */
  get endsInCall(): boolean {
    if (!this.#hasCalls) return false;
    try {
      JSON.parse(this.#arguments);
      return true;
    } catch {
      return false;
    }
  }

  /** Whether it is known how many tokens are reasoning. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** Of the tokens until now; what is not settled yet counts as reasoning when it has begun. */
  get reasoningTokens(): number {
    return this.#isSettled ? this.#reasoningTokens : this.#parser.reasoningState === 'open' ? this.#unsettled.length : 0;
  }

  /** The next delta, or a whole choice. */
  push(delta: GenerationDelta | GenerationChoice): OutputEvent[] {
    const events = this.#parser.push(delta.text, delta.markers);
    if (delta.finishReason !== null) events.push(...this.#parser.end());
    if (!this.#isSettled) this.#settle(delta);
    for (const event of events) {
      if (event.type === 'toolCallStart') {
        this.#hasCalls = true;
        this.#arguments = '';
      } else if (event.type === 'toolCallArguments') this.#arguments += event.text;
    }
    return events;
  }

  #settle({ tokenIds, finishReason }: GenerationDelta | GenerationChoice): void {
    for (const id of tokenIds) this.#unsettled.push(id);
    const { reasoningState, reasoningEnd } = this.#parser;
    if (reasoningState === 'open' && finishReason !== null) this.#reasoningTokens = this.#unsettled.length;
    else if (reasoningState === 'closed') this.#reasoningTokens = this.#tokensBefore(reasoningEnd.numBytes, reasoningEnd.numMarkers);
    else if (reasoningState !== 'none' && finishReason === null) return;
    this.#isSettled = true;
    this.#unsettled = [];
  }

  /** How many tokens make up so much text and so many markers. */
  #tokensBefore(numBytes: number, numMarkers: number): number {
    const { tokenizer, formats } = this.#reading;
    let bytes = 0;
    let markers = 0;
    let count = 0;
    for (const id of this.#unsettled) {
      if (bytes >= numBytes && markers >= numMarkers) break;
      if (formats.markers.has(id)) markers++;
      else if (!tokenizer.specialTokenIds.has(id)) bytes += tokenizer.tokenBytes(id).length;
      count++;
    }
    return count;
  }
}
