/** What the prefix cache costs in JavaScript: matching and remembering long prompts, the heap of a large tree, and how long it ever stops the event loop. */
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
  /** While requests come and go in the full tree, each evicting others: time of a whole request, and of the longest pause of the garbage collector. */
  readonly requestMs: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly gcPauseMs: { readonly count: number; readonly max: number };
}

const REQUEST_TOKENS = 2048;
const NUM_REQUESTS = 2000;

export async function benchKvCache(options: KvCacheBenchOptions): Promise<KvCacheReport> {
  const collect = garbageCollector();
  const long = measureLongPrompt(options);
  collect();
  const before = usedBytes();
  const { kv, fill } = cacheOf(options);
  fill();
  collect();
  const treeBytes = usedBytes() - before;
  const { numNodes } = kv;
  const churned = await churn(kv);
  return { ...options, ...long, treeBytes, numNodes, ...churned };
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
async function churn(kv: KvCache): Promise<Pick<KvCacheReport, 'requestMs' | 'gcPauseMs'>> {
  const pauses: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) pauses.push(duration);
  });
  observer.observe({ entryTypes: ['gc'] });
  const requests: number[] = [];
  for (let i = 0; i < NUM_REQUESTS; i++) {
    const ids = prompt(1_000_000 + i);
    const startMs = performance.now();
    serve(kv, ids);
    requests.push(performance.now() - startMs);
    if (i % 50 === 0) await nextTurn(); // entries of the observer come between turns
  }
  await nextTurn();
  observer.disconnect();
  return {
    requestMs: { p50: percentile(requests, 50), p99: percentile(requests, 99), max: Math.max(...requests) },
    gcPauseMs: { count: pauses.length, max: Math.max(0, ...pauses) },
  };
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
  const { promptTokens, cachedTokens, blockSize, treeBytes, numNodes, requestMs, gcPauseMs } = report;
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
    `  collections  ${gcPauseMs.count}, longest pause ${gcPauseMs.max.toFixed(2)} ms`,
  ].join('\n');
}
