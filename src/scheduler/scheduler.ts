/**
 * Decides what each step computes. A request is behind by `numTokens + numDraftTokens - numComputedTokens`; a step pays off some of that under a
 * token budget. Prefill, chunked prefill, decode, prefix hits, resume after preemption and draft verification are all this one arithmetic.
 *
 * Rules: running requests first, older before younger; when blocks run out the youngest is preempted and later recomputes; a request starts only if
 * all its tokens fit; when nothing at all can go on, the oldest fails rather than everyone waiting for ever.
 */
import { invariant, MillraceError } from '../base/errors.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { blocksForTokens } from '../kv/layout.ts';
import { type AdmissionLimits, canStart, checkAdmissible } from './admission.ts';
import { fcfs } from './policies/fcfs.ts';
import type { SchedulingPolicy } from './policies/index.ts';
import type { Request } from './request.ts';
import { RequestQueue } from './request-queue.ts';
import { type CommittedBatch, ReusableBatch, type ScheduledBatch } from './scheduled-batch.ts';

/** Waiting requests that a step passes over at most because others are computing what they need: bounds the work of a step. */
const MAX_PASSED_OVER = 64;

export interface SchedulerOptions {
  readonly kv: KvCache;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly maxModelLen: number;
  /** Requests that may wait; more are refused. */
  readonly maxQueue: number;
  readonly policy?: SchedulingPolicy;
  readonly watermark?: number;
  /** Draft tokens of a request at most. */
  readonly maxDraftTokens?: number;
  /** Steps that may be scheduled and not yet committed. */
  readonly maxInFlight?: number;
}

export interface SchedulerStats {
  numPreemptions: number;
  prefixQueriedTokens: number;
  prefixHitTokens: number;
}

export class Scheduler {
  readonly kv: KvCache;
  readonly stats: SchedulerStats = { numPreemptions: 0, prefixQueriedTokens: 0, prefixHitTokens: 0 };
  readonly #limits: AdmissionLimits;
  readonly #maxNumSeqs: number;
  readonly #maxQueue: number;
  readonly #policy: SchedulingPolicy;
  readonly #waiting = new RequestQueue();
  /** Oldest first. */
  readonly #running: Request[] = [];
  readonly #batches: ReusableBatch[];
  #numInFlight = 0;
  #nextOrder = 0;
  #step = 0;

  constructor(options: SchedulerOptions) {
    this.kv = options.kv;
    this.#limits = { ...options, watermark: options.watermark ?? 0.01 };
    this.#maxNumSeqs = options.maxNumSeqs;
    this.#maxQueue = options.maxQueue;
    this.#policy = options.policy ?? fcfs;
    this.#batches = Array.from({ length: options.maxInFlight ?? 1 }, () => new ReusableBatch(options.maxNumSeqs));
  }

  get numWaiting(): number {
    return this.#waiting.size;
  }

  get numRunning(): number {
    return this.#running.length;
  }

  get hasWork(): boolean {
    return this.#running.length > 0 || this.#waiting.size > 0;
  }

  /** The request that has waited longest, or null. */
  get oldestWaiting(): Request | null {
    return this.#waiting.first;
  }

