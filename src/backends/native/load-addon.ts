/** The one door to `native/`: builds the addon if need be, loads it, and says what it exports. */
import { rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { MillraceError, toMillraceError } from '../../base/errors.ts';
import { cachedAddons } from './addon-cache.ts';
import { type BuildOptions, buildAddon } from './build-addon.ts';
import { type Isa, requestedIsa } from './isa.ts';

declare const brand: unique symbol;
/** A native object: JavaScript can hold it, pass it back and close it. */
export interface Handle<Name extends string> {
  readonly [brand]: Name;
}
export type DeviceHandle = Handle<'device'>;
export type FileHandle = Handle<'file'>;
export type WeightHandle = Handle<'weight'>;
export type ProgramHandle = Handle<'program'>;
export type CacheHandle = Handle<'cache'>;

/** Some rows of a weight: `bytes`, or a range of a mapped file. */
export interface NativeWeightPart {
  readonly file: FileHandle | null;
  readonly bytes: Uint8Array | null;
  readonly offset: number;
  readonly sizeBytes: number;
  /** Index in `weightFormats`. */
  readonly format: number;
  readonly rows: number;
  /** 0: rows lie in order; otherwise as `StoredTensor.rowOrder` says. */
  readonly ropeHeadDim: number;
  readonly shift: number;
}

export interface NativeEntry {
  readonly program: ProgramHandle;
  readonly cache: CacheHandle | null;
  readonly batch: object;
  readonly embeddings: Float32Array | null;
  /** -1: from `embeddings`. */
  readonly sourceEntry: number;
  readonly sourceOutput: number;
}

export interface NativeSampling {
  readonly batch: object;
  readonly masks: Uint32Array | null;
  /** Whose logits; null: those of `logits`. */
  readonly program: ProgramHandle | null;
  readonly output: number;
  readonly logits: Float32Array | null;
  readonly vocabSize: number;
}

/** What the sampler gives, as in `StepResult`. */
export interface NativeSampled {
  readonly tokenIds: Int32Array;
  readonly logprobs: Float32Array;
  readonly topTokenIds: Int32Array;
  readonly topLogprobs: Float32Array;
  readonly maxTopLogprobs: number;
  readonly corrupted: Uint8Array;
  readonly mirostatMu: Float32Array;
  readonly sampleMs: number;
}

export interface NativeForwarded extends Partial<NativeSampled> {
  readonly outputs: Float32Array[];
  readonly forwardMs: number;
}

/** How often each path of the kernels ran; see `Counters` in `native/common/counters.h`. */
export interface KernelCounters {
  /** Calls of `linear` by rows: 1, 2-8, 9-64, more. */
  readonly linearRowClass: Float64Array;
  readonly linearSegments: number;
  readonly attentionSplits: number;
}

/** What the machine allows, measured with all threads of a device. Operations count a multiplication and an addition as two. */
export interface MachineLimits {
  /** Of each region of memory; they differ on some virtual machines. */
  readonly readBytesPerSecond: Float64Array;
  /** Operations a second of int8 dot products; 0 where the instruction set has none. */
  readonly int8: number;
  readonly bf16: number;
  readonly f32: number;
}

/** Exports of the addon (`native/addon/exports.h`). Functions throw errors with a `code` of `errorTable`. */
export interface NativeAddon {
  /** `runs`: the classes that this machine runs, compiled or not, the best last. */
  cpuFeatures(): { best: Isa; runs: Isa[]; compiled: Isa[] };
  /** `memoryBytes`: free memory of a device of its own; 0: the machine's. */
  createDevice(isa: string, numThreads: number): { device: DeviceHandle; isa: string; numThreads: number; memoryBytes: number };
  mapFile(path: string): FileHandle;
  packWeight(
    device: DeviceHandle,
    format: number,
    rank: number,
    rows: number,
    columns: number,
    matrices: number,
    mapped: number,
    parts: readonly NativeWeightPart[],
  ): Promise<{ weight: WeightHandle; sizeBytes: number }>;
  createProgram(
    device: DeviceHandle,
    plan: Int32Array,
    weights: readonly WeightHandle[],
    maxTokens: number,
    maxLogitRows: number,
  ): { program: ProgramHandle; arenaBytes: number; kernels: string[] };
  /** `[nodes, 3]`: calls, nanoseconds, nanoseconds waited, since it was last asked for; the first call starts counting. */
  takeProfile(program: ProgramHandle): Float64Array;
  /** As `createProgram` would say, without weights. */
  describePlan(device: DeviceHandle, plan: Int32Array, maxTokens: number, maxLogitRows: number): { arenaBytes: number; kernels: string[] };
  createCache(device: DeviceHandle, groups: Int32Array, blockSize: number, dtype: number): { cache: CacheHandle; sizeBytes: number };
  /** Of each group. */
  blockBytes(cache: CacheHandle): number[];
  /** Fills `target`, which JavaScript must leave alone until then. */
  readBlocks(device: DeviceHandle, cache: CacheHandle, blocks: Int32Array, target: Uint8Array): Promise<void>;
  writeBlocks(device: DeviceHandle, cache: CacheHandle, blocks: Int32Array, bytes: Uint8Array): Promise<void>;
  forward(
    device: DeviceHandle,
    step: { entries: readonly NativeEntry[]; readOutputs: Int32Array; sampling: NativeSampling | null },
  ): Promise<NativeForwarded>;
  sample(device: DeviceHandle, sampling: NativeSampling): Promise<NativeSampled>;
  /** Of the GPU addon: records the launches of decoding steps of so many rows, for contexts up to `maxContext`. */
  recordSteps?(device: DeviceHandle, program: ProgramHandle, cache: CacheHandle, numTokens: number, maxContext: number): Promise<number>;
  /** Of the GPU addon: steps so far that were a recording of launches. */
  replayedSteps?(device: DeviceHandle): number;
  /** Streams through regions of memory and multiplies and adds; takes a second or two. */
  measureLimits(device: DeviceHandle, regionMebibytes: number, regions: number): Promise<MachineLimits>;
  /** Keeps each computing thread on a processor of its own; false where that cannot be (not Linux, too few processors). */
  pinThreads(device: DeviceHandle): Promise<boolean>;
  readCounters(device: DeviceHandle): KernelCounters;
  resetCounters(device: DeviceHandle): void;
  plantOrderFault(device: DeviceHandle, on: boolean): void;
  closeHandle(handle: DeviceHandle | FileHandle | WeightHandle | ProgramHandle | CacheHandle): void;
}

const require = createRequire(import.meta.url);

/**
 * Loads the addon with the given kernel variants, building it first where there is none or the one there is does not load.
 * @throws NATIVE_ADDON_UNAVAILABLE, CONFIG_INVALID
 */
export async function loadAddon(options: BuildOptions = {}): Promise<NativeAddon> {
  const path = await buildAddon(options);
  let addon = tryLoad(path);
  if (addon instanceof Error) addon = await rebuild(options, path, addon);
  const { best, runs, compiled } = addon.cpuFeatures();
  if (compiled.some((isa) => runs.includes(isa))) return addon;
  // The system said more than the processor keeps (an emulator, say): build what it does run, unless more was asked for.
  const wanted = requestedIsa(undefined, options.environment);
  if (options.isas !== undefined || wanted !== undefined) {
    throw new MillraceError('CONFIG_INVALID', {
      message: 'The instruction set asked for is above what this machine has.',
      expected: best,
      received: compiled.join(', '),
    });
  }
  return loadAddon({ ...options, isas: [best] });
}

function tryLoad(path: string): NativeAddon | Error {
  try {
    const addon = require(path) as NativeAddon;
    if (typeof addon.cpuFeatures !== 'function') throw new Error('it exports nothing that is known');
    return addon;
  } catch (error) {
    return toMillraceError(error, 'NATIVE_ADDON_UNAVAILABLE');
  }
}

/** Other binaries of the same sources first, then a new one. */
async function rebuild(options: BuildOptions, broken: string, reason: Error): Promise<NativeAddon> {
  rmSync(broken, { force: true });
  for (const other of options.isas === undefined ? [] : cachedAddons(options.isas, options.folders)) {
    const addon = tryLoad(other);
    if (!(addon instanceof Error)) return addon;
  }
  const addon = tryLoad(await buildAddon({ ...options, force: true }));
  if (!(addon instanceof Error)) return addon;
  throw new MillraceError('NATIVE_ADDON_UNAVAILABLE', {
    message: `The native addon does not load: ${addon.message}`,
    cause: reason,
    hint: 'is the compiler made for this machine and this libc?',
  });
}
