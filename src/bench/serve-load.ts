/**
 * Load on a server over HTTP. Open loop: requests are sent at their times whatever happens (`requestRate`, `burstiness`). Closed loop: with an
 * infinite rate and `maxConcurrency`, a request is sent when one ends. Both limits may be given together.
 */
import { type Clock, realClock } from '../base/clock.ts';
import { arrivalTimesMs } from './arrivals.ts';
import { type CompletionOutcome, type CompletionRequest, complete } from './completion-client.ts';
import { randomPrompts, seededRandom } from './random-prompts.ts';
import { type Distribution, distribution } from './statistics.ts';

export interface ServeLoadOptions {
  readonly baseUrl: string;
  readonly model: string;
  readonly apiKey: string | null;
  readonly numPrompts: number;
  /** Requests a second; Infinity sends all at once. */
  readonly requestRate: number;
  readonly burstiness: number;
  /** Requests under way at most, or null. */
  readonly maxConcurrency: number | null;
  readonly inputLen: number;
  readonly outputLen: number;
  /** 0 to 1: lengths are uniform within this share of `inputLen` and `outputLen` on either side. 0 when absent. */
  readonly rangeRatio?: number;
  /** Tokens that all prompts begin with, before `inputLen` of their own. 0 when absent. */
  readonly prefixLen?: number;
  /** Random ids are drawn below this. */
  readonly vocabSize: number;
  readonly seed: number;
  readonly percentiles: readonly number[];
  /** Bounds in milliseconds; a request that keeps all of them counts as good. */
  readonly goodput: Partial<Record<'ttft' | 'tpot' | 'e2el', number>>;
}

/** All times in milliseconds. */
export interface ServeLoadReport {
  readonly completed: number;
  readonly failed: number;
  /** The first few different error messages. */
  readonly errors: readonly string[];
  readonly durationMs: number;
  readonly requestsPerSecond: number;
  readonly outputTokensPerSecond: number;
  readonly totalTokensPerSecond: number;
  /** Requests a second within the bounds of `goodput`, or null without bounds. */
  readonly goodRequestsPerSecond: number | null;
  /** Most requests under way at one time. */
  readonly peakConcurrency: number;
  /** Time to first token. */
  readonly ttft: Distribution | null;
  /** Time per output token after the first, one value a request. */
  readonly tpot: Distribution | null;
  /** Gaps between chunks of all requests. */
  readonly itl: Distribution | null;
  /** From sending to the end of the stream. */
  readonly e2el: Distribution | null;
}

export interface ServeLoadHooks {
  onProgress?(done: number, total: number): void;
  readonly clock?: Clock;
  readonly signal?: AbortSignal;
}

/** What is asked: the same for the same seed. */
export interface ServeLoadWork {
  readonly prefix: Int32Array;
  /** Each with the prefix. */
  readonly prompts: readonly Int32Array[];
  readonly outputLens: readonly number[];
}

export function serveLoadWork(options: ServeLoadOptions, random: () => number): ServeLoadWork {
  const { numPrompts, vocabSize, inputLen, outputLen, rangeRatio = 0, prefixLen = 0 } = options;
  const around = (length: number): number => {
    if (rangeRatio === 0) return length;
    const [low, high] = [Math.max(1, Math.ceil(length * (1 - rangeRatio))), Math.floor(length * (1 + rangeRatio))];
    return low + Math.floor(random() * (high - low + 1));
  };
  const [prefix] = randomPrompts(1, prefixLen, vocabSize, random);
  const prompts = Array.from({ length: numPrompts }, () => {
    const [own] = randomPrompts(1, around(inputLen), vocabSize, random);
    const prompt = new Int32Array(prefix.length + own.length);
    prompt.set(prefix);
    prompt.set(own, prefix.length);
    return prompt;
  });
  return { prefix, prompts, outputLens: Array.from({ length: numPrompts }, () => around(outputLen)) };
}

