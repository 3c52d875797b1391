/** An engine without a model: bytes are tokens, text comes from the seed, time from a timer. It keeps the contract of `Engine`, and counts. */
import { StringDecoder } from 'node:string_decoder';
import { setTimeout as sleep } from 'node:timers/promises';
import { MillraceError } from '../../src/base/errors.ts';
import type { ChatMessage, ChatTemplateOptions } from '../../src/chat/messages.ts';
import type { Engine, EngineStats, FinishedRequest, GenerateInput, GenerateOptions, ModelInfo, RequestReport } from '../../src/engine/engine.ts';
import type {
  Admission,
  FinishReason,
  GenerationChoice,
  GenerationDelta,
  GenerationResult,
  RequestStream,
  TokenLogprob,
  Usage,
} from '../../src/engine/request-stream.ts';
import { type ResolvedSamplingParams, resolveSamplingParams, type SamplingParams } from '../../src/sampling/params.ts';
import type { EncodeOptions, Tokenizer } from '../../src/tokenizer/tokenizer.ts';

const BOS = 256;
const EOS = 257;

export class ByteTokenizer implements Tokenizer {
  readonly vocabSize = 258;
  readonly bosTokenId = BOS;
  readonly eosTokenIds = [EOS];
  readonly specialTokenIds: ReadonlySet<number> = new Set([BOS, EOS]);
  readonly stripsLeadingSpace = false;

  encode(text: string, { addSpecialTokens }: EncodeOptions): Int32Array {
    const bytes = Buffer.from(text, 'utf8');
    return Int32Array.from(addSpecialTokens ? [BOS, ...bytes] : bytes);
  }

  async encodeAsync(text: string, options: EncodeOptions): Promise<Int32Array> {
    return this.encode(text, options);
  }

  decode(ids: ArrayLike<number>, { skipSpecialTokens = true } = {}): string {
    const kept = Array.from(ids).filter((id) => !skipSpecialTokens || id < 256);
    return Buffer.concat(kept.map((id) => this.tokenBytes(id))).toString('utf8');
  }

  tokenBytes(id: number): Uint8Array {
    if (id < 256) return Uint8Array.of(id);
    return Buffer.from(this.tokenText(id), 'utf8');
  }

  tokenText(id: number): string {
    if (id === BOS) return '<s>';
    return id === EOS ? '</s>' : `<0x${id.toString(16).padStart(2, '0')}>`;
  }

  tokenId(spelling: string): number | undefined {
    return spelling === '<s>' ? BOS : spelling === '</s>' ? EOS : undefined;
  }

  async close(): Promise<void> {}
}

export interface FakeEngineOptions {
  names?: readonly string[];
  maxModelLen?: number;
  stepMs?: number;
  /** More running requests than this are refused with QUEUE_FULL. */
  queueLimit?: number;
  /** Every generation throws after this many tokens. */
  failAfter?: number;
  hasChatTemplate?: boolean;
  /** Text to generate, over and over, in place of letters drawn from the seed. */
  script?: string;
  /** Stop at the end of the script rather than begin again. */
  scriptEnds?: boolean;
  outputFormats?: ModelInfo['outputFormats'];
  /** Characters per delta; many make a fast stream. */
  charactersPerToken?: number;
}

export class FakeEngine implements Engine {
  readonly model: ModelInfo;
  readonly tokenizer = new ByteTokenizer();
  readonly config = { values: { dtype: 'fake' }, reasons: [] };
  readonly options: FakeEngineOptions;
  /** What the server passed on, newest last. */
  readonly seen: { input: GenerateInput; params: SamplingParams; options: GenerateOptions }[] = [];
  readonly counters = { prompt: 0, generation: 0, steps: 0, hits: 0, queried: 0 };
  running = 0;
  stalledMs = 0;
  isClosed = false;
  readonly #listeners = new Set<(event: FinishedRequest) => void>();
  #seeds = 1;

  constructor(options: FakeEngineOptions = {}) {
    this.options = options;
    this.model = {
      servedNames: options.names ?? ['fake'],
      path: '/nowhere',
      architecture: 'FakeForCausalLM',
      numParameters: 258,
      vocabSize: 258,
      maxModelLen: options.maxModelLen ?? 4096,
      hasChatTemplate: options.hasChatTemplate ?? true,
      notice: 'A fake model.',
      ...(options.outputFormats === undefined ? {} : { outputFormats: options.outputFormats }),
    };
  }

