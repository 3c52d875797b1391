/**
 * Decides what each step computes. A request is behind by `numTokens + numDraftTokens - numComputedTokens`; a step pays off some of that under a
 * token budget. Prefill, chunked prefill, decode, prefix hits, resume after preemption and draft verification are all this one arithmetic.
 *
 * Rules: running requests first, in order of the rank that the policy gave them (by default older before younger); when blocks run out the last of
 * them is preempted and later recomputes; a request starts only if all its tokens fit and, by prediction, what all will grow by; when nothing at all
 * can go on, the first fails rather than everyone waiting for ever.
 *
 * With two steps in flight the second expects one sample a row of the first; its results are passed over for rows that ended meanwhile. A block freed
 * while a step in flight may still write it needs no guard: backends run steps in order. Nobody is preempted meanwhile: `schedule` returns no rows.
 */
import { invariant, MillraceError } from '../base/errors.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { type AdmissionLimits, checkAdmissible, PeakEstimate } from './admission.ts';
import type { BeamGroup } from './beam-group.ts';
import { Expiry, TenantCounts } from './limits.ts';
import { OutputLengths } from './output-lengths.ts';
import { StepPacing } from './pacing.ts';
import { fcfs } from './policies/fcfs.ts';
import type { PolicyView, SchedulingPolicy } from './policies/policy.ts';
import type { Request } from './request.ts';
import { RunningLine } from './running-line.ts';
import { type CommittedBatch, ReusableBatch, type ScheduledBatch } from './scheduled-batch.ts';
import type { SchedulerOptions, SchedulerStats } from './scheduler-options.ts';
import { sharedWork } from './shared-work.ts';
import { type LoadOrder, Starter } from './starter.ts';
import { TransferRates } from './transfer-rates.ts';
import { type RequestReport, reportRequest, type WaitReason } from './wait-reasons.ts';
import { WaitingLine } from './waiting-line.ts';

export type { SchedulerOptions, SchedulerStats } from './scheduler-options.ts';

/** Waiting requests that a step passes over at most because others are computing what they need: bounds the work of a step. */
const MAX_PASSED_OVER = 64;

export class Scheduler {
  readonly kv: KvCache;
  readonly stats: SchedulerStats = {
    numPreemptions: 0,
    numSwaps: 0,
    prefixQueriedTokens: 0,
    prefixHitTokens: 0,
    tierQueriedTokens: 0,
    tierHitTokens: 0,
  };
  /** What computing and moving take, as measured by whoever runs the steps. */
  readonly rates = new TransferRates();
  /** Null without a target for the time between tokens. Whoever runs the steps notes what they took. */
  readonly pacing: StepPacing | null;
  readonly #limits: AdmissionLimits;
  readonly #maxNumSeqs: number;
  readonly #maxQueue: number;
  readonly #expiry: Expiry;
  readonly #maxTenantSeqs: number;
  readonly #tenants = new TenantCounts();
  readonly #lengths = new OutputLengths();
  readonly #starter: Starter;
  readonly #view: PolicyView & { nowMs: number; numWaiting: number };
  readonly #waiting: WaitingLine;
  readonly #line = new RunningLine();
  /** Of the line above. */
  readonly #running = this.#line.requests;
  readonly #batches: ReusableBatch[];
  #numInFlight = 0;
  #nextOrder = 0;
  #step = 0;

