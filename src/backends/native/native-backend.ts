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
  KernelChoice,
  NodeTime,
  Program,
  ProgramDescription,
  ProgramLimits,
  Step,
  StepEntry,
  StepResult,
} from '../backend.ts';
import { checkBlockBytes, layoutName } from '../block-bytes.ts';
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
  type NativeEntry,
  type NativeForwarded,
  type NativeSampled,
  type NativeSampling,
  type ProgramHandle,
} from './load-addon.ts';
import { nativeError } from './native-error.ts';
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

/** In the order of `KvDtype` in native/common/contract.h. */
const DTYPES = Object.keys(kvDtypes);

const NOTHING_SAMPLED: NativeSampled = {
  tokenIds: new Int32Array(0),
  logprobs: new Float32Array(0),
  topTokenIds: new Int32Array(0),
  topLogprobs: new Float32Array(0),
  maxTopLogprobs: 0,
  corrupted: new Uint8Array(0),
  mirostatMu: new Float32Array(0),
  sampleMs: 0,
};

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
    return this.#steps.run(() => this.#execute(step));
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

  async #execute(step: Step): Promise<StepResult> {
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
          ? await this.#forward(given)
          : host.needsLogits
            ? await this.#forwardThenSample(given, host, last, sampling)
            : await this.#forwardAndSample(given, host, last, sampling);
      const outputs = Object.fromEntries(names.map((name, i) => [name, forwarded.outputs[i]]));
      return { ...sampled, outputs, forwardMs: forwarded.forwardMs };
    } catch (thrown) {
      throw nativeError(thrown);
    }
  }

  async #forward(given: NativeForward): Promise<Computed> {
    const forwarded = await this.#addon.forward(this.#device, given);
    return [forwarded, sampledOf(forwarded)];
  }

  /** The two stages (S2), where the host changes logits in between. */
  async #forwardThenSample(given: NativeForward, host: HostStage, last: StepEntry, sampling: NativeSampling | null): Promise<Computed> {
    const forwarded = await this.#addon.forward(this.#device, given);
    const vocabSize = vocabSizeOf(last);
    const logits = forwarded.outputs.at(-1) ?? null;
    const masks = await runHostStage(host, logits, last.batch.numLogitRows, vocabSize);
    if (sampling === null) return [forwarded, NOTHING_SAMPLED];
    return [forwarded, await this.#addon.sample(this.#device, { ...sampling, program: null, logits, vocabSize, masks })];
  }

  /** Where the host has only masks to give, they are handed over when they are ready: as a rule the forward pass still runs, and sampling follows it at once. */
  async #forwardAndSample(given: NativeForward, host: HostStage, last: StepEntry, sampling: NativeSampling | null): Promise<Computed> {
    const forward = this.#addon.forward(this.#device, given);
    const sample = runHostStage(host, null, last.batch.numLogitRows, vocabSizeOf(last)).then((masks) =>
      sampling === null ? NOTHING_SAMPLED : this.#addon.sample(this.#device, { ...sampling, masks }),
    );
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

export class NativeProgram implements Program {
  readonly plan: Plan;
  readonly kernels: readonly KernelChoice[];
  readonly weightBytes: number;
  readonly arenaBytes: number;
  readonly handle: ProgramHandle;
  readonly #weights: BoundWeights;
  readonly #takeProfile: () => Float64Array;
  #close: (() => void) | null;

  constructor(
    plan: Plan,
    created: { program: ProgramHandle; arenaBytes: number; kernels: readonly string[] },
    weights: BoundWeights,
    { close, takeProfile }: { close(): void; takeProfile(): Float64Array },
  ) {
    this.plan = plan;
    this.kernels = plan.nodes.map((node, i) => ({ node: node.name, op: node.op, kernel: created.kernels[i] }));
    this.weightBytes = weights.newBytes;
    this.arenaBytes = created.arenaBytes;
    this.handle = created.program;
    this.#weights = weights;
    this.#takeProfile = takeProfile;
    this.#close = close;
  }

  profile(): readonly NodeTime[] {
    const times = this.#takeProfile();
    return this.plan.nodes.map(({ name, op }, i) => ({
      node: name,
      op,
      calls: times[3 * i],
      microseconds: times[3 * i + 1] / 1000,
      waitMicroseconds: times[3 * i + 2] / 1000,
    }));
  }

  close(): void {
    this.#close?.();
    if (this.#close !== null) this.#weights.release();
    this.#close = null;
  }
}

export class NativeCache implements Cache {
  readonly spec: CacheSpec;
  readonly sizeBytes: number;
  readonly blockBytes: readonly number[];
  readonly layout: string;
  readonly handle: CacheHandle;
  #close: (() => void) | null;

  constructor(
    spec: CacheSpec,
    created: { handle: CacheHandle; sizeBytes: number; blockBytes: readonly number[]; device: string },
    close: () => void,
  ) {
    this.spec = spec;
    this.handle = created.handle;
    this.sizeBytes = created.sizeBytes;
    this.blockBytes = created.blockBytes;
    this.layout = layoutName(`${created.device} 1`, spec);
    this.#close = close;
  }

  close(): void {
    this.#close?.();
    this.#close = null;
  }
}

function encodeEntry({ program, cache, batch, embeddings }: StepEntry, entries: readonly StepEntry[]): NativeEntry {
  if (!(program instanceof NativeProgram) || !(cache === null || cache instanceof NativeCache)) {
    throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a program or a cache of another backend.');
  }
  const handles = { program: program.handle, cache: cache?.handle ?? null, batch };
  if (embeddings === undefined || embeddings instanceof Float32Array) {
    return { ...handles, embeddings: embeddings ?? null, sourceEntry: -1, sourceOutput: -1 };
  }
  return { ...handles, embeddings: null, sourceEntry: embeddings.entry, sourceOutput: outputIndex(entries[embeddings.entry], embeddings.output) };
}

/** Place of a named output among those of a program. */
function outputIndex(entry: StepEntry | undefined, name: string): number {
  const index = entry === undefined ? -1 : Object.keys(entry.program.plan.outputs).indexOf(name);
  if (index >= 0) return index;
  throw new MillraceError('BACKEND_STEP_FAILED', `The step reads output ${name}, which its program does not have.`);
}

function samplingOf(batch: object, last: StepEntry): NativeSampling {
  if (!(last.program instanceof NativeProgram)) throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a program of another backend.');
  return { batch, masks: null, program: last.program.handle, output: outputIndex(last, 'logits'), logits: null, vocabSize: 0 };
}

function sampledOf(forwarded: NativeForwarded): NativeSampled {
  const { tokenIds, logprobs, topTokenIds, topLogprobs, corrupted, mirostatMu, maxTopLogprobs, sampleMs } = forwarded;
  if (tokenIds === undefined || logprobs === undefined || topTokenIds === undefined || topLogprobs === undefined) return NOTHING_SAMPLED;
  if (corrupted === undefined || mirostatMu === undefined) return NOTHING_SAMPLED;
  return { tokenIds, logprobs, topTokenIds, topLogprobs, corrupted, mirostatMu, maxTopLogprobs: maxTopLogprobs ?? 0, sampleMs: sampleMs ?? 0 };
}
