import type { OutputEvent } from '../../chat/output-events.ts';
import type { GenerationDelta, GenerationResult, Usage } from '../../engine/request-stream.ts';
import type { ChatReading, ChoiceOutput } from '../choice-output.ts';
import { type ResponseFormat, type ResponseHead, type ResponseSource, sumUsage } from '../openai/response.ts';

interface Call {
  readonly function: { readonly name: string; readonly arguments: unknown };
}

/** What some events say, calls only when they are whole. */
export interface OllamaPart {
  readonly content: string;
  readonly thinking: string;
  readonly calls: readonly Call[];
}

/** `message` of a chat, `response` of a prompt. */
export type OllamaField = 'message' | 'response';

export class OllamaResponse implements ResponseFormat {
  readonly #head: ResponseHead;
  readonly #field: OllamaField;
  readonly #output: ChoiceOutput;
  readonly #startMs = performance.now();
  #firstMs: number | null = null;
  /** The call that is being written. */
  #name = '';
  #arguments = '';
  #doneReason = 'stop';

  constructor(head: ResponseHead, source: ResponseSource, reading: ChatReading, field: OllamaField) {
    this.#head = head;
    this.#field = field;
    this.#output = reading.read(source.promptTokenIds);
  }

  whole(results: readonly GenerationResult[]): object {
    const events: OutputEvent[] = [];
    for (const choice of results.flatMap(({ choices }) => choices)) {
      events.push(...this.#output.push(choice));
      this.#doneReason = choice.finishReason;
    }
    return { ...this.#line(this.#part(events)), ...this.#end(sumUsage(results.map(({ usage }) => usage)), results[0]?.timings.firstTokenMs ?? 0) };
  }

  chunks(_source: number, delta: GenerationDelta): readonly object[] {
    this.#firstMs ??= performance.now() - this.#startMs;
    const part = this.#part(this.#output.push(delta));
    if (delta.finishReason !== null) this.#doneReason = delta.finishReason;
    if (part.content === '' && part.thinking === '' && part.calls.length === 0) return [];
    return [{ ...this.#line(part), done: false }];
  }

  closing(usage: Usage): readonly object[] {
    return [{ ...this.#line({ content: '', thinking: '', calls: [] }), ...this.#end(usage, this.#firstMs ?? 0) }];
  }

  #part(events: readonly OutputEvent[]): OllamaPart {
    let content = '';
    let thinking = '';
    const calls: Call[] = [];
    for (const event of events) {
      if (event.type === 'content') content += event.text;
      else if (event.type === 'reasoning') thinking += event.text;
      else if (event.type === 'toolCallStart') {
        this.#name = event.name;
        this.#arguments = '';
      } else if (event.type === 'toolCallArguments') this.#arguments += event.text;
      else {
        const given = parsed(this.#arguments);
        if (given !== undefined) calls.push({ function: { name: this.#name, arguments: given } });
      }
    }
    return { content, thinking, calls };
  }

  #line({ content, thinking, calls }: OllamaPart): object {
    const head = { model: this.#head.model, created_at: new Date().toISOString() };
    const extra = { ...(thinking === '' ? {} : { thinking }), ...(calls.length === 0 ? {} : { tool_calls: calls }) };
    return this.#field === 'response' ? { ...head, response: content, ...extra } : { ...head, message: { role: 'assistant', content, ...extra } };
  }

  /** Times in nanoseconds. Models are loaded before there is a server. */
  #end({ promptTokens, completionTokens }: Usage, firstMs: number): object {
    const totalMs = performance.now() - this.#startMs;
    const toNs = (ms: number) => Math.max(0, Math.round(ms * 1e6));
    return {
      done: true,
      done_reason: this.#doneReason,
      total_duration: toNs(totalMs),
      load_duration: 0,
      prompt_eval_count: promptTokens,
      prompt_eval_duration: toNs(firstMs),
      eval_count: completionTokens,
      eval_duration: toNs(totalMs - firstMs),
    };
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What a request without a prompt is answered: the model is there. */
export function loaded(model: string, field: OllamaField): object {
  const empty = field === 'response' ? { response: '' } : { message: { role: 'assistant', content: '' } };
  return { model, created_at: new Date().toISOString(), ...empty, done: true, done_reason: 'load' };
}
