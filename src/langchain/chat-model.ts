import type { CallbackManagerForLLMRun } from '@langchain/core/callbacks/manager';
import type { BaseLanguageModelInput } from '@langchain/core/language_models/base';
import {
  BaseChatModel,
  type BaseChatModelCallOptions,
  type BaseChatModelParams,
  type BindToolsInput,
} from '@langchain/core/language_models/chat_models';
import { AIMessageChunk, type BaseMessage, type UsageMetadata } from '@langchain/core/messages';
import { ChatGenerationChunk, type ChatResult } from '@langchain/core/outputs';
import type { Runnable } from '@langchain/core/runnables';
import { convertToOpenAITool } from '@langchain/core/utils/function_calling';
import type { OutputEvent } from '../chat/output-events.ts';
import type { Engine } from '../engine/engine.ts';
import { type ChatEnd, chatEvents } from '../server/chat-events.ts';
import type { ChatCompletionBody } from '../server/openai/schemas.ts';
import { chatMessage } from './messages.ts';

export interface ChatMillraceFields extends BaseChatModelParams {
  /** Owned by the caller. */
  readonly engine: Engine;
  /** Fields of every request, as of `/v1/chat/completions`. */
  readonly request?: Partial<ChatCompletionBody>;
}

export interface ChatMillraceCallOptions extends BaseChatModelCallOptions {
  /** Functions in OpenAI's shape; `bindTools` writes them. */
  tools?: ChatCompletionBody['tools'];
  /** Fields of one request, stronger than those of the model. */
  request?: Partial<ChatCompletionBody>;
}

/**
 * A chat model over an engine in this process: texts, reasoning (`additional_kwargs.reasoning_content`), tools, structured output, streams, aborts.
 *
 * ```ts
 * const llm = await LLM.load('path/to/model');
 * const model = new ChatMillrace({ engine: llm.engine, request: { temperature: 0 } });
 * const { text } = await model.invoke('Hello!');
 * ```
 */
export class ChatMillrace extends BaseChatModel<ChatMillraceCallOptions, AIMessageChunk> {
  readonly #engine: Engine;
  readonly #request: Partial<ChatCompletionBody>;
  #forcesTools = false;

  constructor({ engine, request = {}, ...fields }: ChatMillraceFields) {
    super(fields);
    this.#engine = engine;
    this.#request = request;
    // LangChain's own way of getting structured output binds a tool and hopes that it is called.
    const withStructuredOutput = this.withStructuredOutput;
    this.withStructuredOutput = ((...given: unknown[]) => {
      this.#forcesTools = true;
      try {
        return Reflect.apply(withStructuredOutput, this, given);
      } finally {
        this.#forcesTools = false;
      }
    }) as typeof withStructuredOutput;
  }

  override _llmType(): string {
    return 'millrace';
  }

  /** What tells two of these apart, for caches of LangChain. */
  override _identifyingParams(): Record<string, unknown> {
    return { model: this.#engine.model.servedNames[0], ...this.#request };
  }

  override bindTools(
    tools: BindToolsInput[],
    options: Partial<ChatMillraceCallOptions> = {},
  ): Runnable<BaseLanguageModelInput, AIMessageChunk, ChatMillraceCallOptions> {
    const shown = tools.map((tool) => convertToOpenAITool(tool)) as ChatMillraceCallOptions['tools'];
    const forced = this.#forcesTools ? { tool_choice: 'required' } : {};
    return this.withConfig({ ...forced, ...options, tools: shown } as Partial<ChatMillraceCallOptions>);
  }

  override async _generate(messages: BaseMessage[], options: this['ParsedCallOptions'], run?: CallbackManagerForLLMRun): Promise<ChatResult> {
    let whole: ChatGenerationChunk | undefined;
    for await (const chunk of this._streamResponseChunks(messages, options, run)) whole = whole === undefined ? chunk : whole.concat(chunk);
    if (whole === undefined) throw new Error('The generation has no end.');
    return { generations: [whole] };
  }

  override async *_streamResponseChunks(
    messages: BaseMessage[],
    options: this['ParsedCallOptions'],
    run?: CallbackManagerForLLMRun,
  ): AsyncGenerator<ChatGenerationChunk> {
    const body: ChatCompletionBody = {
      ...this.#request,
      messages: messages.map(chatMessage),
      ...(options.tools === undefined ? {} : { tools: options.tools }),
      ...(options.stop === undefined ? {} : { stop: options.stop }),
      ...(options.tool_choice === undefined ? {} : { tool_choice: toolChoice(options.tool_choice) }),
      ...options.request,
    };
    for await (const event of chatEvents(this.#engine, body, options.signal)) {
      const message = chunkOf(event);
      if (message === null) continue;
      const text = event.type === 'content' ? event.text : '';
      const chunk = new ChatGenerationChunk({
        message,
        text,
        ...(event.type === 'end' ? { generationInfo: { finish_reason: event.finishReason } } : {}),
      });
      yield chunk;
      if (text !== '') await run?.handleLLMNewToken(text, undefined, undefined, undefined, undefined, { chunk });
    }
  }
}

/** LangChain's `any`, and a bare name of a tool, in OpenAI's words. */
function toolChoice(choice: unknown): unknown {
  if (choice === 'any') return 'required';
  return typeof choice !== 'string' || ['auto', 'none', 'required'].includes(choice) ? choice : { type: 'function', function: { name: choice } };
}

function chunkOf(event: OutputEvent | ChatEnd): AIMessageChunk | null {
  switch (event.type) {
    case 'content':
      return new AIMessageChunk({ content: event.text });
    case 'reasoning':
      return new AIMessageChunk({ content: '', additional_kwargs: { reasoning_content: event.text } });
    case 'toolCallStart':
      return new AIMessageChunk({
        content: '',
        tool_call_chunks: [{ index: event.index, id: event.id, name: event.name, args: '', type: 'tool_call_chunk' }],
      });
    case 'toolCallArguments':
      return new AIMessageChunk({ content: '', tool_call_chunks: [{ index: event.index, args: event.text, type: 'tool_call_chunk' }] });
    case 'toolCallEnd':
      return null;
    case 'end': {
      const { promptTokens, completionTokens, cachedTokens } = event.usage;
      const usage: UsageMetadata = {
        input_tokens: promptTokens,
        output_tokens: completionTokens,
        total_tokens: promptTokens + completionTokens,
        input_token_details: { cache_read: cachedTokens },
        output_token_details: { reasoning: event.reasoningTokens },
      };
      const message = new AIMessageChunk({ content: '', response_metadata: { finish_reason: event.finishReason } });
      return Object.assign(message, { usage_metadata: usage });
    }
  }
}
