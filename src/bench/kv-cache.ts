/** What the prefix cache costs in JavaScript: matching and remembering long prompts, the heap of a large tree, and how long it ever stops the event loop. */
import { readFileSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { KvCache } from '../kv/kv-cache.ts';
import { percentile, type Spread, spread } from './statistics.ts';

export interface KvCacheBenchOptions {
  /** Tokens of the long prompt. */
  readonly promptTokens: number;
  /** Tokens that the tree remembers. */
  readonly cachedTokens: number;
  readonly blockSize: number;
  readonly repetitions: number;
}

export interface KvCacheReport extends KvCacheBenchOptions {
  /** Finding a prompt that is wholly remembered, milliseconds. */
  readonly matchMs: Spread;
  /** Remembering one of which nothing was, blocks taken before. */
  readonly insertMs: Spread;
  /** Taking all blocks for it. */
  readonly allocateMs: Spread;
  /** Giving it back. */
  readonly freeMs: Spread;
  /** Bytes that the cache with its full tree takes: objects and arrays. */
  readonly treeBytes: number;
  readonly numNodes: number;
  /** A whole collection at a stroke, without the tree and with it: the worst that the collector could do for its sake. */
  readonly collectMs: { readonly before: number; readonly withTree: number };
  /** While requests come and go in the full tree, each evicting others: time of a whole request, and of the longest pause of the garbage collector. */
  readonly requestMs: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly gcPauseMs: { readonly count: number; readonly max: number };
  /** What the longest request consists of: collecting garbage, being ready to run on a processor that others had (where the system says), and the rest. */
  readonly longest: { readonly gcMs: number; readonly waitedMs: number; readonly ownMs: number };
  /** Of all requests, the longest without the time that others had the processor: what the cache itself stops an event loop for. */
  readonly longestOwnMs: number;
}

const REQUEST_TOKENS = 2048;
const NUM_REQUESTS = 2000;

export async function benchKvCache(options: KvCacheBenchOptions): Promise<KvCacheReport> {
  const collect = garbageCollector();
  const long = measureLongPrompt(options);
  const collectBefore = timed(collect);
  const before = usedBytes();
  const { kv, fill } = cacheOf(options);
  fill();
  const collectMs = { before: collectBefore, withTree: timed(collect) };
  const treeBytes = usedBytes() - before;
  const { numNodes } = kv;
  const churned = await churn(kv);
  return { ...options, ...long, treeBytes, numNodes, collectMs, ...churned };
}

/** Milliseconds of the shortest of five runs: the others had company. */
function timed(work: () => void): number {
  let least = Infinity;
  for (let i = 0; i < 5; i++) {
    const startMs = performance.now();
    work();
    least = Math.min(least, performance.now() - startMs);
  }
  return least;
}

function measureLongPrompt({ promptTokens, blockSize, repetitions }: KvCacheBenchOptions) {
  const times = { matchMs: [] as number[], insertMs: [] as number[], allocateMs: [] as number[], freeMs: [] as number[] };
  const kv = newCache(2 * Math.ceil(promptTokens / blockSize) + 2, blockSize);
  const warmUp = 3;
  for (let run = 0; run < repetitions + warmUp; run++) {
    const ids = randomIds(promptTokens, run);
    const note = (name: keyof typeof times, work: () => void) => {
      const startMs = performance.now();
      work();
      if (run >= warmUp) times[name].push(performance.now() - startMs);
    };
    for (const name of ['insertMs', 'matchMs'] as const) {
      const sequence = kv.open();
      let found = 0;
      const look = () => {
        found = kv.matchPrefix(sequence, ids, ids.length);
      };
      if (name === 'matchMs') note('matchMs', look);
      else {
        look();
        note('allocateMs', () => void kv.allocate(sequence, found, ids.length));
        note('insertMs', () => kv.publish(sequence, ids, ids.length));
      }
      const release = () => kv.free(sequence, ids, ids.length);
      if (name === 'matchMs') note('freeMs', release);
      else release();
    }
  }
  const of = (values: readonly number[]): Spread => spread(values) ?? { median: Number.NaN, min: Number.NaN, max: Number.NaN };
  return { matchMs: of(times.matchMs), insertMs: of(times.insertMs), allocateMs: of(times.allocateMs), freeMs: of(times.freeMs) };
}

/** Prompts of 2,048 tokens that share beginnings of different lengths, until the tree holds what was asked for. */
function cacheOf({ cachedTokens, blockSize }: KvCacheBenchOptions): { kv: KvCache; fill(): void } {
  const kv = newCache(Math.ceil(cachedTokens / blockSize), blockSize);
  const fill = () => {
    for (let i = 0; kv.numFree > REQUEST_TOKENS / blockSize; i++) serve(kv, prompt(i));
  };
  return { kv, fill };
}

/** Requests in a full tree. */
async function churn(kv: KvCache): Promise<Pick<KvCacheReport, 'requestMs' | 'gcPauseMs' | 'longest' | 'longestOwnMs'>> {
  const pauses: { startTime: number; duration: number }[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) pauses.push({ startTime, duration });
  });
  observer.observe({ entryTypes: ['gc'] });
  const requests: { startTime: number; duration: number; waitedMs: number }[] = [];
  for (let i = 0; i < NUM_REQUESTS; i++) {
    const ids = prompt(1_000_000 + i);
    const waitedBefore = waitedForProcessorMs();
    const startTime = performance.now();
    serve(kv, ids);
    const duration = performance.now() - startTime;
    requests.push({ startTime, duration, waitedMs: Math.min(duration, waitedForProcessorMs() - waitedBefore) });
    if (i % 50 === 0) await nextTurn(); // entries of the observer come between turns
  }
  await nextTurn();
  observer.disconnect();
  const times = requests.map(({ duration }) => duration);
  const longest = requests.reduce((a, b) => (b.duration > a.duration ? b : a));
  const gcMs = pauses.reduce((sum, pause) => sum + overlapMs(longest, pause), 0);
  const { waitedMs, duration } = longest;
  return {
    requestMs: { p50: percentile(times, 50), p99: percentile(times, 99), max: duration },
    gcPauseMs: { count: pauses.length, max: Math.max(0, ...pauses.map((pause) => pause.duration)) },
    longest: { gcMs, waitedMs, ownMs: Math.max(0, duration - gcMs - waitedMs) },
    longestOwnMs: Math.max(...requests.map((request) => request.duration - request.waitedMs)),
  };
}

