/**
 * The native CPU backend: compiled kernels on threads of their own, one call a step. JavaScript only hands typed arrays over and takes them back; while
 * a step runs, the event loop is free.
 */
import { MillraceError } from '../../base/errors.ts';
import { readMachine } from '../../base/machine.ts';
import { kvDtypes } from '../../kv/layout.ts';
import { encodePlan } from '../../plan/encode.ts';
import { planMemory } from '../../plan/passes/memory.ts';
import type { Plan } from '../../plan/plan.ts';
import type { WeightSource } from '../../weights/weight-source.ts';
import type {
  Backend,
  BackendInfo,
  Cache,
  CacheSpec,
  CompileOptions,
  HostStage,
  PrepareOptions,
  Program,
  ProgramDescription,
  ProgramLimits,
  Step,
  StepEntry,
  StepResult,
} from '../backend.ts';
import { checkBlockBytes } from '../block-bytes.ts';
import { runHostStage } from '../host-stage.ts';
import { StepQueue } from '../step-queue.ts';
import { chooseIsa } from './build-addon.ts';
import { checkMemory } from './check-memory.ts';
import { checkCudaPlatform, loadCudaAddon } from './cuda-addon.ts';
import { requestedIsa } from './isa.ts';
import {
  type CacheHandle,
  type DeviceHandle,
  type KernelCounters,
  loadAddon,
  type MachineLimits,
  type NativeAddon,
  type NativeForwarded,
  type NativeSampled,
  type NativeSampling,
} from './load-addon.ts';
import { nativeError } from './native-error.ts';
import { encodeEntry, NativeCache, NativeProgram, NO_SAMPLES, outputIndex, sampledOf, samplingOf } from './native-objects.ts';
import { type BoundWeights, type ExpertPlacement, WeightPool } from './weights.ts';

export interface NativeBackendOptions {
  /** `portable`, `avx2`, `avx512` or `auto`; default: MILLRACE_CPU_ISA, else the best that the machine runs. */
  readonly isa?: string | undefined;
  /** Threads that compute; default: all processors that the process may use. */
  readonly numThreads?: number | undefined;
  /** Where the matrices of experts are; default: auto. */
  readonly experts?: ExpertPlacement | undefined;
  /** Keeps each computing thread on a processor of its own, where the system lets it; default: no. */
  readonly pinThreads?: boolean | undefined;
  /** Called as the addon's sources are compiled, when they are. */
  onBuildProgress?(done: number, total: number): void;
}

/**
 * Builds the addon if need be, loads it and starts its threads.
 * @throws NATIVE_ADDON_UNAVAILABLE, CONFIG_INVALID
 */
export async function createNativeBackend(options: NativeBackendOptions = {}): Promise<NativeBackend> {
  const wanted = requestedIsa(options.isa);
  const isas = wanted === undefined ? undefined : [chooseIsa(process.env, null, wanted)];
  const { onBuildProgress } = options;
  const addon = await loadAddon({ isas, ...(onBuildProgress === undefined ? {} : { onProgress: onBuildProgress }) });
  const backend = new NativeBackend(addon, wanted ?? '', options.numThreads ?? readMachine().numCpus, options.experts);
  if (options.pinThreads === true) await backend.pinThreads();
  return backend;
}

/**
 * The same backend on an NVIDIA GPU: builds the GPU addon if need be and opens the device.
 * @throws NATIVE_ADDON_UNAVAILABLE, GPU_UNAVAILABLE, CONFIG_INVALID
 */
export async function createCudaBackend(
  options: Pick<NativeBackendOptions, 'numThreads' | 'onBuildProgress'> & CudaOptions = {},
): Promise<NativeBackend> {
  checkCudaPlatform();
  const { onBuildProgress, emulated } = options;
  const addon = await loadCudaAddon({ emulated, ...(onBuildProgress === undefined ? {} : { onProgress: onBuildProgress }) });
  return new NativeBackend(addon, options.device ?? '', options.numThreads ?? readMachine().numCpus, 'packed', 'cuda');
}

