import type { MillraceError } from '../../base/errors.ts';
import type { FinishReason, GenerationChoice, GenerationDelta, GenerationResult, TokenLogprob, Usage } from '../../engine/request-stream.ts';
import type { ChatReading, ChoiceOutput } from '../choice-output.ts';
import { chatLogprobs } from '../openai/logprobs.ts';
import { type ResponseFormat, type ResponseHead, type ResponseSource, sumUsage } from '../openai/response.ts';
import { OutputItems, type PartLogprob } from './items.ts';
import type { ResponsesBody } from './schemas.ts';
import type { ResponseBody } from './store.ts';

/** What outlives the answer: which response it continues, and who is told when its state changes. */
export interface ResponseSession {
  readonly previousId: string | null;
  readonly isStored: boolean;
  readonly isBackground: boolean;
  /** Called with each new status, the last one before its event is sent. */
  onChange(body: ResponseBody): void;
}

/** `response`, and the events that tell one as it grows (https://platform.openai.com/docs/api-reference/responses). */
export class ResponsesResponse implements ResponseFormat {
  readonly #head: ResponseHead;
  readonly #body: ResponsesBody;
  readonly #session: ResponseSession;
  readonly #output: ChoiceOutput;
  readonly #items: OutputItems;
  /** Tokens of which no text has come yet, and how many came before them. */
  readonly #waiting: TokenLogprob[] = [];
  #numTaken = 0;
  /** Bytes of text whose tokens are still to be taken; negative where a token was longer than its text. */
  #numBytes = 0;
  #sequenceNumber = 0;
  #isOpened = false;
  #finishReason: FinishReason | null = null;

  constructor(head: ResponseHead, source: ResponseSource, reading: ChatReading, body: ResponsesBody, session: ResponseSession) {
    this.#head = head;
    this.#body = body;
    this.#session = session;
    this.#output = reading.read(source.promptTokenIds);
    this.#items = new OutputItems(head.id.replace(/^resp_/, ''));
  }

  whole(results: readonly GenerationResult[]): object {
    for (const choice of results.flatMap(({ choices }) => choices)) {
      this.#write(choice);
      this.#finish(choice.finishReason);
    }
    return this.#told(this.#endStatus(), sumUsage(results.map(({ usage }) => usage)));
  }

  /** The state and the events of a background response before anything of it has run. */
  queued(): { readonly response: ResponseBody; readonly events: readonly object[] } {
    const response = this.#told('queued', null);
    const events = this.#numbered([
      { type: 'response.created', response },
      { type: 'response.queued', response },
    ]);
    return { response, events };
  }

  chunks(_source: number, delta: GenerationDelta): readonly object[] {
    const events: object[] = [];
    if (!this.#isOpened) {
      this.#isOpened = true;
      const response = this.#told('in_progress', null);
      if (this.#sequenceNumber === 0) events.push({ type: 'response.created', response });
      events.push({ type: 'response.in_progress', response });
    }
    events.push(...this.#write(delta));
    if (delta.finishReason !== null) events.push(...this.#finish(delta.finishReason));
    return this.#numbered(events);
  }

  closing(usage: Usage): readonly object[] {
    const status = this.#endStatus();
    return this.#numbered([{ type: `response.${status}`, response: this.#told(status, usage) }]);
  }

  failing({ code, message }: MillraceError): readonly object[] {
    this.#items.close('incomplete');
    const isCancelled = this.#session.isBackground && code === 'REQUEST_ABORTED';
    const status = isCancelled ? 'cancelled' : 'failed';
    const response = this.#told(status, null, isCancelled ? null : { code, message });
    return this.#numbered([{ type: `response.${status}`, response }]);
  }

  /** Events of a delta, or of a whole choice; each text of the answer with the log probabilities of its tokens. */
  #write(piece: GenerationDelta | GenerationChoice): object[] {
    const events = this.#output.push(piece);
    if (piece.logprobs === null) return events.flatMap((event) => this.#items.write(event));
    this.#waiting.push(...piece.logprobs);
    // of those before, the first were reasoning
    const { reasoningTokens, isSettled } = this.#output;
    if (!isSettled) return events.flatMap((event) => this.#items.write(event));
    this.#waiting.splice(0, Math.max(0, reasoningTokens - this.#numTaken));
    this.#numTaken = Math.max(this.#numTaken, reasoningTokens);
    return events.flatMap((event) => this.#items.write(event, event.type === 'content' ? this.#take(Buffer.byteLength(event.text)) : []));
  }

  /** The next tokens that make up so many bytes of text. */
  #take(numBytes: number): PartLogprob[] {
    const { tokenizer } = this.#head;
    this.#numBytes += numBytes;
    let count = 0;
    for (; count < this.#waiting.length && this.#numBytes > 0; count++) {
      const { tokenId } = this.#waiting[count] as TokenLogprob;
      if (!tokenizer.specialTokenIds.has(tokenId)) this.#numBytes -= tokenizer.tokenBytes(tokenId).length;
    }
    this.#numTaken += count;
    return [...chatLogprobs(this.#waiting.splice(0, count), tokenizer, false).content];
  }

  #endStatus(): 'incomplete' | 'completed' {
    return this.#finishReason === 'length' ? 'incomplete' : 'completed';
  }

  #finish(reason: FinishReason): object[] {
    this.#finishReason = reason;
    return this.#items.close(reason === 'length' ? 'incomplete' : 'completed');
  }

  #numbered(events: readonly object[]): object[] {
    return events.map((event) => ({ ...event, sequence_number: this.#sequenceNumber++ }));
  }

  #told(status: ResponseBody['status'], usage: Usage | null, error: object | null = null): ResponseBody {
    const response = this.#response(status, usage, error);
    this.#session.onChange(response);
    return response;
  }

  /** @param usage null until it has ended well */
  #response(status: ResponseBody['status'], usage: Usage | null, error: object | null): ResponseBody {
    const { id, created, model } = this.#head;
    const { instructions, max_output_tokens, temperature, top_p, tools, tool_choice, parallel_tool_calls, text, reasoning, metadata } = this.#body;
    const isOpen = status === 'queued' || status === 'in_progress';
    return {
      id,
      object: 'response',
      created_at: created,
      status,
      background: this.#session.isBackground,
      error,
      incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
      instructions: instructions ?? null,
      max_output_tokens: max_output_tokens ?? null,
      model,
      output: isOpen ? [] : this.#items.items,
      parallel_tool_calls: parallel_tool_calls ?? true,
      previous_response_id: this.#session.previousId,
      reasoning: { effort: reasoning?.effort ?? null, summary: null },
      store: this.#session.isStored,
      temperature: temperature ?? null,
      text: { format: text?.format ?? { type: 'text' } },
      tool_choice: tool_choice ?? 'auto',
      tools: (tools ?? []).map((tool) => ({ ...tool, parameters: tool.parameters ?? null, strict: tool.strict ?? false })),
      top_p: top_p ?? null,
      truncation: 'disabled',
      usage: usage === null ? null : this.#usage(usage),
      metadata: metadata ?? {},
    };
  }

  #usage({ promptTokens, completionTokens, cachedTokens }: Usage): object {
    return {
      input_tokens: promptTokens,
      input_tokens_details: { cached_tokens: cachedTokens, cache_write_tokens: 0 },
      output_tokens: completionTokens,
      output_tokens_details: { reasoning_tokens: this.#output.reasoningTokens },
      total_tokens: promptTokens + completionTokens,
    };
  }
}
