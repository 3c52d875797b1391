/** Masks of structured outputs: worked out on this thread while the backend runs the forward pass of the same step, then handed to its sampler (S2). */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { HostStage } from '../backends/backend.ts';
import type { Request } from '../scheduler/request.ts';
import type { ScheduledBatch } from '../scheduler/scheduled-batch.ts';
import type { HeldOutput } from './held-output.ts';

/** A mask takes far less; one that takes this long is a fault of ours, and ends the step. */
const DEADLINE_MS = 30_000;
/** After so long the event loop gets a turn. */
const TURN_MS = 5;

/** What one request's output is held to. */
export interface OutputRules {
  readonly held: Pick<HeldOutput, 'isFree' | 'fillMask'> | null;
  readonly allowed: Uint32Array | null;
}

/** Memory for the masks of one step at a time. */
export class MaskRows {
  #words: Uint32Array | null = null;

  /** At least so many words, of any content: whoever took them before must be done with them. */
  take(numWords: number): Uint32Array {
    if (this.#words === null || this.#words.length < numWords) this.#words = new Uint32Array(Math.max(numWords, 2 * (this.#words?.length ?? 0)));
    return this.#words;
  }

  /** Leaves what it has to somebody who may not be done with it. */
  drop(): void {
    this.#words = null;
  }
}

export class MaskStage implements HostStage {
  readonly needsLogits = false;
  readonly deadlineMs = DEADLINE_MS;
  /** What each logit row is held to, null where anything may follow. */
  readonly #held: readonly OutputRules['held'][];
  /** Bits of what each row may be at all, null where it is not said. */
  readonly #allowed: readonly (Uint32Array | null)[];
  /** Rows whose output must not end yet where it may go on. */
  readonly #withholdsEnd: readonly boolean[];
  readonly #numWords: number;
  readonly #rows: MaskRows;
  #masks: Promise<Uint32Array> | null = null;

  constructor(
    held: readonly OutputRules['held'][],
    numWords: number,
    withholdsEnd: readonly boolean[] = [],
    allowed: readonly (Uint32Array | null)[] = [],
    rows = new MaskRows(),
  ) {
    this.#rows = rows;
    this.#held = held;
    this.#allowed = allowed;
    this.#withholdsEnd = withholdsEnd;
    this.#numWords = numWords;
  }

  /** @returns null when no row of the step is held to a grammar or a list of ids */
  static of(batch: ScheduledBatch, rulesOf: (request: Request) => OutputRules, vocabSize: number, rows: MaskRows): MaskStage | null {
    const heldRows: OutputRules['held'][] = [];
    const allowed: (Uint32Array | null)[] = [];
    const withholdsEnd: boolean[] = [];
    for (let row = 0; row < batch.numRows; row++) {
      const { params, numOutputTokens } = batch.requests[row];
      for (let i = 0; i < batch.numLogitRows[row]; i++) {
        const { held, allowed: bits } = rulesOf(batch.requests[row]);
        heldRows.push(held?.isFree === true ? null : held);
        allowed.push(bits);
        withholdsEnd.push(params.ignoreEos || numOutputTokens + i < params.minTokens);
      }
    }
    for (let i = 0; i < batch.totalPromptRows; i++) heldRows.push(null);
    const isFree = heldRows.every((held) => held === null) && allowed.every((bits) => bits === null);
    return isFree ? null : new MaskStage(heldRows, Math.ceil(vocabSize / 32), withholdsEnd, allowed, rows);
  }

  /** Begins when the backend has been given the step, or at the latest when it asks. */
  begin(): Promise<Uint32Array> {
    this.#masks ??= this.#fill();
    return this.#masks;
  }

  process(): Promise<Uint32Array> {
    return this.begin();
  }

  async #fill(): Promise<Uint32Array> {
    // by the next turn the backend has really begun
    await nextTurn();
    const masks = this.#rows.take(this.#held.length * this.#numWords);
    let turnMs = performance.now();
    for (const [row, held] of this.#held.entries()) {
      const words = masks.subarray(row * this.#numWords, (row + 1) * this.#numWords);
      if (held === null) words.fill(0xffffffff);
      else {
        try {
          held.fillMask(words, this.#withholdsEnd[row] ?? false);
        } catch {
          words.fill(0); // nothing may follow: this row fails, and no other
        }
      }
      const bits = this.#allowed[row] ?? null;
      for (let i = 0; bits !== null && i < words.length; i++) words[i] &= bits[i];
      if (performance.now() - turnMs < TURN_MS) continue;
      await nextTurn();
      turnMs = performance.now();
    }
    return masks;
  }
}
