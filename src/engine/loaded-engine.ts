/** The real engine: everything that `load.ts` composed, behind the `Engine` interface. Any number of them can live in one process (S6). */
import { randomInt, randomUUID } from 'node:crypto';
import type { Backend, BackendInfo, Cache, KernelChoice, NodeTime, Program } from '../backends/backend.ts';
import { type Clock, realClock } from '../base/clock.ts';
import { MillraceError, toMillraceError } from '../base/errors.ts';
import type { ChatMessage, ChatTemplateOptions } from '../chat/messages.ts';
import { renderToIds } from '../chat/prompt.ts';
import type { ChatTemplate } from '../chat/template.ts';
import { type EvictionPolicyName, evictionPolicies } from '../kv/eviction/index.ts';
import { KvCache } from '../kv/kv-cache.ts';
import { namespaceOf } from '../kv/namespace.ts';
import type { TierStack } from '../kv/tiers/tier-stack.ts';
import type { Plan } from '../plan/plan.ts';
import { MAX_TOP_LOGPROBS, type ResolvedSamplingParams, resolveSamplingParams, type SamplingParams } from '../sampling/params.ts';
import { type PolicyName, policies } from '../scheduler/policies/index.ts';
import { Request, type RequestOptions } from '../scheduler/request.ts';
import { Scheduler } from '../scheduler/scheduler.ts';
import { reportCompiling } from '../scheduler/wait-reasons.ts';
import { IncrementalDetokenizer } from '../tokenizer/detokenizer.ts';
import { StopStringMatcher } from '../tokenizer/stop-strings.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { WeightSource } from '../weights/weight-source.ts';
import { BeamOutput } from './beam-output.ts';
import { BlockMover } from './block-mover.ts';
import type { Engine, EngineStats, FinishedRequest, GenerateInput, GenerateOptions, ModelInfo, RequestReport } from './engine.ts';
import { Generation } from './generation.ts';
import { GenerationStream } from './generation-stream.ts';
import type { HeldOutput } from './held-output.ts';
import { type InputParts, lastTokens, promptTokenIds } from './input.ts';
import { EngineLoop, type LogitsListener } from './loop.ts';
import { OutputStage } from './output.ts';
import { OutputHolder } from './output-holder.ts';
import { PrefixTransfer } from './prefix-transfer.ts';
import { requestSampling } from './request-sampling.ts';
import type { RequestStream } from './request-stream.ts';
import { outputRoom, RetentionPrograms, refuseWithBeams } from './retention.ts';
import { EngineCounters, readStats } from './stats.ts';

export interface EngineLimits {
  readonly maxModelLen: number;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly maxQueue: number;
  readonly maxQueueMs?: number | null;
  readonly maxTenantSeqs?: number | null;
  readonly schedulingPolicy?: PolicyName;
  /** Steps scheduled and not yet committed: 1 or 2. Default: 1. */
  readonly maxInFlight?: number;
  readonly targetItlMs?: number | null;
  /** Default: true. */
  readonly estimatePeak?: boolean;
  readonly enablePrefixCaching: boolean;
  readonly evictionPolicy?: EvictionPolicyName;
  /** For the eviction policy `ttl`. */
  readonly prefixTtlSeconds?: number;
  /** Default: true. */
  readonly jumpForward?: boolean;
  /** -1: no limit. Default: 20. */
  readonly maxPromptLogprobs?: number;
  /** As of `RetentionParts`. */
  readonly rebaseTokens?: number;
  /** As of `KvCacheOptions`. */
  readonly stateInterval?: number;
}