  /** Every request that is not finished. For the invariant checker and for closing. */
  unfinished(): Request[] {
    const all = [...this.#running];
    for (let request = this.#waiting.first; request !== null; request = request.next) all.push(request);
    return all;
  }

  /**
   * Takes all choices of a generation, or none.
   * @throws PROMPT_EMPTY, PROMPT_TOO_LONG, KV_OUT_OF_BLOCKS, QUEUE_FULL
   */
  add(requests: readonly Request[]): void {
    for (const request of requests) checkAdmissible(request, this.kv, this.#limits);
    if (this.#waiting.size + requests.length > this.#maxQueue) {
      throw new MillraceError('QUEUE_FULL', {
        message: 'Too many requests are waiting.',
        expected: `at most ${this.#maxQueue} waiting`,
        received: `${requests.length} more with ${this.#waiting.size} waiting`,
        hint: 'Try again later, or raise --max-queue.',
      });
    }
    for (const request of requests) {
      request.order = this.#nextOrder++;
      this.#enqueue(request);
    }
  }

  /** Ends a request in any state and frees its blocks; a step in flight may still compute for it in vain. Idempotent. */
  abort(request: Request): void {
    this.finish(request);
  }

  /** Ends a request, whatever the reason. Idempotent. */
  finish(request: Request): void {
    if (request.status === 'finished') return;
    if (request.status === 'waiting') {
      // one that was never added is in no queue
      if (request.order >= 0) this.#waiting.remove(request);
    } else this.#running.splice(this.#running.indexOf(request), 1);
    this.#release(request);
    request.status = 'finished';
  }

  /** Plans the next step. It has no rows when there is nothing to do; `failed` is to be looked at even then. */
  schedule(nowMs: number): ScheduledBatch {
    invariant(this.#numInFlight < this.#batches.length, 'too many steps are in flight');
    const batch = this.#batches[this.#step % this.#batches.length];
    batch.clear(this.#step);
    this.#scheduleRunning(batch);
    if (batch.preempted.length === 0) this.#admit(batch, nowMs);
    if (batch.numRows === 0) {
      if (this.#numInFlight === 0) this.#failOldest(batch);
      return batch;
    }
    batch.numCopies = this.kv.drainCopies(batch);
    this.#numInFlight++;
    this.#step++;
    return batch;
  }

  /**
   * Books what a step computed: `tokenIds[i]` is the token sampled after logit row i. A draft is accepted while it equals what was sampled for its
   * place; the first that differs is replaced by the sample. Rows that ended meanwhile are passed over.
   */
  commit(scheduled: ScheduledBatch, tokenIds: Int32Array): CommittedBatch {
    const batch = this.#batches[scheduled.step % this.#batches.length];
    invariant(batch === scheduled, 'only a batch of this scheduler can be committed');
    this.#numInFlight--;
    let logitRow = 0;
    for (let row = 0; row < batch.numRows; row++) {
      const request = batch.requests[row];
      batch.numAppended[row] = this.#commitRow(request, batch.firstToken[row] + batch.numNewTokens[row], tokenIds, logitRow, batch.numLogitRows[row]);
      logitRow += batch.numLogitRows[row];
    }
    return batch;
  }

  /** A step that never completed: nothing it was to compute counts. The caller ends its rows. */
  rollback(scheduled: ScheduledBatch): void {
    this.#numInFlight--;
    for (let row = 0; row < scheduled.numRows; row++) {
      const request = scheduled.requests[row];
      if (request.sequence === null) continue;
      // what the step should have copied or written is not there: hand the blocks back without remembering them
      this.kv.free(request.sequence, request.tokenIds, 0);
      request.sequence = null;
    }
    this.kv.clearCached();
  }

  /** Checks every count against every holder. For tests. @throws INTERNAL */
  checkInvariants(): void {
    const all = this.unfinished();
    this.kv.check(all.flatMap((request) => (request.sequence === null ? [] : [request.sequence])));
    for (const request of all) {
      invariant((request.status === 'running') === (request.sequence !== null), `request ${request.id} is ${request.status} with wrong blocks`);
      invariant(request.numComputedTokens <= request.numTokens, `request ${request.id} computed more than it has`);
    }
    invariant(this.#running.length <= this.#maxNumSeqs, 'more requests run than may');
  }

  #commitRow(request: Request, numComputed: number, tokenIds: Int32Array, logitRow: number, numLogitRows: number): number {
    if (request.status !== 'running') return 0;
    let appended = 0;
    const numDrafts = numLogitRows - 1;
    for (let i = 0; i < numLogitRows; i++) {
      const tokenId = tokenIds[logitRow + i];
      request.append(tokenId);
      appended++;
      if (i < numDrafts && request.draftTokenIds[i] !== tokenId) break;
    }
    const numRejected = numLogitRows - Math.max(appended, Math.min(1, numLogitRows));
    if (numLogitRows > 0) request.numDraftTokens = 0;
    request.numComputedTokens = numComputed - numRejected;
    if (request.sequence !== null) this.kv.publish(request.sequence, request.tokenIds, request.numComputedTokens);
    return appended;
  }

  #scheduleRunning(batch: ReusableBatch): void {
    for (let i = 0; i < this.#running.length && batch.totalTokens < this.#limits.maxNumBatchedTokens; i++) {
      const request = this.#running[i];
      // those behind in line keep one token each, so that a long prompt does not stop them
      const reserved = Math.min(this.#running.length - 1 - i, this.#limits.maxNumBatchedTokens - batch.totalTokens - 1);
      const numNew = Math.min(request.numBehind, this.#limits.maxNumBatchedTokens - batch.totalTokens - reserved);
      if (numNew <= 0) continue;
      if (this.#allocateOrPreempt(batch, request, numNew)) batch.add(request, numNew);
    }
  }

  /** @returns false when the request itself had to go back to waiting */
  #allocateOrPreempt(batch: ReusableBatch, request: Request, numNew: number): boolean {
    invariant(request.sequence !== null, `running request ${request.id} holds no blocks`);
    while (!this.kv.allocate(request.sequence, request.numComputedTokens, request.numComputedTokens + numNew)) {
      const victim = this.#running[this.#running.length - 1];
      this.#preempt(batch, victim);
      if (victim === request) return false;
    }
    return true;
  }

  #preempt(batch: ReusableBatch, victim: Request): void {
    this.#running.pop();
    this.#release(victim);
    victim.status = 'waiting';
    victim.numPreemptions++;
    this.stats.numPreemptions++;
    batch.preempted.push(victim);
    this.#enqueue(victim);
  }

  #admit(batch: ReusableBatch, nowMs: number): void {
    let owedBlocks = 0;
    let numPassedOver = 0;
    for (const request of this.#running) owedBlocks += this.#owedBlocks(request);
    for (let request = this.#waiting.first; request !== null; ) {
      const budget = this.#limits.maxNumBatchedTokens - batch.totalTokens;
      if (budget <= 0 || this.#running.length >= this.#maxNumSeqs) return;
      const { next } = request;
      if (waitsForSibling(request) || this.#waitsForProducer(request)) {
        if (++numPassedOver > MAX_PASSED_OVER) return;
      } else {
        if (!this.#start(request, owedBlocks)) return; // head of the line: nobody younger overtakes it
        const numNew = Math.min(request.numBehind, budget);
        invariant(request.sequence !== null, 'a started request holds blocks');
        if (!this.kv.allocate(request.sequence, request.numComputedTokens, request.numComputedTokens + numNew)) {
          this.#unstart(request);
          return;
        }
        this.#waiting.remove(request);
        request.status = 'running';
        request.scheduledMs ??= nowMs;
        this.#insertRunning(request);
        batch.add(request, numNew);
        owedBlocks += this.#owedBlocks(request);
      }
      request = next;
    }
  }

  /**
   * Whether a running request is about to compute a block that this one begins with: then it waits, and shares instead of computing the same.
   * It cannot wait for ever: who runs gets on, or ends, or is preempted and then no longer runs.
   */
  #waitsForProducer(request: Request): boolean {
    if (!this.kv.enablePrefixCaching) return false;
    for (const producer of this.#running) {
      if (producer.numComputedTokens >= producer.numPromptTokens || producer.cacheSalt !== request.cacheSalt) continue;
      const wanted = Math.min((Math.floor(producer.numComputedTokens / this.kv.blockSize) + 1) * this.kv.blockSize, producer.numPromptTokens);
      // the last token is computed by everyone, so a prompt of one block and no more gains nothing
      if (wanted % this.kv.blockSize === 0 && wanted < request.numTokens && sharesHead(producer.tokenIds, request.tokenIds, wanted)) return true;
    }
    return false;
  }

  /** Takes the prefix of a waiting request and says whether it may run. On false it holds nothing. */
  #start(request: Request, owedBlocks: number): boolean {
    const isFirstStart = request.scheduledMs === null;
    this.#takePrefix(request, request.numTokens - 1);
    if (!canStart(request, this.kv, this.#limits, owedBlocks, this.#running.length)) {
      this.#unstart(request);
      if (this.#running.length > 0) return false;
      // alone, it may be the prefix itself that is in the way, holding a block to copy from
      this.#takePrefix(request, 0);
      if (!canStart(request, this.kv, this.#limits, 0, 0)) {
        this.#unstart(request);
        return false;
      }
    }
    this.stats.prefixQueriedTokens += request.numTokens;
    this.stats.prefixHitTokens += request.numComputedTokens;
    if (isFirstStart) request.numCachedTokens = request.numComputedTokens;
    return true;
  }

  /** The last token is always computed: its logits are what is wanted. */
  #takePrefix(request: Request, limit: number): void {
    request.sequence = this.kv.open();
    const from = request.sibling?.sequence;
    const length = Math.min(limit, request.numPromptTokens - 1);
    const canFork =
      request.numOutputTokens === 0 && from !== null && from !== undefined && length > 0 && (request.sibling?.numComputedTokens ?? 0) > length;
    if (canFork && this.kv.fork(from, request.sequence, length)) request.numComputedTokens = length;
    else request.numComputedTokens = this.kv.matchPrefix(request.sequence, request.tokenIds, limit, request.cacheSalt);
  }

  #unstart(request: Request): void {
    this.#release(request);
  }

  #owedBlocks(request: Request): number {
    const held = request.sequence?.numBlocks ?? 0;
    return Math.max(0, blocksForTokens(request.numTokens + 1, this.kv.blockSize) - held);
  }

  #release(request: Request): void {
    if (request.sequence !== null) this.kv.free(request.sequence, request.tokenIds, request.numComputedTokens);
    request.sequence = null;
    request.numComputedTokens = 0;
    request.numDraftTokens = 0;
  }

  #failOldest(batch: ReusableBatch): void {
    const request = this.#running[0] ?? this.#waiting.first;
    if (request === null || request === undefined) return;
    const { neededBlocks, totalBlocks } = this.kv.capacityFor(request.numTokens + 1, this.#limits.maxNumBatchedTokens);
    request.error = new MillraceError('KV_OUT_OF_BLOCKS', {
      message: `The request cannot go on: it needs ${neededBlocks} blocks for its ${request.numTokens} tokens and the KV cache has ${totalBlocks}.`,
      hint: 'Raise --kv-cache-memory-bytes or lower --max-model-len.',
    });
    this.finish(request);
    batch.failed.push(request);
  }

  #enqueue(request: Request): void {
    let before: Request | null = null;
    for (let at = this.#waiting.last; at !== null && this.#policy.compare(request, at) < 0; at = at.previous) before = at;
    this.#waiting.insertBefore(before, request);
  }

  #insertRunning(request: Request): void {
    let at = this.#running.length;
    while (at > 0 && this.#policy.compare(request, this.#running[at - 1]) < 0) at--;
    this.#running.splice(at, 0, request);
  }
}

function sharesHead(a: Int32Array, b: Int32Array, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A sibling waits for the shared prompt while someone computes it: once instead of n times. */
function waitsForSibling(request: Request): boolean {
  const { sibling } = request;
  return sibling !== null && sibling.status === 'running' && request.numOutputTokens === 0 && sibling.numComputedTokens < request.numPromptTokens;
}
