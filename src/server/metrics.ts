import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { EngineStats, FinishedRequest } from '../engine/engine.ts';
import { EngineHistogram } from './engine-histogram.ts';
import type { ModelTable, ServedModel } from './model-table.ts';

/** Upper bounds in seconds, as vLLM's boards expect them. */
const firstTokenBuckets = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560];
const tokenGapBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
const requestBuckets = [0.03, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];
const httpBuckets = [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600];

interface EngineMetric {
  readonly help: string;
  read(stats: EngineStats): number;
}

function sumOfTiers({ tiers }: EngineStats, count: Exclude<keyof EngineStats['tiers'][number], 'name'>): number {
  return tiers.reduce((sum, tier) => sum + tier[count], 0);
}

/** Counters that the engine keeps itself: only grow, read at every scrape. */
export const engineCounters = {
  'vllm:prompt_tokens_total': { help: 'Prompt tokens processed.', read: (stats) => stats.promptTokens },
  'vllm:generation_tokens_total': { help: 'Tokens generated.', read: (stats) => stats.generationTokens },
  'vllm:prefix_cache_queries_total': { help: 'Prompt tokens looked up in the prefix cache.', read: (stats) => stats.prefixCacheQueriedTokens },
  'vllm:prefix_cache_hits_total': { help: 'Prompt tokens found in the prefix cache.', read: (stats) => stats.prefixCacheHitTokens },
  'vllm:external_prefix_cache_queries_total': { help: 'Tokens that the KV tiers were asked for.', read: (stats) => stats.tierQueriedTokens },
  'vllm:external_prefix_cache_hits_total': { help: 'Tokens that the KV tiers gave.', read: (stats) => stats.tierHitTokens },
  'millrace:prefix_cache_copied_tokens_total': {
    help: 'Prompt tokens found in the prefix cache inside a block, whose head was copied.',
    read: (stats) => stats.copiedTokens,
  },
  'millrace:kv_blocks_evicted_total': { help: 'KV blocks of remembered prefixes that were forgotten.', read: (stats) => stats.kvBlocksEvicted },
  'millrace:kv_tier_stored_blocks_total': { help: 'Blocks that KV tiers took.', read: (stats) => sumOfTiers(stats, 'numStored') },
  'millrace:kv_tier_loaded_blocks_total': { help: 'Blocks that KV tiers gave back.', read: (stats) => sumOfTiers(stats, 'numLoaded') },
  'millrace:kv_tier_evicted_blocks_total': {
    help: 'Blocks that KV tiers forgot for want of room.',
    read: (stats) => sumOfTiers(stats, 'numEvicted'),
  },
  'millrace:kv_tier_failures_total': {
    help: 'Blocks that KV tiers did not take (no room, no time, a failing disk) or could not give back (gone, corrupt).',
    read: (stats) => sumOfTiers(stats, 'numFailedStores') + sumOfTiers(stats, 'numFailedLoads'),
  },
  'vllm:num_preemptions_total': { help: 'Requests put back into the queue because KV blocks ran out.', read: (stats) => stats.numPreemptions },
  'millrace:swaps_total': {
    help: 'Preemptions after which blocks went to a KV tier instead of being computed again.',
    read: (stats) => stats.numSwaps,
  },
  'millrace:jump_forward_tokens_total': {
    help: 'Generated tokens that a grammar forced and that took no step of their own.',
    read: (stats) => stats.jumpForwardTokens,
  },
  'millrace:steps_total': { help: 'Steps finished.', read: (stats) => stats.numSteps },
} as const satisfies Record<string, EngineMetric>;

