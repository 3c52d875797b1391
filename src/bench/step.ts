/**
 * What a step costs in JavaScript: schedule, fill the arrays, work up the output, of the real engine over a backend that computes nothing. Measured while
 * all rows decode; readers take their text as a server would, between the steps.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Backend, CompileOptions, Program, Step } from '../backends/backend.ts';
import { LoadedEngine } from '../engine/loaded-engine.ts';
import { PlanBuilder } from '../plan/builder.ts';
import type { Plan } from '../plan/plan.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { randomPrompts, seededRandom } from './random-prompts.ts';
import { percentile } from './statistics.ts';

export interface StepBenchOptions {
  /** Rows that decode at once. */
  readonly rows: number;
  /** Tokens of each row's prompt. */
  readonly context: number;
  /** Steps that count. */
  readonly steps: number;
  readonly blockSize: number;
}

export interface StepBenchReport extends StepBenchOptions {
  readonly hostMs: { readonly p50: number; readonly p99: number; readonly max: number };
  /** Bytes of heap and arrays, after a collection, by which the engine has grown from the first step that counts to the last, for each token. */
  readonly grownBytesPerToken: number;
}

/** A backend that needs no weights. */
export type WeightlessBackend = Backend & { compile(plan: Plan, weights: null, options: CompileOptions): Promise<Program> };

const WARM_UP_STEPS = 200;
const STEP_TOKENS = 8192;

/** The least that an engine takes: ids in, logits out, one group of K and V. */
function emptyPlan(vocabSize: number): Plan {
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const table = builder.matrix('embedding', vocabSize, 1);
  const hidden = builder.value('hidden', 'tokens', 1);
  builder.emit('embedding', 'embedding', { inputs: [builder.tokenIds()], outputs: [hidden], weights: [table], attrs: { scale: 1 } });
  builder.cacheGroup({ name: 'full', kind: 'full', numLayers: 1, numKvHeads: 1, headDim: 1 });
  const selected = builder.value('selected', 'logits', 1);
  builder.emit('select-rows', 'select', { inputs: [hidden], outputs: [selected], attrs: {} });
  return builder.build('empty', { logits: builder.linear('head', selected, table) });
}

/** Looks at the engine each time that it hands a step over. */
class Probe {
  readonly #options: StepBenchOptions;
  readonly #collect = garbageCollector();
  readonly hostMs: number[] = [];
  readonly done: Promise<void>;
  #finish: () => void = () => {};
  #numSteps = 0;
  /** The last reading does not count: no full step before it, or a collection of ours in it. */
  #skip = true;
  #bytesBefore = 0;
  grownBytes = 0;

