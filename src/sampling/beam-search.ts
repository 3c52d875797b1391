/**
 * Beam search over one prompt, as Hugging Face's `generate` does it with `num_beams` (transformers 5, `_beam_search`): which hypotheses go on, which have
 * ended, and when nothing better can come. Numbers in, decisions out; it touches no cache. Scores are summed and divided in f32, as there.
 *
 * In each round every beam offers its likeliest next tokens. Of all of them together those with the highest sums of log probabilities go on, as many as
 * there are beams, ends aside; an end counts only if it is among the best `width` of the round. A finished hypothesis scores its sum divided by
 * `length ^ lengthPenalty`, the end token included in both. Among equals the lower beam goes first, then the lower id.
 */
import { invariant } from '../base/errors.ts';
import { HypothesisTree } from './hypothesis-tree.ts';

/** `true`: done when `width` hypotheses have ended. `false`: when the best that goes on scores no better than the worst of those, at its length. `'never'`: at
 * any length that it may still reach. */
export type EarlyStopping = boolean | 'never';

export interface BeamSearchOptions {
  readonly width: number;
  /** Tokens of a hypothesis at most, 1 or more. */
  readonly maxTokens: number;
  /** No end before so many tokens. */
  readonly minTokens: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: EarlyStopping;
  readonly endTokenIds: ReadonlySet<number>;
}

/** A hypothesis that has ended. */
export interface FinishedHypothesis {
  /** Its last node in `tree`. */
  readonly node: number;
  /** Sum of the log probabilities of its tokens. */
  readonly cumulativeLogprob: number;
  readonly score: number;
  /** By an end token; otherwise by its length. */
  readonly isEnded: boolean;
}

/** What follows a round, valid until the next: beam i of the next round is `tokenIds[i]` behind beam `parents[i]` of this one, the likeliest first. */
export interface BeamRound {
  readonly count: number;
  readonly parents: Int32Array;
  readonly tokenIds: Int32Array;
  readonly isDone: boolean;
}

export class BeamSearch {
  readonly tree = new HypothesisTree();
  readonly #options: BeamSearchOptions;
  /** Ended hypotheses, best first, `width` at most. */
  readonly #finished: FinishedHypothesis[] = [];
  readonly #nodes: Int32Array;
  readonly #scores: Float32Array;
  readonly #nextNodes: Int32Array;
  readonly #nextScores: Float32Array;
  readonly #round: { count: number; readonly parents: Int32Array; readonly tokenIds: Int32Array; isDone: boolean };
  /** What the beams offer, `[width, numOffered]`; ids below 0 are none. */
  readonly #ids: Int32Array;
  readonly #logprobs: Float32Array;
  readonly numOffered: number;
  #numBeams = 1;
  #numTokens = 0;

  constructor(options: BeamSearchOptions) {
    this.#options = options;
    const { width, endTokenIds } = options;
    this.numOffered = offersWanted(width, endTokenIds.size);
    this.#nodes = new Int32Array(width).fill(-1);
    this.#scores = new Float32Array(width);
    this.#nextNodes = new Int32Array(width);
    this.#nextScores = new Float32Array(width);
    this.#round = { count: 1, parents: new Int32Array(width), tokenIds: new Int32Array(width), isDone: false };
    this.#ids = new Int32Array(width * this.numOffered).fill(-1);
    this.#logprobs = new Float32Array(width * this.numOffered);
  }

  /** Beams that wait for their next token: one at first. */
  get numBeams(): number {
    return this.#numBeams;
  }

  /** Where a beam stands in `tree`; -1 before its first token. */
  nodeOf(beam: number): number {
    return this.#nodes[beam];
  }

  /** Tokens of each hypothesis so far. */
  get numTokens(): number {
    return this.#numTokens;
  }

  get finished(): readonly FinishedHypothesis[] {
    return this.#finished;
  }

  /** The likeliest next tokens of a beam, best first: `ids[at, at + count)` and their log probabilities; an id below 0 is none. */
  offer(beam: number, ids: Int32Array, logprobs: Float32Array, at: number, count: number): void {
    const base = beam * this.numOffered;
    for (let i = 0; i < this.numOffered; i++) {
      this.#ids[base + i] = i < count ? ids[at + i] : -1;
      this.#logprobs[base + i] = i < count ? logprobs[at + i] : -Infinity;
    }
  }

