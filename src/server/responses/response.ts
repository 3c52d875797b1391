import type { FinishReason, GenerationDelta, GenerationResult, Usage } from '../../engine/request-stream.ts';
import type { ChatReading, ChoiceOutput } from '../choice-output.ts';
import { type ResponseFormat, type ResponseHead, type ResponseSource, sumUsage } from '../openai/response.ts';
import { OutputItems } from './items.ts';
import type { ResponsesBody } from './schemas.ts';

/** `response`, and the events that tell one as it grows (https://platform.openai.com/docs/api-reference/responses). */
export class ResponsesResponse implements ResponseFormat {
  readonly #head: ResponseHead;
  readonly #body: ResponsesBody;
  readonly #output: ChoiceOutput;
  readonly #items: OutputItems;
  #sequenceNumber = 0;
  #finishReason: FinishReason | null = null;

  constructor(head: ResponseHead, source: ResponseSource, reading: ChatReading, body: ResponsesBody) {
    this.#head = head;
    this.#body = body;
    this.#output = reading.read(source.promptTokenIds);
    this.#items = new OutputItems(head.id.replace(/^resp-/, ''));
  }

  whole(results: readonly GenerationResult[]): object {
    for (const choice of results.flatMap(({ choices }) => choices)) {
      for (const event of this.#output.push(choice)) this.#items.write(event);
      this.#finish(choice.finishReason);
    }
    return this.#response(sumUsage(results.map(({ usage }) => usage)));
  }

  chunks(_source: number, delta: GenerationDelta): readonly object[] {
    const events: object[] = [];
    if (this.#sequenceNumber === 0) {
      const response = this.#response(null);
      events.push({ type: 'response.created', response }, { type: 'response.in_progress', response });
    }
    for (const event of this.#output.push(delta)) events.push(...this.#items.write(event));
    if (delta.finishReason !== null) events.push(...this.#finish(delta.finishReason));
    return this.#numbered(events);
  }

  closing(usage: Usage): readonly object[] {
    const response = this.#response(usage);
    return this.#numbered([{ type: this.#finishReason === 'length' ? 'response.incomplete' : 'response.completed', response }]);
  }

  #finish(reason: FinishReason): object[] {
    this.#finishReason = reason;
    return this.#items.close(reason === 'length' ? 'incomplete' : 'completed');
  }

  #numbered(events: readonly object[]): object[] {
    return events.map((event) => ({ ...event, sequence_number: this.#sequenceNumber++ }));
  }

  /** @param usage null while it runs */
  #response(usage: Usage | null): object {
    const { id, created, model } = this.#head;
    const isCut = this.#finishReason === 'length';
    const { instructions, max_output_tokens, temperature, top_p, tools, tool_choice, parallel_tool_calls, text, reasoning, metadata } = this.#body;
    return {
      id,
      object: 'response',
      created_at: created,
      status: usage === null ? 'in_progress' : isCut ? 'incomplete' : 'completed',
      error: null,
      incomplete_details: usage !== null && isCut ? { reason: 'max_output_tokens' } : null,
      instructions: instructions ?? null,
      max_output_tokens: max_output_tokens ?? null,
      model,
      output: usage === null ? [] : this.#items.items,
      parallel_tool_calls: parallel_tool_calls ?? true,
      previous_response_id: null,
      reasoning: { effort: reasoning?.effort ?? null, summary: null },
      store: false,
      temperature: temperature ?? null,
      text: { format: text?.format ?? { type: 'text' } },
      tool_choice: tool_choice ?? 'auto',
      tools: tools ?? [],
      top_p: top_p ?? null,
      truncation: 'disabled',
      usage: usage === null ? null : this.#usage(usage),
      metadata: metadata ?? {},
    };
  }

  #usage({ promptTokens, completionTokens, cachedTokens }: Usage): object {
    return {
      input_tokens: promptTokens,
      input_tokens_details: { cached_tokens: cachedTokens },
      output_tokens: completionTokens,
      output_tokens_details: { reasoning_tokens: this.#output.reasoningTokens },
      total_tokens: promptTokens + completionTokens,
    };
  }
}
