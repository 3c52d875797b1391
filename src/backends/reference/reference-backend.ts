/**
 * The backend that defines what ops mean (idea 4): plain TypeScript, one thread, one file an op. `execute` holds the thread until the step is
 * done; to serve, run it in a worker (`worker-backend.ts`).
 */
import { type Clock, realClock } from '../../base/clock.ts';
import { MillraceError, toMillraceError } from '../../base/errors.ts';
import type { Plan } from '../../plan/plan.ts';
import { NOTHING_SAMPLED, type SampledRows, Sampler } from '../../sampling/sampler.ts';
import type { WeightSource } from '../../weights/weight-source.ts';
import type {
  Backend,
  BackendInfo,
  Cache,
  CacheSpec,
  CompileOptions,
  ForwardBatch,
  Program,
  ProgramDescription,
  ProgramLimits,
  Step,
  StepEntry,
  StepResult,
} from '../backend.ts';
import { checkBatch } from '../check-batch.ts';
import { runHostStage } from '../host-stage.ts';
import { StepQueue } from '../step-queue.ts';
import { ReferenceCache } from './cache.ts';
import { checkSupported, describeProgram, ReferenceProgram } from './program.ts';
import { WeightPool, weightReader } from './weight-pool.ts';

export class ReferenceBackend implements Backend {
  readonly info: BackendInfo = { name: 'reference', isa: 'typescript', numThreads: 1, memoryBytes: null };
  readonly #clock: Clock;
  readonly #pools = new WeakMap<object, WeightPool>();
  readonly #samplers = new Map<number, Sampler>();
  /** Tokens sampled by the previous step: what negative ids stand for (S2). */
  #sampled = new Int32Array(0);
  readonly #steps = new StepQueue();
  #closed = false;

  constructor(clock: Clock = realClock) {
    this.#clock = clock;
  }

  async compile(plan: Plan, weights: WeightSource, options: CompileOptions): Promise<ReferenceProgram> {
    return this.compileWith(plan, weights, weightReader(plan, weights, options.onProgress), options);
  }

  async describe(plan: Plan, limits: ProgramLimits): Promise<ProgramDescription> {
    return describeProgram(plan, limits);
  }

  /** As `compile`, with weights from `read` instead of a source; programs with the same `owner` share them by name. */
  async compileWith(
    plan: Plan,
    owner: object,
    read: Parameters<WeightPool['bind']>[1],
    options: Pick<CompileOptions, 'maxTokens' | 'maxLogitRows'>,
  ): Promise<ReferenceProgram> {
    checkSupported(plan);
    const pool = this.#pools.get(owner) ?? new WeightPool();
    this.#pools.set(owner, pool);
    const bound = await pool.bind(plan, read);
    try {
      return new ReferenceProgram(plan, bound, options, () => pool.release(plan));
    } catch (thrown) {
      pool.release(plan);
      throw thrown;
    }
  }

  async createCache(spec: CacheSpec): Promise<ReferenceCache> {
    return new ReferenceCache(spec);
  }

  execute(step: Step): Promise<StepResult> {
    return this.#steps.run(() => this.#execute(step));
  }

  readBlocks(cache: Cache, blocks: Int32Array): Promise<Uint8Array> {
    return this.#steps.run(async () => referenceCache(cache).readBlocks(blocks));
  }

  writeBlocks(cache: Cache, blocks: Int32Array, bytes: Uint8Array): Promise<void> {
    return this.#steps.run(async () => referenceCache(cache).writeBlocks(blocks, bytes));
  }

  async close(): Promise<void> {
    await this.#steps.ended();
    this.#closed = true;
    this.#samplers.clear();
  }

