import type { OutputEvent } from '../../chat/output-events.ts';
import type { FinishReason, GenerationChoice, GenerationDelta, GenerationResult, RequestTimings, Usage } from '../../engine/request-stream.ts';
import type { ChatReading, ChoiceOutput } from '../choice-output.ts';
import { type ChatLogprobs, chatLogprobs, promptLogprobs } from './logprobs.ts';
import {
  chunkUsage,
  endOfChoice,
  type ResponseFormat,
  type ResponseHead,
  type ResponseSource,
  slowestTimings,
  sumUsage,
  timingsBody,
  usageBody,
} from './response.ts';

interface ToolCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; arguments: string };
}

/** What a chunk adds to a message. Both names of reasoning are sent: clients want the one or the other. */
interface MessageDelta {
  content?: string;
  reasoning?: string;
  reasoning_content?: string;
  tool_calls?: { index: number; id?: string; type?: 'function'; function: { name?: string; arguments: string } }[];
}

/** `chat.completion` and `chat.completion.chunk`. */
export class ChatResponse implements ResponseFormat {
  readonly #head: ResponseHead;
  readonly #source: ResponseSource;
  readonly #reading: ChatReading;
  readonly #chunkHead: { id: string; object: string; created: number; model: string; system_fingerprint: string };
  /** Choices whose role was sent. */
  readonly #opened = new Set<number>();
  readonly #outputs = new Map<number, ChoiceOutput>();