/** Readings of the moment. */
export const engineGauges = {
  'vllm:num_requests_running': { help: 'Requests in the batch.', read: (stats) => stats.numRunning },
  'vllm:num_requests_waiting': { help: 'Requests queued.', read: (stats) => stats.numWaiting },
  'vllm:kv_cache_usage_perc': { help: 'Share of KV blocks held by requests, 0 to 1.', read: kvUsage },
  'vllm:gpu_cache_usage_perc': { help: 'Older name of vllm:kv_cache_usage_perc, which boards still ask for.', read: kvUsage },
  'millrace:kv_blocks': { help: 'KV blocks in all.', read: (stats) => stats.kvBlocksTotal },
  'millrace:kv_blocks_referenced': { help: 'KV blocks held by requests.', read: (stats) => stats.kvBlocksReferenced },
  'millrace:kv_blocks_cached': { help: 'KV blocks held by the prefix cache alone.', read: (stats) => stats.kvBlocksCached },
  'millrace:kv_tier_bytes': { help: 'Bytes that KV tiers hold.', read: (stats) => sumOfTiers(stats, 'sizeBytes') },
  'millrace:step_host_seconds': { help: 'JavaScript time of the last step.', read: (stats) => stats.lastStepHostMs / 1000 },
  'millrace:target_itl_seconds': { help: 'What --target-itl-ms asks for; 0 without it.', read: ({ pacing }) => (pacing?.targetItlMs ?? 0) / 1000 },
  'millrace:expected_step_seconds': {
    help: 'Time that the last step was expected to take, with --target-itl-ms.',
    read: ({ pacing }) => (pacing?.expectedStepMs ?? 0) / 1000,
  },
  'millrace:prompt_token_budget': {
    help: 'Prompt tokens that --target-itl-ms leaves room for in a step beside rows that decode.',
    read: ({ pacing }) => pacing?.promptTokenBudget ?? 0,
  },
  'millrace:since_progress_seconds': { help: 'Time since a step finished or the engine was idle.', read: (stats) => stats.sinceProgressMs / 1000 },
  'millrace:oldest_waiting_seconds': { help: 'How long the oldest queued request has waited.', read: (stats) => stats.oldestWaitingMs / 1000 },
} as const satisfies Record<string, EngineMetric>;

/** One observation a finished request; null where the request did not get that far. Times in seconds. */
export const requestHistograms = {
  'vllm:time_to_first_token_seconds': { help: 'Arrival to first token.', buckets: firstTokenBuckets, read: (r) => seconds(r.firstTokenMs) },
  'vllm:e2e_request_latency_seconds': { help: 'Arrival to end.', buckets: requestBuckets, read: (r) => seconds(r.totalMs) },
  'vllm:request_queue_time_seconds': { help: 'Arrival to first step.', buckets: requestBuckets, read: (r) => seconds(r.queueMs) },
  'vllm:request_inference_time_seconds': { help: 'First step to end.', buckets: requestBuckets, read: (r) => span(r.queueMs, r.totalMs) },
  'vllm:request_prefill_time_seconds': { help: 'First step to first token.', buckets: requestBuckets, read: (r) => span(r.queueMs, r.firstTokenMs) },
  'vllm:request_decode_time_seconds': { help: 'First token to end.', buckets: requestBuckets, read: (r) => span(r.firstTokenMs, r.totalMs) },
  'vllm:request_time_per_output_token_seconds': {
    help: 'Mean time of an output token after the first.',
    buckets: tokenGapBuckets,
    read: (r) => meanTokenSeconds(r),
  },
  'vllm:request_prompt_tokens': { help: 'Prompt tokens.', buckets: oneTwoFive(1e6), read: (r) => r.promptTokens },
  'vllm:request_generation_tokens': { help: 'Generated tokens.', buckets: oneTwoFive(1e6), read: (r) => r.generationTokens },
} as const satisfies Record<string, { help: string; buckets: readonly number[]; read(request: FinishedRequest): number | null }>;

const cacheLabels = ['model_name', 'engine', 'block_size', 'cache_dtype', 'num_gpu_blocks', 'enable_prefix_caching'] as const;
const modelLabels = ['model_name', 'engine'] as const;

export interface MetricDescription {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
}

/** Everything that `/metrics` shows of one server: a registry of its own, so servers in one process do not mix. */
export class ServerMetrics {
  readonly #registry = new Registry();
  readonly #httpRequests: Counter<'method' | 'handler' | 'status'>;
  readonly #httpSeconds: Histogram<'method' | 'handler'>;
  readonly #loopDelay = monitorEventLoopDelay({ resolution: 10 });
  readonly #unsubscribe: (() => void)[];

