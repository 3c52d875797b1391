import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4Content,
  LanguageModelV4FinishReason,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamPart,
  LanguageModelV4StreamResult,
  LanguageModelV4Usage,
} from '@ai-sdk/provider';
import type { Engine } from '../engine/engine.ts';
import { type ChatEnd, chatEvents } from '../server/chat-events.ts';
import { chatOfCall } from './call.ts';
import { PartWriter } from './parts.ts';

/** Call it with nothing for the engine's model. */
export interface MillraceProvider {
  (): LanguageModelV4;
  languageModel(): LanguageModelV4;
}

/**
 * A provider over an engine in this process, by the AI SDK's specification v4 (`ai` 7): texts, reasoning, tools, JSON by schema, streams, aborts.
 * `providerOptions.millrace` takes any field of `/v1/chat/completions`, such as `top_k` or `seed`.
 *
 * ```ts
 * const llm = await LLM.load('path/to/model');
 * const { text } = await generateText({ model: createMillrace(llm.engine)(), prompt: 'Hello!' });
 * ```
 */
export function createMillrace(engine: Engine): MillraceProvider {
  const languageModel = () => new MillraceLanguageModel(engine);
  return Object.assign(languageModel, { languageModel });
}

class MillraceLanguageModel implements LanguageModelV4 {
  readonly specificationVersion = 'v4';
  readonly provider = 'millrace';
  readonly modelId: string;
  /** None: files are refused. */
  readonly supportedUrls = {};
  readonly #engine: Engine;

  constructor(engine: Engine) {
    this.#engine = engine;
    this.modelId = engine.model.servedNames[0] ?? 'model';
  }

  async doGenerate(options: LanguageModelV4CallOptions): Promise<LanguageModelV4GenerateResult> {
    const { body, warnings } = chatOfCall(options);
    const content: LanguageModelV4Content[] = [];
    for await (const event of chatEvents(this.#engine, body, options.abortSignal)) {
      if (event.type === 'end') return { content, ...endOf(event), warnings, response: { modelId: this.modelId, timestamp: new Date() } };
      const last = content.at(-1);
      if (event.type === 'content') {
        if (last?.type === 'text') last.text += event.text;
        else content.push({ type: 'text', text: event.text });
      } else if (event.type === 'reasoning') {
        if (last?.type === 'reasoning') last.text += event.text;
        else content.push({ type: 'reasoning', text: event.text });
      } else if (event.type === 'toolCallStart') content.push({ type: 'tool-call', toolCallId: event.id, toolName: event.name, input: '' });
      else if (event.type === 'toolCallArguments' && last?.type === 'tool-call') last.input += event.text;
    }
    throw options.abortSignal?.reason ?? new Error('The generation has no end.');
  }

  async doStream(options: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamResult> {
    const { body, warnings } = chatOfCall(options);
    const events = chatEvents(this.#engine, body, options.abortSignal);
    const first = await events.next(); // what refuses the request is thrown here, where the SDK expects it
    return { stream: ReadableStream.from(this.#parts(first, events, warnings)) };
  }

  async *#parts(
    first: IteratorResult<Awaited<ReturnType<typeof chatEvents>> extends AsyncGenerator<infer Event> ? Event : never, void>,
    events: ReturnType<typeof chatEvents>,
    warnings: LanguageModelV4GenerateResult['warnings'],
  ): AsyncGenerator<LanguageModelV4StreamPart, void, undefined> {
    yield { type: 'stream-start', warnings };
    yield { type: 'response-metadata', modelId: this.modelId, timestamp: new Date() };
    const writer = new PartWriter();
    try {
      for (let next = first; !next.done; next = await events.next()) {
        if (next.value.type !== 'end') yield* writer.write(next.value);
        else yield* [...writer.end(), { type: 'finish', ...endOf(next.value) } as const];
      }
    } catch (error) {
      yield { type: 'error', error };
    } finally {
      await events.return();
    }
  }
}

const unified: Readonly<Record<ChatEnd['finishReason'], LanguageModelV4FinishReason['unified']>> = {
  stop: 'stop',
  length: 'length',
  tool_calls: 'tool-calls',
  abort: 'other',
  error: 'error',
};

function endOf({ finishReason, usage, reasoningTokens }: ChatEnd): { finishReason: LanguageModelV4FinishReason; usage: LanguageModelV4Usage } {
  const { promptTokens, completionTokens, cachedTokens } = usage;
  return {
    finishReason: { unified: unified[finishReason], raw: finishReason },
    usage: {
      inputTokens: { total: promptTokens, noCache: promptTokens - cachedTokens, cacheRead: cachedTokens, cacheWrite: undefined },
      outputTokens: { total: completionTokens, text: completionTokens - reasoningTokens, reasoning: reasoningTokens },
    },
  };
}
