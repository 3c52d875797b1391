/**
 * The contract between the engine and whatever does the arithmetic. Everything that crosses is a plain value or a flat typed array
 * (idea 2); implementations live beside this file, one folder each.
 */
import type { KvDtype } from '../kv/layout.ts';
import type { CacheGroup, Plan } from '../plan/plan.ts';
import type { SamplingBatch } from '../sampling/sampling-batch.ts';
import type { WeightSource } from '../weights/weight-source.ts';

/** One device with its compiled programs and caches. */
export interface Backend {
  readonly info: BackendInfo;
  /** Binds a plan to weights. Plans compiled with the same source share packed weights by name (S1). @throws BACKEND_OP_UNSUPPORTED naming every missing op */
  compile(plan: Plan, weights: WeightSource, options: CompileOptions): Promise<Program>;
  /** What `compile` would make of a plan, without weights: for `inspect`. @throws BACKEND_OP_UNSUPPORTED */
  describe(plan: Plan, limits: ProgramLimits): Promise<ProgramDescription>;
  /** Allocates the paged cache that programs with these groups read and write. @throws MEMORY_INSUFFICIENT */
  createCache(spec: CacheSpec): Promise<Cache>;
  /** What makes later steps of a program on a cache faster, done once before the first: on a GPU, launches of decoding steps are recorded. */
  prepare?(program: Program, cache: Cache, options: PrepareOptions): Promise<void>;
  /** Runs one step: the one crossing. At most one step is in flight per backend; a second call waits for the first. */
  execute(step: Step): Promise<StepResult>;
  /**
   * Copies whole blocks out, `[n, 2]`: group, block; one behind the other, each of `cache.blockBytes[group]` bytes. It takes its turn among the steps: it
   * sees all that those given before have written, and nothing of those given later. Off the event loop, as a step is.
   * @throws BACKEND_STEP_FAILED for blocks that there are not
   */
  readBlocks(cache: Cache, blocks: Int32Array): Promise<Uint8Array>;
  /** The other way, for bytes that a cache of an equal `layout` gave. The caller leaves both arrays alone until it has resolved. @throws BACKEND_STEP_FAILED */
  writeBlocks(cache: Cache, blocks: Int32Array, bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export interface BackendInfo {
  readonly name: 'reference' | 'cpu' | 'cuda' | 'null';
  /** Instruction-set class, part of the reproducibility contract: `typescript`, `portable`, `avx2`, `avx512`, ... */
  readonly isa: string;
  readonly numThreads: number;
  /** Bytes that weights and caches may take together, or null when unknown. */
  readonly memoryBytes: number | null;
}

export interface CompileOptions {
  /** Most rows of axis `tokens` in one step. */
  maxTokens: number;
  /** Most rows of axis `logits` in one step. */
  maxLogitRows: number;
  /** Called with bytes bound so far and in all, for the progress bar. */
  onProgress?(doneBytes: number, totalBytes: number): void;
}

export interface PrepareOptions {
  /** Most rows that decode together. */
  readonly maxRows: number;
  /** Most tokens of a row. */
  readonly maxContext: number;
  onProgress?(done: number, total: number): void;
}

/** A plan bound to weights on a backend. */
export interface Program {
  readonly plan: Plan;
  /** Which kernel runs each node and how many bytes its weights take: for `inspect`. */
  readonly kernels: readonly KernelChoice[];
  /** Bytes held for weights, counted once across programs that share them. */
  readonly weightBytes: number;
  /** Bytes of the activation arena. */
  readonly arenaBytes: number;
  /** Time of each node of the plan since this was last called; the first call starts the counting. Only of backends that count. */
  profile?(): readonly NodeTime[];
  close(): void;
}

/** What a node of a plan took in the steps counted, on the clock of the wall. */
export interface NodeTime {
  readonly node: string;
  readonly op: string;
  readonly calls: number;
  readonly microseconds: number;
  /** Part of it in which the first thread had nothing left to do and others had. */
  readonly waitMicroseconds: number;
}

/** What is known of a program before it has weights. */
export type ProgramDescription = Pick<Program, 'kernels' | 'arenaBytes'>;
export type ProgramLimits = Pick<CompileOptions, 'maxTokens' | 'maxLogitRows'>;

export interface KernelChoice {
  readonly node: string;
  readonly op: string;
  readonly kernel: string;
}

export type { KvDtype };

export interface CacheSpec {
  readonly groups: readonly (CacheGroup & { readonly numBlocks: number })[];
  /** Tokens in a block; divides ATTENTION_SPLIT. */
  readonly blockSize: number;
  readonly dtype: KvDtype;
}

/** K and V of all layers of all groups, in blocks. The layout inside a block is the backend's own. */
export interface Cache {
  readonly spec: CacheSpec;
  readonly sizeBytes: number;
  /** `[groups]`: bytes of one block as `readBlocks` gives it. */
  readonly blockBytes: readonly number[];
  /** Names all that the bytes of a block depend on besides tokens and model: backend, instruction set, number type, shapes. */
  readonly layout: string;
  close(): void;
}

/** Several (program, batch) pairs run in order, then sampled: still one call (S1). */
export interface Step {
  readonly entries: readonly StepEntry[];
  /** Sampling of the logits of the last entry, or null to only fill caches and read outputs. */
  readonly sampling: SamplingBatch | null;
  /** Second stage on the host (S2): grammar masks and logits processors, awaited between forward and sampling. */
  readonly host?: HostStage;
  /** Names of outputs of the last entry to copy back whole: `logits`, `hidden`. For tests, embeddings and host processors. */
  readonly readOutputs?: readonly string[];
}

export interface StepEntry {
  readonly program: Program;
  readonly cache: Cache | null;
  readonly batch: ForwardBatch;
  /** Where a program that takes embeddings gets them: an output of an earlier entry, rows in the same order, or host memory `[tokens, width]`. */
  readonly embeddings?: { readonly entry: number; readonly output: string } | Float32Array;
}

/**
 * Has its say before sampling: called when the forward pass of the step is done, or earlier where it does not want the logits. Rejecting fails the
 * step's sampled rows.
 */
export interface HostStage {
  /** May change logits in place, `[numLogitRows, vocabSize]`, and return allowed-token bitmasks `[numLogitRows, ceil(vocabSize / 32)]` or null. */
  process(logits: Float32Array | null): Promise<Uint32Array | null>;
  /** Whether `process` wants the logits copied out. */
  readonly needsLogits: boolean;
  /** Milliseconds after which the step fails instead of waiting. */
  readonly deadlineMs: number;
}

/**
 * What to compute: ragged and flat. Arrays may be longer than their used part; the counts say how much is valid. They belong to
 * the caller, who must leave them alone until the step has resolved.
 */
export interface ForwardBatch {
  readonly numTokens: number;
  readonly numRows: number;
  readonly numLogitRows: number;
  /** `[tokens]`. A negative id `-1 - r` means the token sampled for logit row r of the previous step (S2). */
  readonly tokenIds: Int32Array;
  /** `[numPositionAxes, numTokens]` (S4). */
  readonly positions: Int32Array;
  /** `[numRows + 1]`: row r owns tokens `[rowStart[r], rowStart[r + 1])`. */
  readonly rowStart: Int32Array;
  /** `[tokens]`: number of keys of the row before this token in the cache. Separate from position (S4). */
  readonly cacheIndex: Int32Array;
  /** `[tokens]`: end of the keys that the token sees through the block table. Causal: cacheIndex + 1 (S4). */
  readonly visibleEnd: Int32Array;
  /** `[groups, numRows, maxBlocks]`: block ids, cache index order. A slid-out block of a window group is -1. Of a state group the first alone: the row's state. */
  readonly blockTables: Int32Array;
  /** Row stride of `blockTables`. */
  readonly maxBlocks: number;
  /** `[groups, numTokens]`: where each token's K and V go: block * blockSize + offset. Of a state group: the row's state. */
  readonly slotMapping: Int32Array;
  /** `[logits]`: index in this batch of the token that each logit row follows. */
  readonly logitTokens: Int32Array;
  /** Blocks to copy before anything runs, `[numCopies, 4]`: group, source block, destination block, tokens; whole states. */
  readonly copies: Int32Array;
  readonly numCopies: number;
  /** Draft tokens of a tree (S4): token t also sees the slots `ancestorSlots[g][ancestorStart[t] .. ancestorStart[t + 1])`, oldest first. */
  readonly ancestors?: { readonly start: Int32Array; readonly slots: Int32Array };
  /** For `kv-compress`, `[rows, 2]`: keys that a row keeps, at least as many as it has tokens here, and the width of pooling, odd. */
  readonly kept?: Int32Array;
}

/** What a step gave. Arrays are the caller's to keep. */
export interface StepResult {
  /** `[numLogitRows]` */
  readonly tokenIds: Int32Array;
  /** Natural log of the probability of each sampled token under the raw logits, `[numLogitRows]`; NaN where not asked for. */
  readonly logprobs: Float32Array;
  /** Rows that asked for alternatives: `[numLogitRows, maxTopLogprobs]` ids and values, -1 where unused. Ids asked for by name stand behind the
   * `numLogprobs` best of the row. */
  readonly topTokenIds: Int32Array;
  readonly topLogprobs: Float32Array;
  readonly maxTopLogprobs: number;
  /**
   * `[numLogitRows]`: 0 where all is well, 1 where the logits held a NaN, 2 where no token is allowed (masks and forbidden ids exclude them all).
   * The token of such a row is 0 and means nothing.
   */
  readonly corrupted: Uint8Array;
  /** `[numLogitRows]`: what mirostat's `mu` of each row came to with its token; NaN where it is off. */
  readonly mirostatMu: Float32Array;
  /** The outputs named in `readOutputs`. */
  readonly outputs: Readonly<Record<string, Float32Array>>;
  /** Time on the device, without waiting for it. */
  readonly forwardMs: number;
  readonly sampleMs: number;
}
