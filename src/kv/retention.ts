/**
 * Sequences that do not keep all of their tokens: which ones leave the cache, where those that stay lie, and at which positions the model is told that they
 * are. Lossy, and only for requests that ask for it; their blocks are nobody else's. Everything follows from token indices alone, so that chunks, batches
 * and preemption change nothing.
 *
 * - `window`: the first tokens and a sliding window of the last (attention sinks, StreamingLLM: Xiao et al. 2023, arXiv:2309.17453), by whole blocks. Positions
 *   are those in the cache: the window follows the sinks without a gap.
 * - `prompt`: once the prompt is computed, of each KV head the keys that its last tokens attend to most (SnapKV: Li et al. 2024, arXiv:2404.14469).
 */
import { blocksForTokens } from './layout.ts';

export type RetentionPolicy = WindowPolicy | PromptPolicy;

export interface WindowPolicy {
  readonly kind: 'window';
  /** First tokens that stay, rounded up to whole blocks. 0: none. */
  readonly sinkTokens: number;
  /** A token sees this many before it, its own included, and up to a block more. */
  readonly windowTokens: number;
  /** When positions have gone so far, all begin anew. Bounds what f32 angles lose; a whole number of blocks. */
  readonly rebaseTokens: number;
}

export interface PromptPolicy {
  readonly kind: 'prompt';
  readonly promptTokens: number;
  /** Of a prompt that is longer, this many stay, the observing ones included. */
  readonly keptTokens: number;
  /** Last tokens of the prompt, whose attention decides. */
  readonly observingTokens: number;
  /** Neighbours over which attention is pooled; odd. */
  readonly poolTokens: number;
}

/** Positions below this are as exact as in any long context. */
export const REBASE_TOKENS = 65536;

/** What is to be done to the cache before the step that is being made computes the sequence. */
export type RetentionTask =
  /** Turn the sinks, from their originals, on by `sinkShift`; `windowBlocks` entries behind them in place by `windowShift`. */
  | { readonly kind: 'rotate'; readonly sinkShift: number; readonly windowTokens: number; readonly windowShift: number }
  /** Move what stays of the prompt to the front of the table. */
  | { readonly kind: 'compress'; readonly policy: PromptPolicy };

/** Of one sequence. Owned by `KvCache`; others read `dropped` and `base`, and take tasks. */
export class Retention {
  readonly policy: RetentionPolicy;
  readonly #blockSize: number;
  /** Tokens that have left the cache: the token at index i, behind the sinks, lies at cache index `i - dropped`. */
  dropped = 0;
  /** The token at index i, behind the sinks, is at position `i - base`. */
  base = 0;
  /** Blocks of each group with the sinks as they were written; none before anything has left. */
  readonly originals: Int32Array[];
  /** Blocks behind a compressed prompt are to be given back once the step that moves it has been handed over. */
  isTrimDue = false;
  #sinkShift = 0;
  #windowShift = 0;
  #windowTokens = 0;
  #isTaskDue = false;

  constructor(policy: RetentionPolicy, numGroups: number, blockSize: number) {
    this.policy = policy;
    this.#blockSize = blockSize;
    this.originals = Array.from({ length: numGroups }, () => new Int32Array(0));
  }

  /** Blocks at the front of the table that never leave it. */
  get numSinkBlocks(): number {
    return this.policy.kind === 'window' ? sinkBlocks(this.policy, this.#blockSize) : 0;
  }

  /** Sinks are kept twice from now on: as they were written and as they are read. */
  get needsOriginals(): boolean {
    return this.dropped > 0 && this.policy.kind === 'window' && this.originals[0].length < this.numSinkBlocks;
  }

  /**
   * Moves on to a step whose first token is at index `first`.
   * @returns blocks that leave the table, behind the sinks
   */
  advance(first: number): number {
    const { policy } = this;
    if (policy.kind === 'prompt') {
      this.#advancePrompt(policy, first);
      return 0;
    }
    const dropped = droppedTokens(policy, first, this.#blockSize);
    if (dropped === this.dropped) return 0;
    const numBlocks = (dropped - this.dropped) / this.#blockSize;
    this.dropped = dropped;
    const base = Math.floor(dropped / policy.rebaseTokens) * policy.rebaseTokens;
    if (base !== this.base) {
      this.#windowShift += this.base - base;
      this.#windowTokens = first - dropped - this.numSinkBlocks * this.#blockSize;
      this.base = base;
    }
    this.#sinkShift = dropped - base;
    this.#isTaskDue = this.numSinkBlocks > 0 || this.#windowShift !== 0;
    return numBlocks;
  }

  /** What the step that has just been made is to do first; null for nothing. Asked once a step, when it is certain to run. */
  takeTask(): RetentionTask | null {
    if (!this.#isTaskDue) return null;
    this.#isTaskDue = false;
    if (this.policy.kind === 'prompt') return { kind: 'compress', policy: this.policy };
    const task: RetentionTask = { kind: 'rotate', sinkShift: this.#sinkShift, windowTokens: this.#windowTokens, windowShift: this.#windowShift };
    this.#windowShift = 0;
    this.#windowTokens = 0;
    return task;
  }

  /** Whether the task has been taken: what it read is needed no longer. */
  get isTaskTaken(): boolean {
    return !this.#isTaskDue;
  }

  #advancePrompt(policy: PromptPolicy, first: number): void {
    if (first < policy.promptTokens || this.dropped > 0 || policy.promptTokens <= policy.keptTokens) return;
    this.dropped = policy.promptTokens - policy.keptTokens;
    this.#isTaskDue = true;
    this.isTrimDue = true;
  }
}

/** End of the longest chunk that may begin with the token at `first`: what its tokens see is the same. */
export function chunkEnd(policy: RetentionPolicy, first: number, blockSize: number): number {
  if (policy.kind === 'prompt') return first < policy.promptTokens ? policy.promptTokens : Infinity;
  return firstChunkEnd(policy, blockSize) + droppedTokens(policy, first, blockSize);
}

/** Blocks of a group that a sequence holds at most on its way to `numTokens`; `retention` is its state, if it has begun. */
export function blocksHeld(policy: RetentionPolicy, retention: Retention | null, numTokens: number, blockSize: number): number {
  if (policy.kind === 'window') {
    const bound = firstChunkEnd(policy, blockSize);
    return numTokens <= bound ? blocksForTokens(numTokens, blockSize) : blocksForTokens(bound, blockSize) + sinkBlocks(policy, blockSize);
  }
  const dropped = Math.max(0, policy.promptTokens - policy.keptTokens);
  const after = blocksForTokens(Math.max(0, numTokens - dropped), blockSize);
  const isDone = retention !== null && retention.dropped > 0 && !retention.isTrimDue;
  return isDone ? after : Math.max(after, blocksForTokens(Math.min(numTokens, policy.promptTokens), blockSize));
}

/** Tokens that have left when the token at index `first` is computed: whole blocks behind the sinks and before its window. */
function droppedTokens(policy: WindowPolicy, first: number, blockSize: number): number {
  const firstBlock = Math.floor((first + 1 - policy.windowTokens) / blockSize);
  return Math.max(0, firstBlock - sinkBlocks(policy, blockSize)) * blockSize;
}

/** Most tokens in the cache at once: until so many are there, none leaves. */
function firstChunkEnd(policy: WindowPolicy, blockSize: number): number {
  return (sinkBlocks(policy, blockSize) + 1) * blockSize + policy.windowTokens - 1;
}

function sinkBlocks(policy: WindowPolicy, blockSize: number): number {
  return blocksForTokens(policy.sinkTokens, blockSize);
}