  async #execute(step: Step): Promise<StepResult> {
    if (this.#closed) throw new MillraceError('ENGINE_CLOSED', 'The reference backend is closed.');
    const startMs = this.#clock.nowMs();
    try {
      for (const entry of step.entries) this.#runEntry(entry, step.entries);
      const forwardMs = this.#clock.nowMs() - startMs;
      const last = step.entries[step.entries.length - 1];
      const outputs = Object.fromEntries((step.readOutputs ?? []).map((name) => [name, programOf(last).read(name, last.batch)]));
      if (step.sampling === null && step.host === undefined) return { ...NOTHING_SAMPLED, outputs, forwardMs, sampleMs: 0 };
      const sampled = await this.#sample(step, last);
      if (step.sampling !== null) this.#sampled = sampled.tokenIds.slice();
      return { ...sampled, outputs, forwardMs, sampleMs: this.#clock.nowMs() - startMs - forwardMs };
    } catch (thrown) {
      throw toMillraceError(thrown, 'BACKEND_STEP_FAILED');
    }
  }

  #runEntry(entry: StepEntry, entries: readonly StepEntry[]): void {
    const { batch } = entry;
    const program = programOf(entry);
    const cache = cacheOf(entry);
    checkBatch(batch, { plan: program.plan, limits: program.limits, cache: cache?.spec ?? null, numSampled: this.#sampled.length });
    if (cache !== null) {
      checkGroups(program.plan, cache.spec);
      for (let copy = 0; copy < batch.numCopies; copy++) {
        const [group, source, destination, tokens] = batch.copies.subarray(4 * copy, 4 * copy + 4);
        cache.copyBlock(group, source, destination, tokens);
      }
    }
    if (program.plan.input.kind === 'tokenIds') this.#fillTokenIds(program, batch);
    else fillEmbeddings(program, entry, entries);
    program.run({ batch, cache });
  }

  #fillTokenIds(program: ReferenceProgram, batch: ForwardBatch): void {
    const { ints, offset, stride } = program.input;
    for (let token = 0; token < batch.numTokens; token++) {
      const id = batch.tokenIds[token];
      ints[offset + token * stride] = id >= 0 ? id : this.#sampled[-1 - id];
    }
  }

  async #sample(step: Step, last: StepEntry): Promise<SampledRows> {
    const { numLogitRows } = last.batch;
    const logits = programOf(last).read('logits', last.batch);
    const vocabSize = numLogitRows === 0 ? 0 : logits.length / numLogitRows;
    const { host, sampling } = step;
    const masks = host === undefined ? null : await runHostStage(host, host.needsLogits ? logits : null, numLogitRows, vocabSize);
    if (sampling === null || numLogitRows === 0) return NOTHING_SAMPLED;
    if (sampling.numRows !== numLogitRows) {
      throw new MillraceError('BACKEND_STEP_FAILED', `The step samples ${sampling.numRows} rows and computes ${numLogitRows}.`);
    }
    const sampler = this.#samplers.get(vocabSize) ?? new Sampler(vocabSize);
    this.#samplers.set(vocabSize, sampler);
    return sampler.sample(logits, sampling, masks);
  }
}

function programOf({ program }: { program: Program }): ReferenceProgram {
  if (program instanceof ReferenceProgram) return program;
  throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a program of another backend.');
}

function cacheOf({ cache }: { cache: Cache | null }): ReferenceCache | null {
  return cache === null ? null : referenceCache(cache);
}

function referenceCache(cache: Cache): ReferenceCache {
  if (cache instanceof ReferenceCache) return cache;
  throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a cache of another backend.');
}

function checkGroups(plan: Plan, spec: CacheSpec): void {
  const same = plan.cacheGroups.every((group, i) => {
    const held = spec.groups[i];
    return (
      held !== undefined &&
      (held.kind === 'latent') === (group.kind === 'latent') &&
      held.numLayers >= group.numLayers &&
      held.numKvHeads === group.numKvHeads &&
      held.headDim === group.headDim
    );
  });
  if (!same) throw new MillraceError('BACKEND_STEP_FAILED', `The cache was not made for the groups of plan ${plan.name}.`);
}

function fillEmbeddings(program: ReferenceProgram, { embeddings, batch }: StepEntry, entries: readonly StepEntry[]): void {
  const { data, offset, stride, width } = program.input;
  const rows = embeddings instanceof Float32Array ? embeddings : embeddings === undefined ? undefined : readOutput(entries, embeddings);
  if (rows === undefined || rows.length < batch.numTokens * width) {
    throw new MillraceError('BACKEND_STEP_FAILED', {
      message: `Plan ${program.plan.name} takes embeddings.`,
      expected: `[${batch.numTokens}, ${width}]`,
      received: rows === undefined ? 'none' : `${rows.length} numbers`,
    });
  }
  for (let row = 0; row < batch.numTokens; row++) data.set(rows.subarray(row * width, (row + 1) * width), offset + row * stride);
}

function readOutput(entries: readonly StepEntry[], { entry, output }: { entry: number; output: string }): Float32Array | undefined {
  const earlier = entries[entry];
  return earlier === undefined ? undefined : programOf(earlier).read(output, earlier.batch);
}