  constructor(options: SchedulerOptions) {
    this.kv = options.kv;
    this.#limits = { ...options, watermark: options.watermark ?? 0.01 };
    this.#maxNumSeqs = options.maxNumSeqs;
    this.#maxQueue = options.maxQueue;
    this.#expiry = new Expiry(options.maxQueueMs ?? Infinity);
    this.#maxTenantSeqs = options.maxTenantSeqs ?? Infinity;
    const peak = (options.estimatePeak ?? true) ? new PeakEstimate(options.kv, this.#lengths, options.maxNumSeqs) : null;
    this.#starter = new Starter({ kv: this.kv, limits: this.#limits, peak, stats: this.stats, rates: this.rates });
    this.#view = {
      nowMs: 0,
      numWaiting: 0,
      maxNumBatchedTokens: options.maxNumBatchedTokens,
      cachedTokens: ({ tokenIds, numTokens, cacheSalt, retention }) =>
        retention === null ? this.kv.prefixLength(tokenIds, numTokens - 1, cacheSalt) : 0,
      predictedRemainingTokens: ({ numOutputTokens, params }) => this.#lengths.predictRemaining(numOutputTokens, params.maxTokens),
    };
    this.#waiting = new WaitingLine(options.policy ?? fcfs(), this.#view);
    this.pacing = options.targetItlMs === undefined ? null : new StepPacing(options.targetItlMs, options.maxInFlight ?? 1);
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

  /** The request that came first of those that wait, or null. */
  get oldestWaiting(): Request | null {
    return this.#waiting.oldest;
  }

  /** Steps scheduled and not yet committed or rolled back. */
  get numInFlight(): number {
    return this.#numInFlight;
  }

  /** Switches the policy at any time; who runs, runs on. */
  use(policy: SchedulingPolicy): void {
    this.#waiting.use(policy, this.unfinished());
    this.#line.sort();
  }

  /** Every unfinished request and why it waits, running ones first, then in the order of the line. */
  report(nowMs: number): RequestReport[] {
    let ahead = 0;
    return this.unfinished().map((request) => reportRequest(request, request.status === 'waiting' ? ahead++ : 0, nowMs, this.kv));
  }

  /** Every request that is not finished. For the invariant checker and for closing. */
  unfinished(): Request[] {
    const all = [...this.#running];
    for (let request = this.#waiting.first; request !== null; request = request.next) all.push(request);
    return all;
  }

  /**
   * Takes all choices of a generation, or none; of a beam search, its leader.
   * @throws PROMPT_EMPTY, PROMPT_TOO_LONG, KV_OUT_OF_BLOCKS, QUEUE_FULL, TENANT_LIMIT
   */
  add(requests: readonly Request[]): void {
    for (const request of requests) checkAdmissible(request, this.kv, this.#limits, this.#maxNumSeqs);
    if (this.#waiting.size + requests.length > this.#maxQueue) {
      throw new MillraceError('QUEUE_FULL', {
        message: 'Too many requests are waiting.',
        expected: `at most ${this.#maxQueue} waiting`,
        received: `${requests.length} more with ${this.#waiting.size} waiting`,
        hint: 'Try again later, or raise --max-queue.',
      });
    }
    const numRows = requests.reduce((sum, { beams }) => sum + (beams?.width ?? 1), 0);
    if (requests.length > 0) this.#tenants.check(requests[0].tenant, numRows, this.#maxTenantSeqs);
    for (const request of requests) {
      for (const each of request.beams?.all ?? [request]) each.order = this.#nextOrder++;
      this.#tenants.add(request.tenant, request.beams?.width ?? 1);
      this.#waiting.policy.onArrival?.(request);
      this.#expiry.watch(request);
      this.#waiting.enter(request);
    }
  }

  /** Ends a request in any state, with all beams of its search, and frees its blocks; a step in flight may still compute for it in vain. Idempotent. */
  abort(request: Request): void {
    this.#end(request);
  }

  /** Ends a request that has all its output: its length counts for predictions. Idempotent. */
  finish(request: Request): void {
    if (request.status !== 'finished') this.#lengths.record(request.numOutputTokens, request.params.maxTokens);
    this.#end(request);
  }

  #end(request: Request): void {
    if (request.status === 'finished') return;
    const all = request.beams?.all ?? [request];
    if (request.order >= 0) {
      this.#tenants.add(request.tenant, -all.length);
      this.#waiting.policy.onEnded?.(request);
    }
    const standsInLine = request.beams?.leader ?? request;
    for (const each of all) {
      if (each.status === 'running') this.#line.remove(each);
      // one that was never added is in no queue
      else if (each === standsInLine && each.order >= 0) this.#waiting.remove(each);
      this.#starter.release(each);
      each.status = 'finished';
    }
  }

  /** Plans the next step. It has no rows when nothing can be done before the steps in flight end; `failed` is to be looked at even then. */
  schedule(nowMs: number): ScheduledBatch {
    invariant(this.#numInFlight < this.#batches.length, 'too many steps are in flight');
    const batch = this.#batches[this.#step % this.#batches.length];
    batch.clear(this.#step);
    this.#view.nowMs = nowMs;
    this.kv.tick(nowMs);
    if (this.kv.offload !== null) this.kv.offload.keepsEvicted = this.rates.isSwapCheaper;
    this.#view.numWaiting = this.#waiting.size;
    for (const request of this.#expiry.due(() => this.unfinished(), nowMs)) this.#fail(batch, request);
    this.#unfold();
    this.pacing?.begin(this.#running);
    const needsPreemption = !this.#scheduleRunning(batch);
    if (needsPreemption) batch.clearRows();
    else if (batch.preempted.length === 0) this.#waiting.noteReasons(this.#admit(batch, nowMs));
    else this.#waiting.noteReasons('preemption');
    if (batch.numRows === 0) {
      if (this.#numInFlight === 0 && batch.failed.length === 0 && !this.#running.some(({ isLoading }) => isLoading)) this.#failOldest(batch);
      return batch;
    }
    for (let row = 0; row < batch.numRows; row++)
      this.#waiting.policy.onScheduled?.(batch.requests[row], batch.firstToken[row], batch.numNewTokens[row]);
    batch.launch();
    this.pacing?.launch(batch);
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
      batch.land(row);
      batch.numAppended[row] = this.#commitRow(request, batch.firstToken[row] + batch.numNewTokens[row], tokenIds, logitRow, batch.numLogitRows[row]);
      logitRow += batch.numLogitRows[row];
    }
    return batch;
  }

  /**
   * Adds a token that needs no sample behind those of a request whose last step has been committed. It is then behind by one more, and the next
   * step computes all of that together (idea 1).
   */
  extend(request: Request, tokenId: number): void {
    invariant(request.status === 'running' && request.numPendingTokens === 0, `request ${request.id} cannot be extended now`);
    request.append(tokenId);
  }

  /** Goes on with beams of a search, all of which have computed what they have: see `BeamGroup.advance`. */
  advance(beams: BeamGroup, count: number, parents: Int32Array, tokenIds: Int32Array): void {
    const before = beams.all.map(({ status }) => status);
    beams.advance(this.kv, count, parents, tokenIds);
    for (const [i, request] of beams.all.entries()) {
      if (request.status === before[i]) continue;
      if (request.status === 'running') this.#line.insert(request);
      else this.#line.remove(request);
    }
  }

  /** Whether the blocks of a load that `schedule` asked for are still to be written: until they are, nobody else has them. */
  isLoadWanted(order: LoadOrder): boolean {
    return this.#starter.isWanted(order);
  }

  /** A load that `schedule` asked for has ended, with its first `numBlocks` blocks in their places. Of one that is not wanted any more, nothing. */
  endLoad(order: LoadOrder, numBlocks: number): void {
    this.#starter.endLoad(order, numBlocks);
  }

  /** A step that never completed: nothing it was to compute counts. The caller ends its rows. */
  rollback(scheduled: ScheduledBatch): void {
    this.#numInFlight--;
    const batch = this.#batches[scheduled.step % this.#batches.length];
    for (let row = 0; row < scheduled.numRows; row++) {
      const request = scheduled.requests[row];
      batch.land(row);
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
    invariant(this.#line.numRows <= this.#maxNumSeqs, 'more requests run than may');
  }

  #commitRow(request: Request, numComputed: number, tokenIds: Int32Array, logitRow: number, numLogitRows: number): number {
    if (request.status !== 'running') return 0;
    let appended = 0;
    const numDrafts = numLogitRows - 1;
    for (let i = 0; i < numLogitRows && request.beams === null; i++) {
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

  /** @returns false when somebody would have to be preempted and a step is in flight: then nothing may be scheduled until it ends */
  #scheduleRunning(batch: ReusableBatch): boolean {
    for (let i = 0; i < this.#running.length && batch.totalTokens < this.#limits.maxNumBatchedTokens; i++) {
      const request = this.#running[i];
      if (request.mustWaitForSample || request.isLoading) continue;
      // those behind in line keep one token each, so that a long prompt does not stop them
      const reserved = Math.min(this.#running.length - 1 - i, this.#limits.maxNumBatchedTokens - batch.totalTokens - 1);
      invariant(request.sequence !== null, `running request ${request.id} holds no blocks`);
      const chunk = this.kv.chunkRoom(request.sequence, request.numScheduledTokens);
      const room = Math.min(request.numBehind, batch.roomFor(request), chunk, this.#limits.maxNumBatchedTokens - batch.totalTokens - reserved);
      const budget = this.pacing === null ? room : this.pacing.take(request, room);
      if (budget <= 0) continue;
      // a draft without its logits could not be verified: what does not fit the step is dropped
      if (request.numBehind > budget) request.numDraftTokens = Math.max(0, request.numDraftTokens - (request.numBehind - budget));
      const numNew = Math.min(request.numBehind, budget);
      const first = request.numScheduledTokens;
      const fits = this.kv.allocate(request.sequence, request.numComputedTokens, first + numNew, first);
      if (!fits && this.#numInFlight > 0) return false;
      if (fits || this.#allocateOrPreempt(batch, request, numNew)) batch.add(request, numNew);
    }
    return true;
  }

  /** @returns false when the request itself had to go back to waiting */
  #allocateOrPreempt(batch: ReusableBatch, request: Request, numNew: number): boolean {
    invariant(request.sequence !== null, `running request ${request.id} holds no blocks`);
    const first = request.numScheduledTokens;
    while (!this.kv.allocate(request.sequence, request.numComputedTokens, first + numNew, first)) {
      if (this.#preemptLast(batch).includes(request)) return false;
    }
    return true;
  }

  /** @returns whom it took; beams of a search go together, and wait as one */
  #preemptLast(batch: ReusableBatch): readonly Request[] {
    const victims = this.#line.popLast();
    for (const victim of victims) {
      this.#starter.release(victim);
      victim.status = 'waiting';
      victim.numPreemptions++;
      this.stats.numPreemptions++;
      if (this.kv.offload?.isSwapping === true) this.stats.numSwaps++;
    }
    const [{ beams }] = victims;
    // beams before the one that found no block have rows in this step already: the last ones, as they stand last in line
    while (beams !== null && batch.numRows > 0 && batch.requests[batch.numRows - 1].beams === beams) batch.dropLast();
    const waits = beams?.leader ?? victims[0];
    batch.preempted.push(waits);
    this.#waiting.enter(waits);
    return victims;
  }

  /** Beams that were preempted join the first of theirs once it has computed what they share. */
  #unfold(): void {
    for (const beams of this.#line.folded()) {
      for (const beam of beams.joining()) {
        beams.join(beam, this.kv);
        beam.status = 'running';
        beam.rank = beams.leader.rank;
        this.#line.insert(beam);
      }
    }
  }

  /** @returns why the first that was neither started nor passed over has to wait */
  #admit(batch: ReusableBatch, nowMs: number): WaitReason {
    let owedBlocks = 0;
    let numPassedOver = 0;
    // not worth ranking for
    if (this.#line.numRows >= this.#maxNumSeqs) return 'rows';
    for (const request of this.#running) owedBlocks += this.#starter.owedBlocks(request);
    for (let request = this.#waiting.rankedFirst(); request !== null; ) {
      const budget = this.#limits.maxNumBatchedTokens - batch.totalTokens;
      if (this.#line.numRows + (request.beams?.width ?? 1) > this.#maxNumSeqs) return 'rows';
      if (budget <= 0 || this.pacing?.isFull === true) return 'tokens';
      let { next } = request;
      const producer = sharedWork(request, this.#running, this.kv);
      request.waitReason = producer ?? 'new';
      if (producer !== null) {
        if (++numPassedOver > MAX_PASSED_OVER) return producer;
      } else {
        const refusal = this.#starter.start(request, this.#running, owedBlocks);
        if (refusal !== null) return refusal; // head of the line: nobody behind overtakes it
        invariant(request.sequence !== null, 'a started request holds blocks');
        const room = Math.min(request.numBehind, budget, batch.roomFor(request), this.kv.chunkRoom(request.sequence, request.numComputedTokens));
        const wanted = this.#beginLoad(batch, request) ? 0 : room;
        const numNew = this.pacing === null ? wanted : this.pacing.take(request, wanted);
        if (numNew > 0 && !this.kv.allocate(request.sequence, request.numComputedTokens, request.numComputedTokens + numNew)) {
          this.#starter.release(request);
          return 'blocks';
        }
        this.#waiting.remove(request);
        request.status = 'running';
        request.scheduledMs ??= nowMs;
        this.#line.insert(request);
        if (numNew > 0) batch.add(request, numNew);
        owedBlocks += this.#starter.owedBlocks(request);
        if (this.#waiting.policy.reranks === 'admission') {
          this.#waiting.policy.onScheduled?.(request, request.numComputedTokens, numNew);
          next = this.#waiting.rankedFirst();
        }
      }
      request = next;
    }
    return 'behind';
  }

  /** @returns whether tiers hold more of the request, which then runs with no tokens until that has come */
  #beginLoad(batch: ReusableBatch, request: Request): boolean {
    // a copy that is yet to be made may read a block that the load writes: it goes with the rows of a step
    if (this.kv.offload === null || (batch.numRows === 0 && this.kv.numPendingCopies > 0)) return false;
    const order = this.#starter.load(request);
    if (order !== null) batch.loads.push(order);
    return order !== null;
  }

  #fail(batch: ReusableBatch, request: Request): void {
    this.#end(request);
    batch.failed.push(request);
  }

  #failOldest(batch: ReusableBatch): void {
    const request = this.#running[0] ?? this.#waiting.first;
    if (request === null || request === undefined) return;
    const { neededBlocks, totalBlocks } = this.kv.capacityFor(request.numTokens + 1, this.#limits.maxNumBatchedTokens, 1, 0, request.retention);
    request.error = new MillraceError('KV_OUT_OF_BLOCKS', {
      message: `The request cannot go on: it needs ${neededBlocks} blocks for its ${request.numTokens} tokens and the KV cache has ${totalBlocks}.`,
      hint: 'Raise --kv-cache-memory-bytes or lower --max-model-len.',
    });
    this.#fail(batch, request);
  }
}