export interface CudaOptions {
  /** Number of the GPU; default: the first. */
  readonly device?: string | undefined;
  /** Runs the kernels on the CPU, for tests. */
  readonly emulated?: boolean | undefined;
}

/** Numbers of rows that steps are padded to: powers of two up to 8, then multiples of 8, 16, 32 and 64. */
export function rowBuckets(maxRows: number): number[] {
  const buckets: number[] = [];
  for (let rows = 1; rows < maxRows; rows += rows < 8 ? rows : rows < 64 ? 8 : rows < 128 ? 16 : rows < 256 ? 32 : 64) buckets.push(rows);
  return [...buckets, maxRows];
}

/** In the order of `KvDtype` in native/common/contract.h. */
const DTYPES = Object.keys(kvDtypes);

export class NativeBackend implements Backend {
  readonly info: BackendInfo;
  readonly #addon: NativeAddon;
  readonly #device: DeviceHandle;
  readonly #weights: WeightPool;
  readonly #steps = new StepQueue();
  #closed = false;

  /** `isa` is a class that the addon was built with, or empty for the best of them; of the GPU addon: the number of a device. @throws CONFIG_INVALID */
  constructor(addon: NativeAddon, isa: string, numThreads: number, experts: ExpertPlacement = 'auto', name: 'cpu' | 'cuda' = 'cpu') {
    this.#addon = addon;
    try {
      const created = addon.createDevice(isa, numThreads);
      this.#device = created.device;
      const memoryBytes = created.memoryBytes > 0 ? created.memoryBytes : readMachine().availableMemoryBytes;
      this.info = { name, isa: created.isa, numThreads: created.numThreads, memoryBytes };
    } catch (thrown) {
      throw nativeError(thrown);
    }
    this.#weights = new WeightPool(addon, this.#device, experts);
  }

  /** Also @throws WEIGHTS_TENSOR_MISSING, WEIGHTS_SHAPE_MISMATCH, WEIGHTS_FILE_INVALID, MEMORY_INSUFFICIENT */
  async compile(plan: Plan, weights: WeightSource, options: CompileOptions): Promise<NativeProgram> {
    this.#checkOpen();
    let bound: BoundWeights | undefined;
    await this.describe(plan, options); // what has no kernel is said before gigabytes are read
    try {
      bound = await this.#weights.bind(plan, weights, options.onProgress);
      const words = encodePlan(plan, planMemory(plan, options));
      const created = this.#addon.createProgram(this.#device, words, bound.handles, options.maxTokens, options.maxLogitRows);
      const calls = { close: () => this.#addon.closeHandle(created.program), takeProfile: () => this.#addon.takeProfile(created.program) };
      return new NativeProgram(plan, created, bound, calls);
    } catch (thrown) {
      bound?.release();
      throw nativeError(thrown, plan);
    }
  }

  async describe(plan: Plan, limits: ProgramLimits): Promise<ProgramDescription> {
    this.#checkOpen();
    try {
      const words = encodePlan(plan, planMemory(plan, limits));
      const { arenaBytes, kernels } = this.#addon.describePlan(this.#device, words, limits.maxTokens, limits.maxLogitRows);
      return { arenaBytes, kernels: plan.nodes.map(({ name, op }, i) => ({ node: name, op, kernel: kernels[i] })) };
    } catch (thrown) {
      throw nativeError(thrown, plan);
    }
  }

  async createCache(spec: CacheSpec): Promise<NativeCache> {
    this.#checkOpen();
    const groups = spec.groups.flatMap(({ kind, numLayers, numKvHeads, headDim, numBlocks }) => [
      numLayers,
      numKvHeads,
      headDim,
      numBlocks,
      kind === 'latent' ? 1 : 0,
    ]);
    try {
      const { cache, sizeBytes } = this.#addon.createCache(this.#device, Int32Array.from(groups), spec.blockSize, DTYPES.indexOf(spec.dtype));
      const close = () => this.#addon.closeHandle(cache);
      try {
        if (this.info.name === 'cpu') checkMemory('the KV cache', sizeBytes, 'ask for fewer blocks'); // nothing of it has been touched yet
      } catch (thrown) {
        close();
        throw thrown;
      }
      return new NativeCache(
        spec,
        { handle: cache, sizeBytes, blockBytes: this.#addon.blockBytes(cache), device: `${this.info.name} ${this.info.isa}` },
        close,
      );
    } catch (thrown) {
      throw nativeError(thrown);
    }
  }

  execute(step: Step): Promise<StepResult> {
    if (this.info.name === 'cuda') return this.#steps.runAhead((given) => this.#execute(step, given));
    return this.#steps.run(() => this.#execute(step, () => undefined));
  }

  /** On a GPU: records decoding steps for numbers of rows up to `maxRows`, so that each is one launch. */
  async prepare(program: Program, cache: Cache, { maxRows, maxContext, onProgress }: PrepareOptions): Promise<void> {
    const { recordSteps } = this.#addon;
    if (recordSteps === undefined || !(program instanceof NativeProgram) || !(cache instanceof NativeCache)) return;
    const buckets = rowBuckets(maxRows);
    for (const [done, numRows] of buckets.entries()) {
      onProgress?.(done, buckets.length);
      try {
        await this.#steps.run(() => recordSteps(this.#device, program.handle, cache.handle, numRows, maxContext));
      } catch (thrown) {
        throw nativeError(thrown);
      }
    }
    onProgress?.(buckets.length, buckets.length);
  }

  readBlocks(cache: Cache, blocks: Int32Array): Promise<Uint8Array> {
    return this.#steps.run(async () => {
      const target = new Uint8Array(checkBlockBytes(cache, blocks));
      await this.#copyBlocks(cache, (handle) => this.#addon.readBlocks(this.#device, handle, blocks, target));
      return target;
    });
  }

