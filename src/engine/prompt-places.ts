/**
 * What the host works out of the logits at places of prompts, beside what the sampler says of them: the rank of the token that is there, and alternatives
 * beyond those that samplers list.
 */
import { largest, logNormaliser, logprobOf } from '../sampling/logprobs.ts';
import { MAX_TOP_LOGPROBS, type ResolvedSamplingParams } from '../sampling/params.ts';
import type { ScheduledBatch } from '../scheduler/scheduled-batch.ts';

export interface PromptPlace {
  /** 1 for the likeliest token; of equal ones the lower id comes first. */
  readonly rank: number;
  /** All alternatives, best first; null where they are few and the sampler lists them. */
  readonly top: readonly { readonly tokenId: number; readonly logprob: number }[] | null;
}

/** Above this many a sort of the whole vocabulary is faster than a list kept in order. */
const MOST_IN_ORDER = 256;

/** How many alternatives at a place of the prompt the sampler is to list; none where there are too many for it. */
export function listedAlternatives({ promptLogprobs }: Pick<ResolvedSamplingParams, 'promptLogprobs'>): number {
  const count = promptLogprobs ?? 0;
  return count > MAX_TOP_LOGPROBS ? 0 : count;
}

export class PromptPlaces {
  readonly #vocabSize: number;
  readonly #row: Float32Array;
  readonly #scratch: Float32Array;
  readonly #places: PromptPlace[] = [];

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
    this.#row = new Float32Array(vocabSize);
    this.#scratch = new Float32Array(vocabSize);
  }

  /** In the order of the prompt rows of the step. */
  at(promptRow: number): PromptPlace | undefined {
    return this.#places[promptRow];
  }

  /** Reads one row of logits after another, `[vocabSize]` from `at`; between rows others get a turn when it takes long. */
  *read(batch: ScheduledBatch, logits: Float32Array, at: number): Generator<void> {
    for (let row = 0; row < batch.numRows; row++) {
      const { tokenIds, params } = batch.requests[row];
      for (let i = 0; i < batch.numPromptRows[row]; i++, at += this.#vocabSize) {
        this.#settle(logits.subarray(at, at + this.#vocabSize));
        const count = params.promptLogprobs ?? 0;
        this.#places.push({ rank: this.#rankOf(tokenIds[batch.firstToken[row] + i + 1]), top: count > MAX_TOP_LOGPROBS ? this.#top(count) : null });
        yield;
      }
    }
  }

  /** As the sampler has it: beside an infinite logit all others are impossible. */
  #settle(logits: Float32Array): void {
    this.#row.set(logits);
    if (logits.includes(Infinity)) for (let id = 0; id < this.#vocabSize; id++) this.#row[id] = logits[id] === Infinity ? 0 : -Infinity;
  }

  #rankOf(tokenId: number): number {
    const row = this.#row;
    const logit = row[tokenId];
    let rank = 1;
    for (let id = 0; id < this.#vocabSize; id++) if (row[id] > logit || (row[id] === logit && id < tokenId)) rank++;
    return rank;
  }

  #top(count: number): PromptPlace['top'] {
    const row = this.#row;
    const most = Math.min(count, this.#vocabSize);
    const ids = new Int32Array(most <= MOST_IN_ORDER ? most : this.#vocabSize);
    if (most <= MOST_IN_ORDER) largest(row, this.#vocabSize, most, ids, 0);
    else {
      for (let id = 0; id < ids.length; id++) ids[id] = id;
      ids.sort((a, b) => (row[a] === row[b] ? a - b : row[b] - row[a]));
    }
    const normaliser = logNormaliser(row, this.#vocabSize, row[ids[0]], this.#scratch);
    return Array.from(ids.subarray(0, most), (tokenId) => ({ tokenId, logprob: logprobOf(row[tokenId], normaliser) }));
  }
}