  /** Decides the round, once every beam has offered. */
  decide(): BeamRound {
    const { width, maxTokens, minTokens, endTokenIds } = this.#options;
    const { parents, tokenIds } = this.#round;
    const length = this.#numTokens + 1;
    const isLast = length >= maxTokens;
    let count = 0;
    // the best of all are found one by one: what a beam offers is in order, so only the next of each is looked at
    const heads = new Int32Array(this.#numBeams);
    for (let rank = 0; count < width; rank++) {
      const beam = this.#best(heads, length <= minTokens);
      if (beam < 0) break;
      const at = beam * this.numOffered + heads[beam]++;
      const score = this.#sum(beam, at);
      const isEnd = endTokenIds.has(this.#ids[at]);
      if (isEnd || isLast) {
        if (rank < width) this.#finish(beam, at, score, length, isEnd);
        if (isLast && rank + 1 >= width) break;
        continue;
      }
      parents[count] = beam;
      tokenIds[count] = this.#ids[at];
      this.#nextNodes[count] = this.tree.add(this.#nodes[beam], this.#ids[at], this.#logprobs[at]);
      this.#nextScores[count++] = score;
    }
    invariant(isLast || count === width, 'a round of beam search has too few continuations');
    this.#nodes.set(this.#nextNodes.subarray(0, count));
    this.#scores.set(this.#nextScores.subarray(0, count));
    this.#numTokens = length;
    this.#numBeams = count;
    this.#round.count = count;
    this.#round.isDone = isLast || this.#isSettled();
    return this.#round;
  }

  /** Whether no round can change what is kept any more. */
  #isSettled(): boolean {
    const { width, earlyStopping, lengthPenalty, maxTokens } = this.#options;
    if (this.#finished.length < width) return false;
    if (earlyStopping === true) return true;
    const length = earlyStopping === 'never' && lengthPenalty > 0 ? maxTokens : this.#numTokens;
    return !(penalised(this.#scores[0], length, lengthPenalty) > this.#finished[width - 1].score);
  }

  /** The beam whose next offer has the highest sum, or -1 when none has any. */
  #best(heads: Int32Array, withoutEnds: boolean): number {
    let best = -1;
    let bestAt = -1;
    let bestScore = -Infinity;
    for (let beam = 0; beam < this.#numBeams; beam++) {
      const base = beam * this.numOffered;
      while (withoutEnds && heads[beam] < this.numOffered && this.#options.endTokenIds.has(this.#ids[base + heads[beam]])) heads[beam]++;
      const at = base + heads[beam];
      if (heads[beam] >= this.numOffered || this.#ids[at] < 0) continue;
      const score = this.#sum(beam, at);
      // of equal sums the lower beam; within one, offers stand in their order
      if (best >= 0 && !(score > bestScore)) continue;
      best = beam;
      bestAt = at;
      bestScore = score;
    }
    return bestAt < 0 ? -1 : best;
  }

  #sum(beam: number, at: number): number {
    return Math.fround(this.#scores[beam] + this.#logprobs[at]);
  }

  #finish(beam: number, at: number, sum: number, length: number, isEnded: boolean): void {
    const { width, lengthPenalty } = this.#options;
    const score = penalised(sum, length, lengthPenalty);
    let place = this.#finished.length;
    while (place > 0 && score > this.#finished[place - 1].score) place--;
    if (place >= width) return;
    const node = this.tree.add(this.#nodes[beam], this.#ids[at], this.#logprobs[at]);
    this.#finished.splice(place, 0, { node, cumulativeLogprob: sum, score, isEnded });
    if (this.#finished.length > width) this.#finished.pop();
  }
}

/** Likeliest tokens that each beam has to offer, so that none of the round's best is missed: as many as go on, and ends before them. */
export function offersWanted(width: number, numEndTokens: number): number {
  return width + numEndTokens;
}

/** transformers divides a tensor of f32 by a Python number, which it rounds to f32. */
function penalised(sum: number, length: number, lengthPenalty: number): number {
  return Math.fround(sum / Math.fround(length ** lengthPenalty));
}
