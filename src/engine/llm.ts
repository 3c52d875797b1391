/** The library's front door: a model in this process. */
import type { ChatMessage, ChatTemplateOptions } from '../chat/messages.ts';
import type { SamplingParams } from '../sampling/params.ts';
import type { LoadOptions } from './config.ts';
import type { Engine, GenerateInput, GenerateOptions } from './engine.ts';
import { type LoadHooks, loadEngine } from './load.ts';
import { generateObject, type ObjectOptions, type ObjectSchema, type ObjectStream, streamObject, type ValueOf } from './object.ts';
import type { GenerationResult, RequestStream } from './request-stream.ts';
import { chatWithTools, type ToolAnswer, type ToolChatOptions } from './tool-loop.ts';

const DEFAULT_BEAMS = 4;

/** Text, or token ids. */
export type Prompt = string | ArrayLike<number>;

export interface ChatOptions extends GenerateOptions {
  readonly template?: ChatTemplateOptions;
}

/**
 * A loaded model. Close it, or declare it with `await using`.
 *
 * ```ts
 * await using llm = await LLM.load('path/to/model');
 * for await (const { text } of llm.generate('Once upon a time', { maxTokens: 50 })) process.stdout.write(text);
 * ```
 */
export class LLM implements AsyncDisposable {
  readonly engine: Engine;

  /** Over an engine that is there already; `close` closes it. */
  constructor(engine: Engine) {
    this.engine = engine;
  }

  /** Loads a model from a path or by its name on the hub, or with options as the `serve` command takes them. @throws any MillraceError of loading */
  static async load(model: string | LoadOptions, hooks: LoadHooks = {}): Promise<LLM> {
    return new LLM(await loadEngine(typeof model === 'string' ? { model } : model, hooks));
  }

  /** Continues one prompt: await the stream for the whole result, or iterate it for deltas. Many prompts run together and give all results. */
  generate(prompt: Prompt, params?: SamplingParams, options?: GenerateOptions): RequestStream;
  generate(prompts: readonly Prompt[], params?: SamplingParams, options?: Omit<GenerateOptions, 'requestId'>): Promise<GenerationResult[]>;
  generate(
    prompts: Prompt | readonly Prompt[],
    params: SamplingParams = {},
    options: GenerateOptions = {},
  ): RequestStream | Promise<GenerationResult[]> {
    if (!isManyPrompts(prompts)) return this.engine.generate(inputOf(prompts), params, options);
    const streams = prompts.map((prompt) => this.engine.generate(inputOf(prompt), params, options));
    return Promise.all(streams).catch((error: unknown) => {
      for (const stream of streams) stream.abort();
      throw error;
    });
  }

  /**
   * The likeliest continuations of a prompt, best first, each with `beam.score`: as many as beams, or `n`. Beams are 4 unless `beamWidth` says otherwise.
   * @throws SAMPLING_PARAM_INVALID for parameters that shape draws
   */
  beamSearch(prompt: Prompt, params: Omit<SamplingParams, 'useBeamSearch' | 'bestOf'> = {}, options: GenerateOptions = {}): RequestStream {
    const { beamWidth = Math.max(DEFAULT_BEAMS, params.n ?? 1) } = params;
    return this.engine.generate(inputOf(prompt), { n: beamWidth, ...params, beamWidth, useBeamSearch: true }, options);
  }

  /** Answers a conversation with tools, which are run here until the model answers without them. */
  chat(messages: readonly ChatMessage[] | string, options: ToolChatOptions): Promise<ToolAnswer>;
  /** Answers a conversation. @throws CHAT_TEMPLATE_MISSING through the stream when the model has no template */
  chat(messages: readonly ChatMessage[] | string, params?: SamplingParams, options?: ChatOptions): RequestStream;
  chat(
    messages: readonly ChatMessage[] | string,
    params: SamplingParams | ToolChatOptions = {},
    options: ChatOptions = {},
  ): RequestStream | Promise<ToolAnswer> {
    const list = typeof messages === 'string' ? [{ role: 'user', content: messages }] : messages;
    if ('tools' in params) return chatWithTools(this.engine, list, params);
    const { template, ...rest } = options;
    return this.engine.generate({ messages: list, ...(template === undefined ? {} : { template }) }, params, rest);
  }

  /**
   * A value that fulfils a schema: a JSON Schema, or one of Zod, TypeBox or another library with Standard Schema, whose type it then has.
   * @throws OUTPUT_INCOMPLETE when the limit of tokens came first; GRAMMAR_UNSUPPORTED for a schema that cannot be enforced
   */
  object<S extends ObjectSchema>(options: ObjectOptions<S>): Promise<ValueOf<S>> {
    return generateObject(this.engine, options);
  }

  /** As `object`, and can be iterated over while it is written: each time with what there is so far, as a deep partial of its type. */
  objectStream<S extends ObjectSchema>(options: ObjectOptions<S>): ObjectStream<S> {
    return streamObject(this.engine, options);
  }

  close(): Promise<void> {
    return this.engine.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function isManyPrompts(prompts: Prompt | readonly Prompt[]): prompts is readonly Prompt[] {
  return Array.isArray(prompts) && (prompts.length === 0 || typeof prompts[0] !== 'number');
}

function inputOf(prompt: Prompt): GenerateInput {
  return typeof prompt === 'string' ? { prompt } : { promptTokenIds: prompt };
}