  constructor(options: StepBenchOptions) {
    this.#options = options;
    this.done = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  /** @param lastHostMs JavaScript time of the step before */
  see({ entries: [{ batch }] }: Step, lastHostMs: number): void {
    const { rows, steps } = this.#options;
    const isFull = batch.numRows === rows && batch.numTokens === rows;
    if (isFull && !this.#skip && this.hostMs.length < steps) this.hostMs.push(lastHostMs);
    this.#skip = !isFull || this.#numSteps < WARM_UP_STEPS;
    if (!isFull) return;
    this.#numSteps++;
    if (this.#numSteps === WARM_UP_STEPS + 1) {
      this.#bytesBefore = this.#usedBytes();
      this.#skip = true;
    }
    if (this.hostMs.length < steps || this.grownBytes !== 0) return;
    this.grownBytes = this.#usedBytes() - this.#bytesBefore;
    this.#finish();
  }

  #usedBytes(): number {
    this.#collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  }
}

/** The collector by hand, without starting Node anew. */
function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

async function engineOver(backend: WeightlessBackend, tokenizer: Tokenizer, options: StepBenchOptions, probe: Probe): Promise<LoadedEngine> {
  const { rows, context, blockSize } = options;
  const { vocabSize } = tokenizer;
  const maxModelLen = context + outputTokens(options);
  const limits = { maxModelLen, maxNumSeqs: rows, maxNumBatchedTokens: Math.max(STEP_TOKENS, rows), maxQueue: rows, enablePrefixCaching: true };
  const plan = emptyPlan(vocabSize);
  const program = await backend.compile(plan, null, { maxTokens: limits.maxNumBatchedTokens, maxLogitRows: rows });
  const numBlocks = Math.ceil(rows * (Math.ceil(maxModelLen / blockSize) + 2) * 1.02);
  const cache = await backend.createCache({ groups: plan.cacheGroups.map((group) => ({ ...group, numBlocks })), blockSize, dtype: 'f32' });
  const probed: Backend = {
    info: backend.info,
    compile: (...given) => backend.compile(...given),
    describe: (...given) => backend.describe(...given),
    createCache: (spec) => backend.createCache(spec),
    readBlocks: (...given) => backend.readBlocks(...given),
    writeBlocks: (...given) => backend.writeBlocks(...given),
    close: () => backend.close(),
    execute: (step) => {
      probe.see(step, engine.stats().lastStepHostMs);
      return backend.execute(step);
    },
  };
  const names = { servedNames: ['none'], path: '', architecture: 'None', numParameters: 0, notice: null };
  const model = { ...names, vocabSize, maxModelLen, hasChatTemplate: false };
  const engine = new LoadedEngine({
    model,
    tokenizer,
    chatTemplate: null,
    backend: probed,
    program,
    cache,
    limits,
    config: { values: {}, reasons: [] },
  });
  return engine;
}

/** Rows that came first write while the last are still read in. */
function outputTokens({ rows, context, steps }: StepBenchOptions): number {
  return WARM_UP_STEPS + steps + 2 * Math.ceil((rows * context) / (Math.max(STEP_TOKENS, 2 * rows) - rows)) + 100;
}

/** @param backend computes nothing; it is closed in the end. The tokenizer's vocabulary is the model's. */
export async function benchStep(options: StepBenchOptions, backend: WeightlessBackend, tokenizer: Tokenizer): Promise<StepBenchReport> {
  const probe = new Probe(options);
  const engine = await engineOver(backend, tokenizer, options, probe);
  try {
    const prompts = randomPrompts(options.rows, options.context, tokenizer.vocabSize, seededRandom(1));
    const streams = prompts.map((promptTokenIds) =>
      engine.generate({ promptTokenIds }, { maxTokens: outputTokens(options), temperature: 0, ignoreEos: true }),
    );
    const reading = streams.map(async (stream) => {
      for await (const _ of stream) {
        // a server writes it out
      }
    });
    await Promise.race([probe.done, Promise.all(reading)]);
    for (const stream of streams) stream.abort();
    await Promise.allSettled(reading);
  } finally {
    await engine.close();
  }
  const { hostMs, grownBytes } = probe;
  return {
    ...options,
    hostMs: { p50: percentile(hostMs, 50), p99: percentile(hostMs, 99), max: hostMs.reduce((max, ms) => Math.max(max, ms), 0) },
    grownBytesPerToken: grownBytes / (options.rows * options.steps),
  };
}

export function stepText({ rows, context, steps, blockSize, hostMs, grownBytesPerToken }: StepBenchReport): string {
  const counted = (value: number) => value.toLocaleString('en-US');
  return [
    `${counted(rows)} rows that decode, prompts of ${counted(context)} tokens, blocks of ${blockSize}, ${counted(steps)} steps:`,
    `  JavaScript a step  p50 ${hostMs.p50.toFixed(3)} ms, p99 ${hostMs.p99.toFixed(3)} ms, longest ${hostMs.max.toFixed(2)} ms (schedule + fill + output)`,
    `  heap growth        ${grownBytesPerToken.toFixed(1)} bytes a token, its id and the time of its arrival among them`,
  ].join('\n');
}
