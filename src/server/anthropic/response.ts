import type { OutputEvent } from '../../chat/output-events.ts';
import type { GenerationChoice, GenerationDelta, GenerationResult, Usage } from '../../engine/request-stream.ts';
import type { ChatReading, ChoiceOutput } from '../choice-output.ts';
import { type ResponseFormat, type ResponseHead, type ResponseSource, sumUsage } from '../openai/response.ts';

type Block =
  | { readonly type: 'text'; text: string }
  | { readonly type: 'thinking'; thinking: string; readonly signature: string }
  | { readonly type: 'tool_use'; readonly id: string; readonly name: string; readonly input: unknown };

/** `message`, and the events that tell one as it grows (https://docs.anthropic.com/en/api/messages-streaming). */
export class MessageResponse implements ResponseFormat {
  readonly #head: ResponseHead;
  readonly #output: ChoiceOutput;
  readonly #promptTokens: number;
  #hasBegun = false;
  /** Of the block that is open, or will be next. */
  #blockIndex = 0;
  #openBlock: Block['type'] | null = null;
  #end: GenerationDelta | null = null;

  constructor(head: ResponseHead, source: ResponseSource, reading: ChatReading) {
    this.#head = head;
    this.#promptTokens = source.promptTokenIds.length;
    this.#output = reading.read(source.promptTokenIds);
  }

  whole(results: readonly GenerationResult[]): object {
    const content: Block[] = [];
    let end: GenerationChoice | null = null;
    for (const choice of results.flatMap(({ choices }) => choices)) {
      content.push(...blocks(this.#output.push(choice)));
      end = choice;
    }
    return { ...this.#message(content), ...this.#stop(end), usage: usageBody(sumUsage(results.map(({ usage }) => usage))) };
  }

  chunks(_source: number, delta: GenerationDelta, usage: Usage): readonly object[] {
    const events: object[] = [];
    if (!this.#hasBegun) {
      this.#hasBegun = true;
      const started = usageBody({ promptTokens: this.#promptTokens, cachedTokens: usage.cachedTokens, completionTokens: 0 });
      events.push({ type: 'message_start', message: { ...this.#message([]), stop_reason: null, stop_sequence: null, usage: started } });
    }
    for (const event of this.#output.push(delta)) this.#write(event, events);
    if (delta.finishReason !== null) {
      this.#close(events);
      this.#end = delta;
    }
    return events;
  }

  closing(usage: Usage): readonly object[] {
    return [{ type: 'message_delta', delta: this.#stop(this.#end), usage: usageBody(usage) }, { type: 'message_stop' }];
  }

  #write(event: OutputEvent, events: object[]): void {
    switch (event.type) {
      case 'content':
        this.#open({ type: 'text', text: '' }, events);
        events.push(this.#delta({ type: 'text_delta', text: event.text }));
        break;
      case 'reasoning':
        this.#open({ type: 'thinking', thinking: '', signature: '' }, events);
        events.push(this.#delta({ type: 'thinking_delta', thinking: event.text }));
        break;
      case 'toolCallStart':
        this.#close(events);
        this.#open({ type: 'tool_use', id: event.id, name: event.name, input: {} }, events);
        break;
      case 'toolCallArguments':
        events.push(this.#delta({ type: 'input_json_delta', partial_json: event.text }));
        break;
      case 'toolCallEnd':
        this.#close(events);
    }
  }

  #open(block: Block, events: object[]): void {
    if (this.#openBlock === block.type) return;
    this.#close(events);
    this.#openBlock = block.type;
    events.push({ type: 'content_block_start', index: this.#blockIndex, content_block: block });
  }

  #close(events: object[]): void {
    if (this.#openBlock === null) return;
    // Nobody signs what a local model thinks; clients want the event all the same.
    if (this.#openBlock === 'thinking') events.push(this.#delta({ type: 'signature_delta', signature: '' }));
    events.push({ type: 'content_block_stop', index: this.#blockIndex++ });
    this.#openBlock = null;
  }

  #delta(delta: object): object {
    return { type: 'content_block_delta', index: this.#blockIndex, delta };
  }

  #message(content: readonly Block[]): object {
    const { id, model } = this.#head;
    return { id, type: 'message', role: 'assistant', model, content };
  }

  #stop(end: GenerationChoice | GenerationDelta | null): { stop_reason: string; stop_sequence: string | null } {
    const stopString = typeof end?.stopReason === 'string' ? end.stopReason : null;
    if (end?.finishReason === 'length') return { stop_reason: 'max_tokens', stop_sequence: null };
    if (stopString !== null) return { stop_reason: 'stop_sequence', stop_sequence: stopString };
    return { stop_reason: this.#output.hasCalls ? 'tool_use' : 'end_turn', stop_sequence: null };
  }
}

/** Tokens from the cache are counted by themselves. */
function usageBody({ promptTokens, cachedTokens, completionTokens }: Usage): object {
  return {
    input_tokens: promptTokens - cachedTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
    output_tokens: completionTokens,
  };
}

/** A call whose arguments were cut off has no input that could be shown; `stop_reason` says that something is missing. */
function blocks(events: readonly OutputEvent[]): Block[] {
  const content: Block[] = [];
  let call = { id: '', name: '', input: '' };
  for (const event of events) {
    const last = content.at(-1);
    if (event.type === 'content') {
      if (last?.type === 'text') last.text += event.text;
      else content.push({ type: 'text', text: event.text });
    } else if (event.type === 'reasoning') {
      if (last?.type === 'thinking') last.thinking += event.text;
      else content.push({ type: 'thinking', thinking: event.text, signature: '' });
    } else if (event.type === 'toolCallStart') call = { id: event.id, name: event.name, input: '' };
    else if (event.type === 'toolCallArguments') call.input += event.text;
    else {
      const input = parsed(call.input);
      if (input !== undefined) content.push({ type: 'tool_use', id: call.id, name: call.name, input });
    }
  }
  return content;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