  constructor(head: ResponseHead, source: ResponseSource, reading: ChatReading) {
    this.#head = head;
    this.#source = source;
    this.#reading = reading;
    this.#chunkHead = {
      id: head.id,
      object: 'chat.completion.chunk',
      created: head.created,
      model: head.model,
      system_fingerprint: head.systemFingerprint,
    };
  }

  whole(results: readonly GenerationResult[]): object {
    const { shape } = this.#head;
    const choices = results.flatMap((result) => result.choices.map((choice) => this.#choice(choice)));
    const usage = sumUsage(results.map((result) => result.usage));
    return {
      ...this.#chunkHead,
      object: 'chat.completion',
      choices,
      usage: usageBody(usage, this.#reasoningTokens()),
      timings: timingsBody(usage, slowestTimings(results)),
      ...(shape.returnTokenIds ? { prompt_token_ids: Array.from(this.#source.promptTokenIds) } : {}),
      ...(shape.promptLogprobs === null
        ? {}
        : { prompt_logprobs: promptLogprobs(results[0]?.promptLogprobs ?? [], shape.promptLogprobs, this.#head.tokenizer) }),
    };
  }

  chunks(_source: number, delta: GenerationDelta, usage: Usage): readonly object[] {
    const output = this.#outputOf(delta.index);
    const messages = messageDeltas(output.push(delta), this.#head.shape.includeReasoning);
    if (messages.length === 0) {
      if (!this.#hasMore(delta)) return [];
      messages.push({});
    }
    const chunks = messages.map((message, at) => this.#chunk(message, delta, usage, output, at === messages.length - 1));
    if (this.#opened.has(delta.index)) return chunks;
    const opening = this.#opening(delta.index, usage);
    this.#opened.add(delta.index);
    return [opening, ...chunks];
  }

  closing(usage: Usage, timings: RequestTimings): readonly object[] {
    if (!this.#head.shape.includeUsage) return [];
    return [{ ...this.#chunkHead, choices: [], usage: usageBody(usage, this.#reasoningTokens()), timings: timingsBody(usage, timings) }];
  }

  #choice(choice: GenerationChoice): object {
    const output = this.#outputOf(choice.index);
    return {
      index: choice.index,
      message: message(output.push(choice), this.#head.shape.includeReasoning),
      logprobs: this.#logprobs(choice.logprobs),
      finish_reason: finishReason(choice.finishReason, output, this.#reading),
      ...endOfChoice(choice, this.#source.seed),
      ...(this.#head.shape.returnTokenIds ? { token_ids: choice.tokenIds } : {}),
    };
  }

  /** What belongs to the delta as a whole goes with its last chunk. */
  #chunk(message: MessageDelta, delta: GenerationDelta, usage: Usage, output: ChoiceOutput, isLast: boolean): object {
    const { shape } = this.#head;
    const reason = isLast ? delta.finishReason : null;
    return {
      ...this.#chunkHead,
      choices: [
        {
          index: delta.index,
          delta: message,
          logprobs: isLast ? this.#logprobs(delta.logprobs) : null,
          finish_reason: reason === null ? null : finishReason(reason, output, this.#reading),
          ...(reason === null ? {} : endOfChoice(delta, this.#source.seed)),
          ...(shape.returnTokenIds ? { token_ids: isLast ? delta.tokenIds : [] } : {}),
        },
      ],
      ...chunkUsage(shape, usage, this.#reasoningTokens()),
    };
  }

  #opening(index: number, usage: Usage): object {
    const isFirst = this.#opened.size === 0;
    return {
      ...this.#chunkHead,
      choices: [{ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }],
      ...chunkUsage(this.#head.shape, usage, this.#reasoningTokens()),
      ...(isFirst && this.#head.shape.returnTokenIds ? { prompt_token_ids: Array.from(this.#source.promptTokenIds) } : {}),
    };
  }

  #outputOf(index: number): ChoiceOutput {
    const known = this.#outputs.get(index);
    if (known !== undefined) return known;
    const output = this.#reading.read(this.#source.promptTokenIds);
    this.#outputs.set(index, output);
    return output;
  }

  /** Whether a delta without text says something all the same. */
  #hasMore({ finishReason, logprobs, tokenIds }: GenerationDelta): boolean {
    return finishReason !== null || (logprobs?.length ?? 0) > 0 || (this.#head.shape.returnTokenIds && tokenIds.length > 0);
  }

  #reasoningTokens(): number {
    let sum = 0;
    for (const { reasoningTokens } of this.#outputs.values()) sum += reasoningTokens;
    return sum;
  }

  #logprobs(entries: GenerationDelta['logprobs']): ChatLogprobs | null {
    return entries === null ? null : chatLogprobs(entries, this.#head.tokenizer, this.#head.shape.tokensAsIds);
  }
}

/** With a tool that the request named, OpenAI's API says `stop`. A call that a stop string cut in two is none that could be run. */
function finishReason(reason: FinishReason, output: ChoiceOutput, { isNamed }: ChatReading): FinishReason | 'tool_calls' {
  return reason === 'stop' && output.endsInCall && !isNamed ? 'tool_calls' : reason;
}

function message(events: readonly OutputEvent[], showsReasoning: boolean): object {
  let content = '';
  let reasoning = '';
  const calls: ToolCall[] = [];
  for (const event of events) {
    if (event.type === 'content') content += event.text;
    else if (event.type === 'reasoning') reasoning += event.text;
    else if (event.type === 'toolCallStart') calls.push({ id: event.id, type: 'function', function: { name: event.name, arguments: '' } });
    else if (event.type === 'toolCallArguments') {
      const call = calls[event.index];
      if (call !== undefined) call.function.arguments += event.text;
    }
  }
  return {
    role: 'assistant',
    content: content === '' && calls.length > 0 ? null : content,
    refusal: null,
    ...(reasoning === '' || !showsReasoning ? {} : { reasoning, reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

/** Events as deltas: neighbours of one kind together, and the start of a call, with its name, always alone. */
function messageDeltas(events: readonly OutputEvent[], showsReasoning: boolean): MessageDelta[] {
  const deltas: MessageDelta[] = [];
  let last: OutputEvent | undefined;
  for (const event of events) {
    const delta = deltas.at(-1);
    const joins = delta !== undefined && last?.type === event.type;
    if (event.type === 'content') {
      if (joins) delta.content += event.text;
      else deltas.push({ content: event.text });
    } else if (event.type === 'reasoning') {
      if (!showsReasoning) continue;
      if (joins) {
        delta.reasoning += event.text;
        delta.reasoning_content += event.text;
      } else deltas.push({ reasoning: event.text, reasoning_content: event.text });
    } else if (event.type === 'toolCallStart') {
      const { index, id, name } = event;
      deltas.push({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] });
    } else if (event.type === 'toolCallArguments') {
      const call = joins ? delta.tool_calls?.[0] : undefined;
      if (call !== undefined) call.function.arguments += event.text;
      else deltas.push({ tool_calls: [{ index: event.index, function: { arguments: event.text } }] });
    }
    last = event;
  }
  return deltas;
}
