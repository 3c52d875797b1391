/**
 * The beams of one search as the scheduler sees them: requests that share a prompt, stand in the line as one, and are preempted together.
 *
 * At first there is one, which computes the prompt. A beam that has computed all it has waits until all of them have; then whoever searches says which go
 * on, and how (`advance`): a beam with several continuations is forked, so that blocks are shared up to the place where texts part, and only the head of the
 * last one is copied. After a preemption the first starts alone again, and the others join it where they part from it.
 */
import { invariant } from '../base/errors.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { blocksForTokens } from '../kv/layout.ts';
import type { Request } from './request.ts';

export class BeamGroup {
  /** One for each beam. */
  readonly all: readonly Request[];
  /** Those in use, likeliest first. */
  #beams: Request[];

  /** @param requests equal but for their choice */
  constructor(requests: readonly Request[]) {
    this.all = requests;
    this.#beams = [requests[0]];
    for (const request of requests) {
      request.beams = this;
      request.waitsForSample = true;
    }
  }

  get width(): number {
    return this.all.length;
  }

  get beams(): readonly Request[] {
    return this.#beams;
  }

  /** Stands in the line for all. */
  get leader(): Request {
    return this.#beams[0];
  }

  /** Rows that it does not take yet, and that are kept for it while it runs. */
  get numRowsToCome(): number {
    let count = this.width;
    for (const beam of this.#beams) if (beam.status === 'running') count--;
    return count;
  }

  /** Every beam has computed all it has, so that the last results of each are what follows its text. */
  get isReady(): boolean {
    return this.#beams.every(({ status, numBehind }) => status === 'running' && numBehind === 0);
  }

  /** Blocks that beams which do not run yet will take of their own for what they have. */
  owedBlocks(blockSize: number): number {
    let blocks = 0;
    for (let i = 1; i < this.width; i++) {
      const beam = this.#beams[i] ?? this.leader;
      if (beam !== this.leader && beam.status === 'running') continue;
      blocks += blocksForTokens(beam.numTokens + 1, blockSize) - Math.floor(beam.numPromptTokens / blockSize);
    }
    return blocks;
  }

  /** Beams that wait for the first to have computed what they share with it, and for which it has. */
  joining(): readonly Request[] {
    const { leader } = this;
    if (leader.status !== 'running' || leader.isLoading) return [];
    return this.#beams.filter((beam) => beam.status === 'waiting' && leader.numComputedTokens >= this.#sharedTokens(beam));
  }

  /**
   * Gives a beam what it shares with the first, or the full blocks that are remembered of it if they are more. Not a part of a remembered block: that would
   * be held until it is copied, and in the room that a search alone is sure of there may be no block for it.
   */
  join(beam: Request, kv: KvCache): void {
    const { leader } = this;
    invariant(leader.sequence !== null, 'the first beam holds no blocks');
    beam.sequence = kv.open(beam.priority);
    const shared = this.#sharedTokens(beam);
    const known = kv.prefixLength(beam.tokenIds, beam.numTokens - 1, beam.cacheSalt);
    const whole = known - (known % kv.blockSize);
    if (whole < shared && kv.fork(leader.sequence, beam.sequence, shared)) beam.numComputedTokens = shared;
    else beam.numComputedTokens = kv.matchPrefix(beam.sequence, beam.tokenIds, whole, beam.cacheSalt);
  }

  /**
   * Goes on with `tokenIds[i]` behind beam `parents[i]` as beam i, as many as `count`. The first continuation of a beam keeps its request; beams without one
   * give their blocks to those with several, or stop running.
   */
  advance(kv: KvCache, count: number, parents: Int32Array, tokenIds: Int32Array): void {
    invariant(this.isReady && count >= 1 && count <= this.width, 'beams cannot go on now');
    const before = this.#beams;
    const next = new Array<Request | undefined>(count).fill(undefined);
    for (let i = 0; i < count; i++) if (parents.indexOf(parents[i]) === i) next[i] = before[parents[i]];
    const spares = this.all.filter((request) => !next.includes(request));
    for (const spare of spares) {
      // what it has computed of its own nobody is likely to ask for: full blocks stay remembered, the tail does not
      if (spare.sequence !== null) kv.free(spare.sequence, spare.tokenIds, 0);
      spare.sequence = null;
      spare.numComputedTokens = 0;
      spare.status = 'waiting';
    }
    for (let i = 0; i < count; i++) {
      if (next[i] !== undefined) continue;
      const child = spares.pop();
      const parent = before[parents[i]];
      invariant(child !== undefined && parent.sequence !== null, 'a beam has no request to go on with');
      child.continueAs(parent);
      child.sequence = kv.open(child.priority);
      invariant(kv.fork(parent.sequence, child.sequence, parent.numComputedTokens), 'a beam cannot be forked where it ends');
      child.status = 'running';
      next[i] = child;
    }
    this.#beams = next.map((beam, i) => {
      invariant(beam !== undefined, 'a beam is missing');
      beam.append(tokenIds[i]);
      return beam;
    });
  }

  #sharedTokens(beam: Request): number {
    const most = Math.min(this.leader.numTokens, beam.numTokens) - 1;
    let length = beam.numPromptTokens - 1;
    while (length < most && this.leader.tokenIds[length] === beam.tokenIds[length]) length++;
    return length;
  }
}
