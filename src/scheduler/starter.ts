/** How a waiting request starts: it takes the prefix that is there, and is let in if it can get on. Then, what tiers hold of it may be loaded first. */

import type { KvCache } from '../kv/kv-cache.ts';
import type { BlockLoad } from '../kv/offload.ts';
import { type AdmissionLimits, canStart, type PeakEstimate } from './admission.ts';
import type { Request } from './request.ts';
import type { SchedulerStats } from './scheduler-options.ts';
import type { TransferRates } from './transfer-rates.ts';
import type { WaitReason } from './wait-reasons.ts';

/** Blocks to fetch from the tiers for a request, which waits for them with its blocks taken. */
export interface LoadOrder {
  readonly request: Request;
  /** To be given back with the result: a request that was stopped meanwhile has another. */
  readonly loadId: number;
  /** Blocks of its table that come before those loaded. */
  readonly firstBlock: number;
  readonly blocks: readonly BlockLoad[];
}

export interface StarterParts {
  readonly kv: KvCache;
  readonly limits: AdmissionLimits;
  readonly peak: PeakEstimate | null;
  readonly stats: SchedulerStats;
  readonly rates: TransferRates;
}

export class Starter {
  readonly #parts: StarterParts;

  constructor(parts: StarterParts) {
    this.#parts = parts;
  }

  /** Blocks that a request has yet to take for tokens that it has. */
  owedBlocks(request: Request): number {
    const held = request.sequence?.numBlocks ?? 0;
    const { kv } = this.#parts;
    const folded = request.beams?.leader === request && request.beams.numRowsToCome > 0 ? request.beams.owedBlocks(kv.blockSize) : 0;
    return folded + Math.max(0, kv.blocksFor(request.retention, request.sequence, request.numTokens + request.numPendingTokens + 1) - held);
  }

  /** Takes the prefix of a waiting request if it may run: null. Otherwise says why not, and it holds nothing. */
  start(request: Request, running: readonly Request[], owedBlocks: number): WaitReason | null {
    const { kv, limits, peak, stats } = this.#parts;
    const isFirstStart = request.scheduledMs === null;
    this.#takePrefix(request, request.numTokens - 1);
    if (!canStart(request, kv, limits, owedBlocks, running.length)) {
      this.release(request);
      if (running.length > 0) return 'blocks';
      // alone, it may be the prefix itself that is in the way, holding a block to copy from
      this.#takePrefix(request, 0);
      if (!canStart(request, kv, limits, 0, 0)) {
        this.release(request);
        return 'blocks';
      }
    }
    request.numSharedTokens = request.numComputedTokens;
    if (peak !== null && !peak.fits(running, request, limits.watermark)) {
      this.release(request);
      return 'peak';
    }
    if (request.retention === null) stats.prefixQueriedTokens += request.numTokens;
    stats.prefixHitTokens += request.numComputedTokens;
    if (isFirstStart) request.numCachedTokens = request.numComputedTokens;
    return null;
  }

  /** What to fetch before a request that has just started computes anything, its blocks taken; null when tiers hold no more or computing is cheaper. */
  load(request: Request): LoadOrder | null {
    const { kv, rates, stats } = this.#parts;
    const { sequence } = request;
    if (kv.offload === null || sequence === null || request.wantsPromptRows) return null;
    const length = kv.loadableLength(sequence, request.tokenIds, request.numComputedTokens, request.numTokens - 1);
    stats.tierQueriedTokens += request.numTokens - request.numComputedTokens;
    if (length <= request.numComputedTokens) return null;
    if (!rates.isLoadCheaper) {
      rates.noteRefusedLoad(length - request.numComputedTokens);
      return null;
    }
    const firstBlock = sequence.numBlocks;
    if (!kv.beginLoad(sequence, length)) return null;
    request.isLoading = true;
    return { request, loadId: ++request.loadId, firstBlock, blocks: kv.offload.loadsOf(sequence) };
  }

  /** The load of a request has ended, with so many blocks in their places. @returns whether that is still wanted */
  endLoad({ request, loadId, firstBlock }: LoadOrder, numBlocks: number): boolean {
    if (!this.isWanted({ request, loadId })) return false;
    const { kv, stats } = this.#parts;
    const { sequence } = request;
    request.isLoading = false;
    if (sequence === null) return false;
    const before = request.numComputedTokens;
    request.numComputedTokens = kv.endLoad(sequence, request.tokenIds, before, firstBlock + numBlocks);
    stats.tierHitTokens += request.numComputedTokens - before;
    if (request.numCachedTokens === before && request.numOutputTokens === 0) request.numCachedTokens = request.numComputedTokens;
    return true;
  }

  isWanted({ request, loadId }: Pick<LoadOrder, 'request' | 'loadId'>): boolean {
    return request.isLoading && request.loadId === loadId;
  }

  /** Gives back all that a request holds; what was computed stays remembered. */
  release(request: Request): void {
    if (request.sequence !== null)
      this.#parts.kv.free(request.sequence, request.tokenIds, request.numComputedTokens, request.numInFlightTokens === 0);
    request.sequence = null;
    request.numComputedTokens = 0;
    request.numInFlightTokens = 0;
    request.numPendingTokens = 0;
    request.numDraftTokens = 0;
    request.isLoading = false;
  }

  /** The last token is always computed: its logits are what is wanted. */
  #takePrefix(request: Request, most: number): void {
    const { kv } = this.#parts;
    const limit = request.wantsPromptRows ? 0 : most;
    request.sequence = kv.open(request.priority, request.retention);
    if (request.retention !== null) return;
    // what a sibling has yet to be given by a tier is not there to be shared
    const from = request.sibling?.isLoading === true ? null : request.sibling?.sequence;
    const length = Math.min(limit, request.numPromptTokens - 1);
    const canFork =
      request.numOutputTokens === 0 && from !== null && from !== undefined && length > 0 && (request.sibling?.numComputedTokens ?? 0) > length;
    if (canFork && kv.fork(from, request.sequence, length)) request.numComputedTokens = length;
    else request.numComputedTokens = kv.matchPrefix(request.sequence, request.tokenIds, limit, request.cacheSalt);
  }
}