  generate(input: GenerateInput, params: SamplingParams = {}, options: GenerateOptions = {}): RequestStream {
    this.seen.push({ input, params, options });
    return new FakeStream(this, input, params, options);
  }

  async renderChat(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): Promise<{ text: string; tokenIds: Int32Array }> {
    if (!this.model.hasChatTemplate) throw new MillraceError('CHAT_TEMPLATE_MISSING', 'The model has no chat template.');
    const lines = messages.map(({ role, content }) => `${role}: ${typeof content === 'string' ? content : JSON.stringify(content)}\n`);
    const text = lines.join('') + (options.addGenerationPrompt === false ? '' : 'assistant: ');
    return { text, tokenIds: this.tokenizer.encode(text, { addSpecialTokens: true, parseSpecial: true }) };
  }

  async promptIds(input: GenerateInput): Promise<Int32Array> {
    if ('messages' in input) return (await this.renderChat(input.messages, input.template)).tokenIds;
    if ('promptTokenIds' in input) return Int32Array.from(input.promptTokenIds);
    return this.tokenizer.encode(input.prompt, { addSpecialTokens: input.addSpecialTokens ?? true, parseSpecial: true });
  }

  drawSeed(): number {
    return this.#seeds++;
  }

  finished(event: FinishedRequest): void {
    for (const listener of this.#listeners) listener(event);
  }

  policy = 'fcfs';

  requests(): readonly RequestReport[] {
    const counts = { promptTokens: 3, outputTokens: 0, computedTokens: 0, preemptions: 0 };
    return [
      { id: 'a', choice: 0, status: 'waiting', tenant: 't', priority: 0, ageMs: 7.4, ...counts, waitsFor: 'behind', why: 'It is behind 2 others.' },
    ];
  }

  useSchedulingPolicy(name: string): void {
    if (name !== 'fair') throw new MillraceError('REQUEST_INVALID', { message: 'There is no such scheduling policy.', param: 'policy' });
    this.policy = name;
  }

  stats(): EngineStats {
    if (this.isClosed) throw new MillraceError('ENGINE_CLOSED', 'The engine is closed.');
    return {
      numRunning: this.running,
      numWaiting: 0,
      kvBlocksTotal: 100,
      kvBlocksReferenced: this.running,
      kvBlocksCached: 0,
      promptTokens: this.counters.prompt,
      generationTokens: this.counters.generation,
      prefixCacheQueriedTokens: this.counters.queried,
      prefixCacheHitTokens: this.counters.hits,
      copiedTokens: 0,
      kvBlocksEvicted: 0,
      tierQueriedTokens: 0,
      tierHitTokens: 0,
      tiers: [],
      numSwaps: 0,
      numPreemptions: 0,
      jumpForwardTokens: 0,
      numSteps: this.counters.steps,
      stepTokens: { bounds: [1, 8], counts: Float64Array.of(this.counters.steps, 1, 2), sum: this.counters.steps + 45 },
      lastStepHostMs: 0.5,
      pacing: null,
      sinceProgressMs: this.stalledMs,
      oldestWaitingMs: 0,
    };
  }

  onFinished(listener: (event: FinishedRequest) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

interface ChoiceState {
  text: string;
  tokenIds: number[];
  logprobs: TokenLogprob[];
  finishReason: FinishReason | null;
  stopReason: string | number | null;
  released: number;
  decoder: StringDecoder;
}

class FakeStream implements RequestStream {
  readonly admitted: Promise<Admission>;
  readonly #engine: FakeEngine;
  readonly #abort = new AbortController();
  readonly #input: GenerateInput;
  readonly #given: SamplingParams;
  readonly #options: GenerateOptions;
  #usage: Usage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
  #params: ResolvedSamplingParams | null = null;
  #promptIds: Int32Array = new Int32Array();
  #choices: ChoiceState[] = [];
  #isRunning = false;
  #firstTokenMs: number | null = null;
  readonly #startMs = performance.now();

  constructor(engine: FakeEngine, input: GenerateInput, params: SamplingParams, options: GenerateOptions) {
    this.#engine = engine;
    this.#input = input;
    this.#given = params;
    this.#options = options;
    options.signal?.addEventListener('abort', () => this.abort(options.signal?.reason as MillraceError), { once: true });
    if (options.signal?.aborted) this.abort(options.signal.reason as MillraceError);
    this.admitted = this.#admit();
    this.admitted.catch(() => undefined);
  }

  get usage(): Usage {
    return this.#usage;
  }

  abort(reason: MillraceError = new MillraceError('REQUEST_ABORTED', 'The request was aborted.')): void {
    if (!this.#abort.signal.aborted) this.#abort.abort(reason);
    this.#stop('abort');
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GenerationDelta> {
    try {
      await this.admitted;
      const params = this.#params as ResolvedSamplingParams;
      const { stepMs = 1, failAfter = Number.POSITIVE_INFINITY } = this.#engine.options;
      for (let step = 0; this.#choices.some(({ finishReason }) => finishReason === null); step++) {
        if (stepMs > 0) await sleep(stepMs, undefined, { signal: this.#abort.signal });
        else if (step % 16 === 0) await new Promise(setImmediate);
        this.#abort.signal.throwIfAborted();
        this.#engine.counters.steps++;
        if (step >= failAfter) throw new MillraceError('BACKEND_STEP_FAILED', 'The fake backend broke.');
        this.#firstTokenMs ??= performance.now() - this.#startMs;
        for (const [index, choice] of this.#choices.entries()) {
          if (choice.finishReason === null) yield this.#step(index, choice, step, params);
        }
      }
      this.#stop(this.#choices[0]!.finishReason!);
    } catch (thrown) {
      if (!this.#abort.signal.aborted) {
        this.#stop('error');
        throw thrown;
      }
      throw this.#abort.signal.reason;
    } finally {
      this.#stop('abort');
    }
  }

  // biome-ignore lint/suspicious/noThenProperty: the contract of RequestStream
  then<A, B>(onDone?: ((result: GenerationResult) => A | PromiseLike<A>) | null, onError?: ((reason: unknown) => B | PromiseLike<B>) | null) {
    return this.#collect().then(onDone, onError);
  }

  async #collect(): Promise<GenerationResult> {
    for await (const _ of this);
    return {
      requestId: this.#options.requestId ?? 'fake',
      promptTokenIds: this.#promptIds,
      choices: this.#choices.map(
        (choice, index) => ({ ...choice, index, logprobs: this.#params?.logprobs ? choice.logprobs : null }) as GenerationChoice,
      ),
      usage: this.#usage,
      timings: { queueMs: 0, firstTokenMs: this.#firstTokenMs, totalMs: performance.now() - this.#startMs },
    };
  }

  async #admit(): Promise<Admission> {
    const { queueLimit = Number.POSITIVE_INFINITY } = this.#engine.options;
    if (this.#engine.isClosed) throw new MillraceError('ENGINE_CLOSED', 'The engine is closed.');
    const promptTokenIds = await this.#engine.promptIds(this.#input);
    this.#abort.signal.throwIfAborted();
    const { maxModelLen, vocabSize } = this.#engine.model;
    if (promptTokenIds.length === 0) throw new MillraceError('PROMPT_EMPTY', 'The prompt has no tokens.');
    if (promptTokenIds.some((id) => id >= vocabSize)) throw new MillraceError('PROMPT_TOKEN_UNKNOWN', 'A token id is outside the vocabulary.');
    if (promptTokenIds.length >= maxModelLen) {
      const message = `The prompt has ${promptTokenIds.length} tokens, the context ${maxModelLen}.`;
      throw new MillraceError('PROMPT_TOO_LONG', { message, param: 'prompt' });
    }
    const context = { maxTokens: maxModelLen - promptTokenIds.length, vocabSize, drawSeed: () => this.#engine.drawSeed() };
    const params = resolveSamplingParams(this.#given, context);
    if (this.#engine.running >= queueLimit) throw new MillraceError('QUEUE_FULL', { message: 'Too many requests are waiting.' });
    this.#params = params;
    this.#promptIds = promptTokenIds;
    this.#usage = { promptTokens: promptTokenIds.length, completionTokens: 0, cachedTokens: 1 };
    this.#choices = Array.from({ length: params.n }, () => ({
      text: '',
      tokenIds: [],
      logprobs: [],
      finishReason: null,
      stopReason: null,
      released: 0,
      decoder: new StringDecoder('utf8'),
    }));
    this.#isRunning = true;
    this.#engine.running++;
    this.#engine.counters.prompt += promptTokenIds.length;
    this.#engine.counters.queried += promptTokenIds.length;
    this.#engine.counters.hits++;
    return { requestId: this.#options.requestId ?? 'fake', promptTokenIds, maxTokens: params.maxTokens, seed: params.seed };
  }

  #step(index: number, choice: ChoiceState, step: number, params: ResolvedSamplingParams): GenerationDelta {
    const id = this.#token(index, step, params);
    const logprob: TokenLogprob = {
      tokenId: id,
      logprob: -0.5,
      top: Array.from({ length: params.topLogprobs }, (_, rank) => ({ tokenId: rank === 0 ? id : 97 + rank, logprob: -0.5 - rank })),
    };
    choice.tokenIds.push(id);
    if (params.logprobs) choice.logprobs.push(logprob);
    this.#usage = { ...this.#usage, completionTokens: this.#usage.completionTokens + 1 };
    this.#engine.counters.generation++;
    if (params.stopTokenIds.includes(id)) Object.assign(choice, { finishReason: 'stop', stopReason: id });
    const piece = choice.decoder.write(Buffer.alloc(this.#engine.options.charactersPerToken ?? 1, id));
    choice.text += piece;
    const stop = params.stop.find((string) => choice.text.includes(string));
    if (stop !== undefined) {
      choice.text = choice.text.slice(0, choice.text.indexOf(stop) + (params.includeStopStringInOutput ? stop.length : 0));
      Object.assign(choice, { finishReason: 'stop', stopReason: stop });
    }
    const { script, scriptEnds } = this.#engine.options;
    if (scriptEnds && choice.finishReason === null && choice.tokenIds.length === Buffer.byteLength(script ?? '')) choice.finishReason = 'stop';
    if (choice.finishReason === null && choice.tokenIds.length >= params.maxTokens) choice.finishReason = 'length';
    const text = params.stop.length === 0 ? piece : this.#release(choice, params);
    return {
      index,
      text,
      tokenIds: [id],
      logprobs: params.logprobs ? [logprob] : null,
      finishReason: choice.finishReason,
      stopReason: choice.stopReason,
    };
  }

  /** Text that no stop string can still take back. */
  #release(choice: ChoiceState, { stop }: ResolvedSamplingParams): string {
    const held = choice.finishReason !== null ? 0 : Math.max(0, ...stop.map((string) => string.length - 1));
    const end = Math.max(choice.released, choice.text.length - held);
    const text = choice.text.slice(choice.released, end);
    choice.released = end;
    return text;
  }

  #token(index: number, step: number, params: ResolvedSamplingParams): number {
    const forced = Object.entries(params.logitBias).find(([, bias]) => bias >= 100);
    if (forced !== undefined) return Number(forced[0]);
    const { script } = this.#engine.options;
    if (script !== undefined) {
      const bytes = Buffer.from(script);
      return bytes[step % bytes.length]!;
    }
    const seed = params.temperature === 0 ? 0 : params.seed + index * 7919;
    return 97 + (((Math.imul(seed + 1, 2654435761) + Math.imul(step + 1, 40503) + (step * step) ** 2) >>> 3) % 26);
  }

  #stop(finishReason: FinishReason): void {
    if (!this.#isRunning) return;
    this.#isRunning = false;
    this.#engine.running--;
    const generationTokens = this.#usage.completionTokens;
    this.#engine.finished({
      requestId: this.#options.requestId ?? 'fake',
      finishReason,
      promptTokens: this.#usage.promptTokens,
      cachedTokens: this.#usage.cachedTokens,
      generationTokens,
      queueMs: 0,
      firstTokenMs: this.#firstTokenMs,
      totalMs: performance.now() - this.#startMs,
      interTokenMs: new Float64Array(Math.max(0, generationTokens - 1)).fill(1),
    });
  }
}