/** The parts, owned by the engine from now on: `close` closes them. */
export interface EngineParts {
  readonly model: ModelInfo;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
  readonly backend: Backend;
  readonly program: Program;
  readonly cache: Cache;
  /** Where the weights of `program` came from; read no more, it names those that other programs share. */
  readonly weights?: WeightSource | null;
  /** Where blocks go beyond the device. */
  readonly tiers?: TierStack | null;
  /** Names the class in which bytes of KV are equal. Default: the layout of the cache. */
  readonly kvClass?: string;
  readonly limits: EngineLimits;
  readonly config: Engine['config'];
  /** From generation_config.json; what a request says goes before. */
  readonly samplingDefaults?: SamplingParams;
  readonly eosTokenIds?: readonly number[];
  /** Seeds of requests that bring none are drawn from it; without it, from the system's randomness. */
  readonly seed?: number;
  readonly clock?: Clock;
  readonly captureLogits?: LogitsListener | undefined;
}

/** What `inspect` shows. */
export interface EngineDescription {
  readonly plan: Plan;
  readonly kernels: readonly KernelChoice[];
  readonly backend: BackendInfo;
  readonly memory: { readonly weightBytes: number; readonly arenaBytes: number; readonly cacheBytes: number };
}

const noTokens: ReadonlySet<number> = new Set();

/** What the scheduler is told of a request, its times on the engine's clock. @throws REQUEST_INVALID */
function schedulingOf(options: GenerateOptions, nowMs: number): Omit<RequestOptions, 'id' | 'promptTokenIds' | 'params'> {
  const { priority = 0, tenant = '', deadlineMs, targetFirstTokenMs, cacheSalt } = options;
  if (!Number.isInteger(priority) || Math.abs(priority) > MAX_PRIORITY) {
    throw new MillraceError('REQUEST_INVALID', {
      message: 'The priority cannot be that.',
      expected: `an integer from -${MAX_PRIORITY} to ${MAX_PRIORITY}`,
      received: String(priority),
      param: 'priority',
    });
  }
  return {
    arrivalMs: nowMs,
    priority,
    tenant,
    cacheSalt: namespaceOf({ cacheSalt }),
    deadlineMs: due(deadlineMs, nowMs, 'deadline_ms'),
    firstTokenDueMs: due(targetFirstTokenMs, nowMs, 'target_first_token_ms'),
  };
}

function due(ms: number | undefined, nowMs: number, param: string): number | null {
  if (ms === undefined) return null;
  if (Number.isFinite(ms) && ms > 0) return nowMs + ms;
  throw new MillraceError('REQUEST_INVALID', {
    message: `The field ${param} cannot be that.`,
    expected: 'a number of milliseconds above 0',
    received: String(ms),
    param,
  });
}

const MAX_PRIORITY = 1_000_000;
const DEFAULT_TTL_SECONDS = 3600;

export class LoadedEngine implements Engine {
  readonly model: ModelInfo;
  readonly tokenizer: Tokenizer;
  readonly config: Engine['config'];
  readonly scheduler: Scheduler;
  /** Blocks of prompts, out of this engine and into it. */
  readonly prefixes: PrefixTransfer;
  readonly #parts: EngineParts;
  readonly #input: InputParts;
  readonly #eosTokenIds: readonly number[];
  readonly #clock: Clock;
  readonly #counters = new EngineCounters();
  readonly #output: OutputStage;
  readonly #mover: BlockMover | null;
  readonly #loop: EngineLoop;
  readonly #holder: OutputHolder;
  readonly #retention: RetentionPrograms;
  readonly #listeners = new Set<(event: FinishedRequest) => void>();
  /** Streams whose prompt is still being prepared. */
  readonly #arriving = new Set<GenerationStream>();
  /** Requests whose grammar is being compiled. */
  readonly #compiling = new Map<GenerationStream, Pick<RequestReport, 'id' | 'tenant' | 'priority' | 'promptTokens'> & { startMs: number }>();
  #numDrawnSeeds = 0;
  #closing: Promise<void> | null = null;