  writeBlocks(cache: Cache, blocks: Int32Array, bytes: Uint8Array): Promise<void> {
    return this.#steps.run(async () => {
      checkBlockBytes(cache, blocks, bytes);
      await this.#copyBlocks(cache, (handle) => this.#addon.writeBlocks(this.#device, handle, blocks, bytes));
    });
  }

  async #copyBlocks(cache: Cache, copy: (handle: CacheHandle) => Promise<void>): Promise<void> {
    this.#checkOpen();
    if (!(cache instanceof NativeCache)) throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a cache of another backend.');
    try {
      await copy(cache.handle);
    } catch (thrown) {
      throw nativeError(thrown);
    }
  }

  async close(): Promise<void> {
    await this.#steps.ended();
    if (this.#closed) return;
    this.#closed = true;
    this.#addon.closeHandle(this.#device);
  }

  /** Says whether each computing thread has a processor of its own from now on. */
  pinThreads(): Promise<boolean> {
    return this.#steps.run(() => this.#addon.pinThreads(this.#device));
  }

  /** What the machine allows, measured in turn with the steps. @throws MEMORY_INSUFFICIENT */
  measureLimits(regionMebibytes: number, regions: number): Promise<MachineLimits> {
    return this.#steps.run(async () => {
      this.#checkOpen();
      try {
        return await this.#addon.measureLimits(this.#device, regionMebibytes, regions);
      } catch (thrown) {
        throw nativeError(thrown);
      }
    });
  }

  /** Which paths the kernels took since `resetCounters`. For tests. */
  counters(): KernelCounters {
    return this.#addon.readCounters(this.#device);
  }

  /** Steps so far that were one recorded launch, on a GPU. */
  replayedSteps(): number {
    return this.#addon.replayedSteps?.(this.#device) ?? 0;
  }

  resetCounters(): void {
    this.#addon.resetCounters(this.#device);
  }

  /** Makes steps of more than 64 rows add their sums in another order, so that tests of reproducibility can be seen to fail. */
  plantOrderFault(on: boolean): void {
    this.#addon.plantOrderFault(this.#device, on);
  }

  #checkOpen(): void {
    if (this.#closed) throw new MillraceError('ENGINE_CLOSED', 'The native backend is closed.');
  }

  /** `isGiven` is called when the addon has all of the step. */
  async #execute(step: Step, isGiven: () => void): Promise<StepResult> {
    this.#checkOpen();
    const last = step.entries.at(-1);
    const { host } = step;
    const numLogitRows = last?.batch.numLogitRows ?? 0;
    if (step.sampling !== null && numLogitRows > 0 && step.sampling.numRows !== numLogitRows) {
      throw new MillraceError('BACKEND_STEP_FAILED', `The step samples ${step.sampling.numRows} rows and computes ${numLogitRows}.`);
    }
    const names = step.readOutputs ?? [];
    const sampling = last === undefined || step.sampling === null || numLogitRows === 0 ? null : samplingOf(step.sampling, last);
    try {
      const entries = step.entries.map((entry) => encodeEntry(entry, step.entries));
      const read = host?.needsLogits === true ? [...names, 'logits'] : names;
      const readOutputs = Int32Array.from(read, (name) => outputIndex(last, name));
      const given = { entries, readOutputs, sampling: host === undefined ? sampling : null };
      const [forwarded, sampled] =
        host === undefined || last === undefined
          ? await this.#forward(given, isGiven)
          : host.needsLogits
            ? await this.#forwardThenSample(given, host, last, sampling, isGiven)
            : await this.#forwardAndSample(given, host, last, sampling, isGiven);
      const outputs = Object.fromEntries(names.map((name, i) => [name, forwarded.outputs[i]]));
      return { ...sampled, outputs, forwardMs: forwarded.forwardMs };
    } catch (thrown) {
      throw nativeError(thrown);
    }
  }

  async #forward(given: NativeForward, isGiven: () => void): Promise<Computed> {
    const running = this.#addon.forward(this.#device, given);
    isGiven();
    const forwarded = await running;
    return [forwarded, sampledOf(forwarded)];
  }

  /** The two stages (S2), where the host changes logits in between. */
  async #forwardThenSample(
    given: NativeForward,
    host: HostStage,
    last: StepEntry,
    sampling: NativeSampling | null,
    isGiven: () => void,
  ): Promise<Computed> {
    const forwarded = await this.#addon.forward(this.#device, given);
    const vocabSize = vocabSizeOf(last);
    const logits = forwarded.outputs.at(-1) ?? null;
    const masks = await runHostStage(host, logits, last.batch.numLogitRows, vocabSize);
    if (sampling === null) return [forwarded, NO_SAMPLES];
    const running = this.#addon.sample(this.#device, { ...sampling, program: null, logits, vocabSize, masks });
    isGiven();
    return [forwarded, await running];
  }

  /** Where the host has only masks to give, they are handed over when they are ready: as a rule the forward pass still runs, and sampling follows it at once. */
  async #forwardAndSample(
    given: NativeForward,
    host: HostStage,
    last: StepEntry,
    sampling: NativeSampling | null,
    isGiven: () => void,
  ): Promise<Computed> {
    const forward = this.#addon.forward(this.#device, given);
    const sample = runHostStage(host, null, last.batch.numLogitRows, vocabSizeOf(last)).then((masks) => {
      const running = sampling === null ? NO_SAMPLES : this.#addon.sample(this.#device, { ...sampling, masks });
      isGiven();
      return running;
    });
    // the caller's arrays are its own again when both have ended, however
    await Promise.allSettled([forward, sample]);
    return [await forward, await sample];
  }
}

type NativeForward = Parameters<NativeAddon['forward']>[1];
type Computed = readonly [forwarded: NativeForwarded, sampled: NativeSampled];

function vocabSizeOf({ program: { plan } }: StepEntry): number {
  return plan.values[plan.outputs.logits]?.width ?? 0;
}