  constructor(models: ModelTable) {
    this.#registerEngineReadings(models);
    this.#registerSteps(models);
    this.#unsubscribe = this.#registerRequests(models);
    const registers = [this.#registry];
    const http = { registers, labelNames: ['method', 'handler', 'status'] as const };
    this.#httpRequests = new Counter({ name: 'http_requests_total', help: 'HTTP requests by endpoint and status; 499: the client left.', ...http });
    this.#httpSeconds = new Histogram({
      name: 'http_request_duration_seconds',
      help: 'HTTP requests, first byte in to last byte out.',
      labelNames: ['method', 'handler'],
      buckets: httpBuckets,
      registers,
    });
    this.#registerProcess();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Prometheus text. */
  render(): Promise<string> {
    return this.#registry.metrics();
  }

  /** Every registered metric, for `docs/metrics.md`. */
  describe(): readonly MetricDescription[] {
    return this.#registry.getMetricsAsArray().map((metric) => {
      const {
        name,
        help,
        type,
        labelNames = [],
      } = metric as unknown as { name: string; help: string; type?: string; labelNames?: readonly string[] };
      return { name, help, labels: labelNames.filter((label) => label !== 'le'), type: type ?? metric.constructor.name.toLowerCase() };
    });
  }

  observeHttp(method: string, handler: string, status: number, durationMs: number): void {
    this.#httpRequests.inc({ method, handler, status: String(status) });
    this.#httpSeconds.observe({ method, handler }, durationMs / 1000);
  }

  close(): void {
    this.#loopDelay.disable();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#registry.clear();
  }

  #registerEngineReadings(models: ModelTable): void {
    const registers = [this.#registry];
    for (const [name, { help, read }] of Object.entries(engineCounters)) {
      const counter = new Counter({
        name,
        help,
        labelNames: modelLabels,
        registers,
        collect: () => {
          counter.reset(); // prom-client counters only add: start anew from the engine's own count
          for (const model of models.served) counter.inc(labelsOf(model), readOrZero(model, read));
        },
      });
    }
    for (const [name, { help, read }] of Object.entries(engineGauges)) {
      const gauge = new Gauge({
        name,
        help,
        labelNames: modelLabels,
        registers,
        collect: () => {
          for (const model of models.served) gauge.set(labelsOf(model), readOrZero(model, read));
        },
      });
    }
  }

  #registerSteps(models: ModelTable): void {
    const registers = [this.#registry];
    new EngineHistogram({
      name: 'vllm:iteration_tokens_total',
      help: 'Tokens computed in a step, of prompts and new ones together.',
      labelNames: modelLabels,
      registers,
      read: () =>
        models.served.flatMap((model) => {
          const sizes = readOr(model, (stats) => stats.stepTokens, null);
          return sizes === null ? [] : [{ labels: labelsOf(model), sizes }];
        }),
    });
    const cache: Gauge<(typeof cacheLabels)[number]> = new Gauge({
      name: 'vllm:cache_config_info',
      help: 'Always 1; the labels say how the KV cache is laid out.',
      labelNames: cacheLabels,
      registers,
      collect: () => {
        cache.reset();
        for (const model of models.served) cache.set(cacheInfo(model), 1);
      },
    });
  }

  #registerRequests(models: ModelTable): (() => void)[] {
    const registers = [this.#registry];
    const histograms = Object.entries(requestHistograms).map(([name, { help, buckets, read }]) => ({
      read,
      histogram: new Histogram({ name, help, buckets: [...buckets], labelNames: modelLabels, registers }),
    }));
    const gaps = new Histogram({
      name: 'vllm:inter_token_latency_seconds',
      help: 'Time between two tokens of a request.',
      buckets: tokenGapBuckets,
      labelNames: modelLabels,
      registers,
    });
    const finished = new Counter({
      name: 'vllm:request_success_total',
      help: 'Requests that ended, by finished_reason: stop, length, abort, error.',
      labelNames: [...modelLabels, 'finished_reason'] as const,
      registers,
    });
    const cached = new Counter({
      name: 'vllm:prompt_tokens_cached_total',
      help: 'Prompt tokens of finished requests that came from the prefix cache.',
      labelNames: modelLabels,
      registers,
    });
    return models.served.map((model) => {
      const labels = labelsOf(model);
      // Series exist from the start: a rate over a series that appears later misses its first step.
      for (const { histogram } of histograms) histogram.zero(labels);
      gaps.zero(labels);
      cached.inc(labels, 0);
      for (const finished_reason of ['stop', 'length', 'abort', 'error']) finished.inc({ ...labels, finished_reason }, 0);
      return model.engine.onFinished((request) => {
        finished.inc({ ...labels, finished_reason: request.finishReason });
        cached.inc(labels, request.cachedTokens);
        for (const { histogram, read } of histograms) {
          const value = read(request);
          if (value !== null) histogram.observe(labels, value);
        }
        for (const gapMs of request.interTokenMs) gaps.observe(labels, gapMs / 1000);
      });
    });
  }

  #registerProcess(): void {
    const gauge = (name: string, help: string, read: () => number) => {
      const registered: Gauge = new Gauge({ name, help, registers: [this.#registry], collect: () => registered.set(read()) });
    };
    const startSeconds = Date.now() / 1000 - process.uptime();
    this.#loopDelay.enable();
    gauge('process_start_time_seconds', 'Unix time at which the process started.', () => startSeconds);
    gauge('process_resident_memory_bytes', 'Resident memory, mapped weights included.', () => process.memoryUsage.rss());
    gauge('nodejs_heap_size_used_bytes', 'JavaScript heap in use.', () => process.memoryUsage().heapUsed);
    gauge('nodejs_eventloop_lag_p99_seconds', 'Event loop delay since the last scrape, 99th percentile.', () => {
      const p99Seconds = this.#loopDelay.percentile(99) / 1e9;
      this.#loopDelay.reset();
      return Number.isFinite(p99Seconds) ? p99Seconds : 0;
    });
    const cpu = new Counter({
      name: 'process_cpu_seconds_total',
      help: 'CPU time of the process, user and system.',
      registers: [this.#registry],
      collect: () => {
        const { user, system } = process.cpuUsage();
        cpu.reset();
        cpu.inc((user + system) / 1e6);
      },
    });
  }
}

function labelsOf(model: ServedModel): { model_name: string; engine: string } {
  return { model_name: model.names[0] ?? '', engine: '0' };
}

/** Boards say `gpu` of the device that computes, whatever it is. */
function cacheInfo(model: ServedModel): Record<(typeof cacheLabels)[number], string> {
  const { blockSize, kvDtype, enablePrefixCaching } = model.engine.config.values;
  return {
    ...labelsOf(model),
    block_size: String(blockSize ?? ''),
    cache_dtype: String(kvDtype ?? ''),
    num_gpu_blocks: String(readOr(model, (stats) => stats.kvBlocksTotal, 0)),
    enable_prefix_caching: String(enablePrefixCaching ?? ''),
  };
}

function readOrZero(model: ServedModel, read: (stats: EngineStats) => number): number {
  const value = readOr(model, read, 0);
  return Number.isFinite(value) ? value : 0;
}

/** A closed engine reads as nothing: a scrape never fails. */
function readOr<T, U>({ engine }: ServedModel, read: (stats: EngineStats) => T, otherwise: U): T | U {
  try {
    return read(engine.stats());
  } catch {
    return otherwise;
  }
}

function kvUsage({ kvBlocksReferenced, kvBlocksTotal }: EngineStats): number {
  return kvBlocksTotal === 0 ? 0 : kvBlocksReferenced / kvBlocksTotal;
}

function seconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1000;
}

function span(fromMs: number | null, toMs: number | null): number | null {
  return fromMs === null || toMs === null ? null : Math.max(0, toMs - fromMs) / 1000;
}

function meanTokenSeconds({ firstTokenMs, totalMs, generationTokens }: FinishedRequest): number | null {
  if (firstTokenMs === null || generationTokens < 2) return null;
  return Math.max(0, totalMs - firstTokenMs) / 1000 / (generationTokens - 1);
}

/** 1, 2, 5, 10, 20, 50, ... up to `most`. */
function oneTwoFive(most: number): readonly number[] {
  const buckets: number[] = [];
  for (let scale = 1; scale <= most; scale *= 10) buckets.push(...[scale, 2 * scale, 5 * scale].filter((bound) => bound <= most));
  return buckets;
}