function overlapMs(a: { startTime: number; duration: number }, b: { startTime: number; duration: number }): number {
  return Math.max(0, Math.min(a.startTime + a.duration, b.startTime + b.duration) - Math.max(a.startTime, b.startTime));
}

/** Milliseconds that this thread was ready to run and had no processor; 0 where the system does not say. */
function waitedForProcessorMs(): number {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}

function newCache(numBlocks: number, blockSize: number): KvCache {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks, numLayers: 1, numKvHeads: 1, headDim: 1 }];
  return new KvCache({ groups, blockSize, enablePrefixCaching: true });
}

const drained = { copies: new Int32Array(64) };

function serve(kv: KvCache, ids: Int32Array): void {
  const sequence = kv.open();
  const found = kv.matchPrefix(sequence, ids, ids.length - 1);
  kv.allocate(sequence, found, ids.length);
  kv.drainCopies(drained);
  kv.free(sequence, ids, ids.length);
}

/** One of sixteen system prompts of 512 tokens, then what nobody else says. */
function prompt(index: number): Int32Array {
  const ids = randomIds(REQUEST_TOKENS, index);
  const system = randomIds(512, -1 - (index % 16));
  ids.set(system);
  return ids;
}

function randomIds(length: number, seed: number): Int32Array {
  const ids = new Int32Array(length);
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  for (let i = 0; i < length; i++) {
    state = Math.imul(state, 1664525) + 1013904223;
    ids[i] = (state >>> 8) % 150_000;
  }
  return ids;
}

function usedBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** The collector by hand, without starting Node anew. */
function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

export function kvCacheText(report: KvCacheReport): string {
  const ms = ({ median, min, max }: Spread) => `${median.toFixed(3)} ms (${min.toFixed(3)} to ${max.toFixed(3)})`;
  const { promptTokens, cachedTokens, blockSize, treeBytes, numNodes, requestMs, gcPauseMs, longest } = report;
  const counted = (value: number) => value.toLocaleString('en-US');
  return [
    `prompt of ${counted(promptTokens)} tokens, blocks of ${blockSize}, median and range of ${report.repetitions}:`,
    `  match     ${ms(report.matchMs)}`,
    `  insert    ${ms(report.insertMs)}`,
    `  allocate  ${ms(report.allocateMs)}`,
    `  free      ${ms(report.freeMs)}`,
    `tree of ${counted(cachedTokens)} cached tokens: ${counted(numNodes)} nodes, ${(treeBytes / 1e6).toFixed(1)} MB of heap and arrays`,
    `${counted(NUM_REQUESTS)} requests of ${counted(REQUEST_TOKENS)} tokens in it, each evicting others:`,
    `  a request    p50 ${requestMs.p50.toFixed(3)} ms, p99 ${requestMs.p99.toFixed(3)} ms, longest ${requestMs.max.toFixed(2)} ms`,
    `               the longest: ${longest.gcMs.toFixed(2)} ms collecting garbage, ${longest.waitedMs.toFixed(2)} waiting for a processor, ${longest.ownMs.toFixed(2)} the rest`,
    `               longest without waiting for a processor ${report.longestOwnMs.toFixed(2)} ms`,
    `  a whole collection at a stroke ${report.collectMs.before.toFixed(2)} ms without the tree, ${report.collectMs.withTree.toFixed(2)} ms with it`,
    `  collections  ${gcPauseMs.count}, longest pause ${gcPauseMs.max.toFixed(2)} ms`,
  ].join('\n');
}