/** Sends all requests and waits for all of them. */
export async function benchServe(options: ServeLoadOptions, hooks: ServeLoadHooks = {}): Promise<ServeLoadReport> {
  const clock = hooks.clock ?? realClock;
  const random = seededRandom(options.seed);
  const { prompts, outputLens } = serveLoadWork(options, random);
  const arrivals = arrivalTimesMs(options.numPrompts, options.requestRate, options.burstiness, random);
  const slots = new Slots(options.maxConcurrency ?? Number.POSITIVE_INFINITY);
  const startMs = clock.nowMs();
  let done = 0;

  const send = async (index: number): Promise<CompletionOutcome> => {
    await slots.take();
    const request: CompletionRequest = {
      baseUrl: options.baseUrl,
      model: options.model,
      apiKey: options.apiKey,
      promptTokenIds: Array.from(prompts[index]),
      maxTokens: outputLens[index],
      seed: options.seed + index,
      ...(hooks.signal === undefined ? {} : { signal: hooks.signal }),
    };
    try {
      return await complete(request, clock);
    } finally {
      slots.giveBack();
      hooks.onProgress?.(++done, options.numPrompts);
    }
  };

  const outcomes: Promise<CompletionOutcome>[] = [];
  for (let i = 0; i < options.numPrompts && !hooks.signal?.aborted; i++) {
    const waitMs = startMs + arrivals[i] - clock.nowMs();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    outcomes.push(send(i));
  }
  return summarise(await Promise.all(outcomes), clock.nowMs() - startMs, slots.peak, options);
}

/** Permits for requests under way; those without one wait in order. */
class Slots {
  #free: number;
  #held = 0;
  peak = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async take(): Promise<void> {
    if (this.#free === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#free--;
    this.peak = Math.max(this.peak, ++this.#held);
  }

  giveBack(): void {
    this.#held--;
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

/** Figures of a finished load. */
export function summarise(
  outcomes: readonly CompletionOutcome[],
  durationMs: number,
  peakConcurrency: number,
  options: Pick<ServeLoadOptions, 'percentiles' | 'goodput'>,
): ServeLoadReport {
  const good = outcomes.filter((outcome) => outcome.error === null);
  const latencies = good.map(latenciesOf);
  const seconds = durationMs / 1000;
  const outputTokens = good.reduce((sum, outcome) => sum + outcome.completionTokens, 0);
  const promptTokens = good.reduce((sum, outcome) => sum + outcome.promptTokens, 0);
  const bounds = Object.entries(options.goodput) as ['ttft' | 'tpot' | 'e2el', number][];
  const within = latencies.filter((latency) => bounds.every(([name, bound]) => (latency[name] ?? 0) <= bound)).length;
  const values = (name: 'ttft' | 'tpot' | 'e2el'): number[] => latencies.map((latency) => latency[name]).filter((value) => value !== null);
  return {
    completed: good.length,
    failed: outcomes.length - good.length,
    errors: [...new Set(outcomes.flatMap((outcome) => outcome.error ?? []))].slice(0, 5),
    durationMs,
    requestsPerSecond: good.length / seconds,
    outputTokensPerSecond: outputTokens / seconds,
    totalTokensPerSecond: (outputTokens + promptTokens) / seconds,
    goodRequestsPerSecond: bounds.length === 0 ? null : within / seconds,
    peakConcurrency,
    ttft: distribution(values('ttft'), options.percentiles),
    tpot: distribution(values('tpot'), options.percentiles),
    itl: distribution(
      latencies.flatMap((latency) => latency.gaps),
      options.percentiles,
    ),
    e2el: distribution(values('e2el'), options.percentiles),
  };
}

interface Latencies {
  readonly ttft: number | null;
  readonly tpot: number | null;
  readonly e2el: number;
  readonly gaps: readonly number[];
}

function latenciesOf({ sentMs, chunksMs, endMs, completionTokens }: CompletionOutcome): Latencies {
  const first = chunksMs[0];
  const last = chunksMs.at(-1);
  const ttft = first === undefined ? null : first - sentMs;
  const tpot = first === undefined || last === undefined || completionTokens < 2 ? null : (last - first) / (completionTokens - 1);
  return { ttft, tpot, e2el: endMs - sentMs, gaps: chunksMs.slice(1).map((at, i) => at - chunksMs[i]) };
}
