import type { GenerationDelta, GenerationResult, Usage } from '../../engine/request-stream.ts';
import { type ChatLogprobs, chatLogprobs } from './logprobs.ts';
import { chunkUsage, endOfChoice, isSilent, type ResponseFormat, type ResponseHead, type ResponseSource, sumUsage, usageBody } from './response.ts';

/** `chat.completion` and `chat.completion.chunk`. */
export class ChatResponse implements ResponseFormat {
  readonly #head: ResponseHead;
  readonly #source: ResponseSource;
  readonly #chunkHead: { id: string; object: string; created: number; model: string; system_fingerprint: string };
  /** Choices whose role was sent. */
  readonly #opened = new Set<number>();

  constructor(head: ResponseHead, source: ResponseSource) {
    this.#head = head;
    this.#source = source;
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
    return {
      ...this.#chunkHead,
      object: 'chat.completion',
      choices: results.flatMap(({ choices }) =>
        choices.map((choice) => ({
          index: choice.index,
          message: { role: 'assistant', content: choice.text, refusal: null },
          logprobs: this.#logprobs(choice.logprobs),
          finish_reason: choice.finishReason,
          ...endOfChoice(choice, this.#source.seed),
          ...(shape.returnTokenIds ? { token_ids: choice.tokenIds } : {}),
        })),
      ),
      usage: usageBody(sumUsage(results.map(({ usage }) => usage))),
      ...(shape.returnTokenIds ? { prompt_token_ids: Array.from(this.#source.promptTokenIds) } : {}),
    };
  }

  chunks(_source: number, delta: GenerationDelta, usage: Usage): readonly object[] {
    const { shape } = this.#head;
    if (isSilent(delta, shape)) return [];
    const chunk = {
      ...this.#chunkHead,
      choices: [
        {
          index: delta.index,
          delta: delta.text === '' ? {} : { content: delta.text },
          logprobs: this.#logprobs(delta.logprobs),
          finish_reason: delta.finishReason,
          ...(delta.finishReason === null ? {} : endOfChoice(delta, this.#source.seed)),
          ...(shape.returnTokenIds ? { token_ids: delta.tokenIds } : {}),
        },
      ],
      ...chunkUsage(shape, usage),
    };
    if (this.#opened.has(delta.index)) return [chunk];
    const opening = this.#opening(delta.index, usage);
    this.#opened.add(delta.index);
    return [opening, chunk];
  }

  usageChunk(usage: Usage): object {
    return { ...this.#chunkHead, choices: [], usage: usageBody(usage) };
  }

  #opening(index: number, usage: Usage): object {
    const isFirst = this.#opened.size === 0;
    return {
      ...this.#chunkHead,
      choices: [{ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }],
      ...chunkUsage(this.#head.shape, usage),
      ...(isFirst && this.#head.shape.returnTokenIds ? { prompt_token_ids: Array.from(this.#source.promptTokenIds) } : {}),
    };
  }

  #logprobs(entries: GenerationDelta['logprobs']): ChatLogprobs | null {
    return entries === null ? null : chatLogprobs(entries, this.#head.tokenizer, this.#head.shape.tokensAsIds);
  }
}