  constructor(parts: EngineParts) {
    const { limits, program, cache, backend } = parts;
    this.#parts = parts;
    this.model = parts.model;
    this.tokenizer = parts.tokenizer;
    this.config = parts.config;
    this.#clock = parts.clock ?? realClock;
    this.#input = { tokenizer: parts.tokenizer, chatTemplate: parts.chatTemplate, vocabSize: parts.model.vocabSize };
    this.#eosTokenIds = parts.eosTokenIds ?? parts.tokenizer.eosTokenIds;
    this.#holder = new OutputHolder(parts.tokenizer, parts.model, this.#eosTokenIds);
    const { groups, blockSize } = cache.spec;
    const { enablePrefixCaching, evictionPolicy = 'lru', prefixTtlSeconds = DEFAULT_TTL_SECONDS } = limits;
    const eviction = evictionPolicies[evictionPolicy]({ ttlMs: prefixTtlSeconds * 1000 });
    const kv = new KvCache({ ...limits, groups, blockSize, enablePrefixCaching, eviction, tiers: parts.tiers ?? null });
    const { maxQueueMs, maxTenantSeqs, targetItlMs, ...others } = limits;
    this.scheduler = new Scheduler({
      ...others,
      ...(typeof targetItlMs === 'number' ? { targetItlMs } : {}),
      kv,
      maxQueueMs: maxQueueMs ?? Infinity,
      maxTenantSeqs: maxTenantSeqs ?? Infinity,
      policy: policies[limits.schedulingPolicy ?? 'fcfs'](),
    });
    this.#output = new OutputStage({
      scheduler: this.scheduler,
      counters: this.#counters,
      eosTokenIds: new Set(this.#eosTokenIds),
      jumpForward: limits.jumpForward ?? true,
      onFinished: (event) => this.#announce(event),
    });
    const { tiers = null } = parts;
    const onLoaded = () => this.#loop.wake();
    this.#mover = tiers === null ? null : new BlockMover({ backend, cache, tiers, scheduler: this.scheduler, clock: this.#clock, onLoaded });
    this.prefixes = new PrefixTransfer({ kv, backend, cache, kvClass: parts.kvClass ?? cache.layout, storeEvicted: () => this.#mover?.store() });
    this.#retention = new RetentionPrograms({ ...limits, backend, cache, plan: program.plan, weights: parts.weights ?? null });
    this.#loop = new EngineLoop({
      retention: this.#retention,
      mover: this.#mover,
      scheduler: this.scheduler,
      output: this.#output,
      counters: this.#counters,
      backend,
      program,
      cache,
      limits: {
        maxTokens: limits.maxNumBatchedTokens,
        maxRows: limits.maxNumSeqs,
        maxLogitRows: limits.maxNumSeqs,
        maxModelLen: limits.maxModelLen,
        numPositionAxes: program.plan.numPositionAxes,
      },
      maxInFlight: limits.maxInFlight ?? 1,
      clock: this.#clock,
      captureLogits: parts.captureLogits,
    });
  }

  /** Generations that have not ended, those still being prepared included. */
  get numOpenStreams(): number {
    return this.#output.numOpen + this.#arriving.size;
  }

  /** Totals of the bench: host time of all steps and time in the backend, milliseconds. */
  get totals(): Readonly<EngineCounters> {
    return this.#counters;
  }

  generate(input: GenerateInput, params: SamplingParams = {}, options: GenerateOptions = {}): RequestStream {
    const generation = new Generation(
      new GenerationStream(options.requestId ?? randomUUID(), () => this.#output.drop(generation, 'abort', this.#clock.nowMs())),
      this.#clock.nowMs(),
    );
    const { stream } = generation;
    const { signal } = options;
    const onSignal = () =>
      stream.abort(new MillraceError('REQUEST_ABORTED', { message: 'The request was aborted by its signal.', cause: signal?.reason }));
    signal?.addEventListener('abort', onSignal, { once: true });
    const forgetSignal = () => signal?.removeEventListener('abort', onSignal);
    stream.then(forgetSignal, forgetSignal);
    if (signal?.aborted) onSignal();
    this.#arriving.add(stream);
    this.#admit(generation, input, params, options)
      .catch((thrown: unknown) => stream.fail(toMillraceError(thrown)))
      .finally(() => this.#arriving.delete(stream));
    return stream;
  }

  renderChat(messages: readonly ChatMessage[], options?: ChatTemplateOptions): Promise<{ text: string; tokenIds: Int32Array }> {
    return renderToIds(this.tokenizer, this.#input.chatTemplate, messages, options);
  }

  stats(): EngineStats {
    return readStats(this.#counters, this.scheduler, this.#clock, this.#parts.tiers ?? null);
  }

  requests(): readonly RequestReport[] {
    const nowMs = this.#clock.nowMs();
    const compiling = Array.from(this.#compiling.values(), ({ startMs, ...known }) => reportCompiling(known, nowMs - startMs));
    return [...this.scheduler.report(nowMs), ...compiling];
  }

  useSchedulingPolicy(name: string): void {
    const make = Object.hasOwn(policies, name) ? policies[name as PolicyName] : undefined;
    if (make !== undefined) {
      this.scheduler.use(make());
      return;
    }
    throw new MillraceError('REQUEST_INVALID', {
      message: 'There is no such scheduling policy.',
      expected: `one of ${Object.keys(policies).join(', ')}`,
      received: JSON.stringify(name.slice(0, 100)),
      param: 'policy',
    });
  }

  onFinished(listener: (event: FinishedRequest) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  describe(): EngineDescription {
    const { program, cache, backend } = this.#parts;
    return {
      plan: program.plan,
      kernels: program.kernels,
      backend: backend.info,
      memory: { weightBytes: program.weightBytes, arenaBytes: program.arenaBytes, cacheBytes: cache.sizeBytes },
    };
  }

  /** See `Program.profile`; null where the backend does not count. */
  profile(): readonly NodeTime[] | null {
    return this.#parts.program.profile?.() ?? null;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    const reason = new MillraceError('ENGINE_CLOSED', 'The engine was closed while the request was running.');
    for (const stream of this.#arriving) stream.abort(reason);
    this.#holder.close();
    this.#output.failAll(reason, this.#clock.nowMs());
    await this.#loop.stop();
    await this.#mover?.close();
    this.#counters.isStopped = true;
    await this.#retention.close();
    this.#parts.program.close();
    this.#parts.cache.close();
    await this.#parts.backend.close();
    await this.tokenizer.close();
  }

  /** Prepares the prompt and hands the choices to the scheduler, unless the owner has left meanwhile. */
  async #admit(generation: Generation, input: GenerateInput, given: SamplingParams, options: GenerateOptions): Promise<void> {
    const { stream } = generation;
    this.#refuseWhenClosed();
    const whole = await promptTokenIds(input, this.#input);
    this.#refuseWhenClosed();
    if (stream.isDone) return;
    const prompt = lastTokens(whole, given.truncatePromptTokens ?? null, this.#parts.limits.maxModelLen);
    const retention = options.kvCache === undefined ? null : await this.#retention.policyOf(options.kvCache, prompt.length);
    const params = resolveSamplingParams(given, {
      maxTokens: outputRoom(retention, prompt.length, this.#parts.limits.maxModelLen, given.maxTokens),
      vocabSize: this.model.vocabSize,
      maxPromptLogprobs: this.#parts.limits.maxPromptLogprobs ?? MAX_TOP_LOGPROBS,
      defaults: this.#parts.samplingDefaults ?? {},
      drawSeed: () => this.#drawSeed(),
    });
    const scheduling = schedulingOf(options, generation.startMs);
    const isHeld = params.structuredOutput !== null || params.thinkingTokenBudget !== null || options.calls !== undefined;
    const held = isHeld ? await this.#hold(generation, input, prompt, params, options, scheduling) : [];
    this.#refuseWhenClosed();
    if (stream.isDone) return;
    const { logitsProcessors = [], stopWhen = null } = options;
    if (params.useBeamSearch) {
      refuseWithBeams(options.kvCache);
      const parts = { tokenizer: this.tokenizer, vocabSize: this.model.vocabSize, eosTokenIds: this.#eosTokenIds };
      generation.beams = new BeamOutput(generation, { id: stream.requestId, promptTokenIds: prompt, params, ...scheduling }, options, parts);
    }
    let first: Request | undefined;
    for (let choice = 0; generation.beams === null && choice < params.bestOf; choice++) {
      const sibling = first === undefined ? {} : { sibling: first };
      const request = new Request({ id: stream.requestId, promptTokenIds: prompt, params, choice, retention, ...scheduling, ...sibling });
      first ??= request;
      const sampling = requestSampling(request, this.#eosTokenIds, this.tokenizer, this.model.vocabSize);
      request.wantsPromptRows = choice === 0 && params.promptLogprobs !== null && prompt.length > 1;
      request.waitsForSample = sampling.waitsForSample || (held[choice] ?? null) !== null || logitsProcessors.length > 0;
      generation.choices.push({
        request,
        generation,
        sampling,
        detokenizer: new IncrementalDetokenizer(this.tokenizer, { skipSpecialTokens: params.skipSpecialTokens, promptTokenIds: prompt }),
        stops: new StopStringMatcher(params.stop, { includeStop: params.includeStopStringInOutput }),
        markerTokenIds: options.markerTokenIds ?? noTokens,
        held: held[choice] ?? null,
        logitsProcessors,
        stopWhen,
        written: { tokenIds: [], text: '' },
        numTokens: 0,
        lastTokenMs: 0,
      });
    }
    const { beams } = generation;
    this.scheduler.add(beams === null ? generation.choices.map((choice) => choice.request) : [beams.group.leader]);
    this.#output.register(generation);
    const admission = { requestId: stream.requestId, promptTokenIds: prompt, maxTokens: params.maxTokens, seed: params.seed };
    stream.admit(admission, params.n, params.logprobs, params.bestOf, params.promptLogprobs !== null);
    this.#loop.wake();
  }

  /** While its grammar is compiled a request waits in no line, and is reported here. */
  async #hold(
    { stream, startMs }: Generation,
    input: GenerateInput,
    prompt: Int32Array,
    params: ResolvedSamplingParams,
    { calls = null }: { calls?: GenerateOptions['calls'] | null },
    { tenant = '', priority = 0 }: Pick<RequestOptions, 'tenant' | 'priority'>,
  ): Promise<readonly (HeldOutput | null)[]> {
    const constraint = this.#holder.constraintOf(input, prompt, params, calls);
    if (constraint !== null) this.#compiling.set(stream, { id: stream.requestId, tenant, priority, promptTokens: prompt.length, startMs });
    try {
      return await this.#holder.hold(constraint, prompt, params.thinkingTokenBudget, params.bestOf);
    } finally {
      this.#compiling.delete(stream);
    }
  }

  #refuseWhenClosed(): void {
    if (this.#closing !== null) throw new MillraceError('ENGINE_CLOSED', 'The engine is closed.');
    if (this.#counters.isStopped) throw new MillraceError('ENGINE_CLOSED', 'The engine has stopped after an internal error.');
  }

  #drawSeed(): number {
    const { seed } = this.#parts;
    if (seed === undefined) return randomInt(2 ** 48 - 1);
    // one stream of seeds from a fixed start: Weyl steps by the golden ratio
    this.#numDrawnSeeds++;
    return Number(BigInt.asUintN(52, BigInt(seed) + BigInt(this.#numDrawnSeeds) * 0x9e3779b97f4a7n));
  }

  #announce(event: FinishedRequest): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (thrown) {
        // a listener is a guest: its fault must not end anyone's generation
        process.emitWarning(`A listener of finished requests threw: ${toMillraceError(thrown).message}`);
      }
    }
  }
}
