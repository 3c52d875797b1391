/** What one step computes: the plain value that `Scheduler.schedule` returns (idea 2). */
import type { Request } from './request.ts';
import type { LoadOrder } from './starter.ts';

/** Logit rows that a step has for places of prompts, beyond one for each running request. */
export const PROMPT_LOGIT_ROWS = 32;

/** Rows in the order in which they are laid out. Arrays may be longer than their counts; the scheduler reuses them after `commit`. */
export interface ScheduledBatch {
  readonly step: number;
  readonly numRows: number;
  readonly requests: readonly Request[];
  /** `[rows]` tokens to compute for each row. */
  readonly numNewTokens: Int32Array;
  /** `[rows]` index of the first of them. */
  readonly firstToken: Int32Array;
  /** `[rows]` logit row of the step before whose sample is the row's last token, or -1 when all its ids are known. */
  readonly pendingRow: Int32Array;
  /** `[rows]` logit rows of each row: 0 while it is behind, else 1 + its draft tokens, which are its last ones. */
  readonly numLogitRows: Int32Array;
  readonly totalTokens: number;
  readonly totalLogitRows: number;
  /** `[rows]` of each row's first tokens, how many want logits of their own (`Request.wantsPromptRows`). They stand behind all other logit rows. */
  readonly numPromptRows: Int32Array;
  readonly totalPromptRows: number;
  /** `[numCopies, 4]`: group, source block, destination block, tokens; made in order before the step. */
  readonly copies: Int32Array;
  readonly numCopies: number;
  /** Requests that were put back to waiting while this step was made. */
  readonly preempted: readonly Request[];
  /** Requests that can never go on; their `error` says why. */
  readonly failed: readonly Request[];
  /** What to fetch from tiers, once the step has been handed over; there may be some without rows. */
  readonly loads: readonly LoadOrder[];
}

/** What a step did to each row: how many tokens it gained, in `commit`'s order of rows. */
export interface CommittedBatch {
  /** `[rows]` tokens appended: 0 or more. */
  readonly numAppended: Int32Array;
}

/** A batch as it can be logged, recorded or sent: no object graph behind it. */
export function describeBatch(batch: ScheduledBatch): {
  step: number;
  rows: { id: string; choice: number; firstToken: number; numNewTokens: number; numLogitRows: number }[];
  copies: number[][];
  preempted: string[];
  failed: string[];
} {
  const rows = batch.requests.slice(0, batch.numRows).map((request, r) => ({
    id: request.id,
    choice: request.choice,
    firstToken: batch.firstToken[r],
    numNewTokens: batch.numNewTokens[r],
    numLogitRows: batch.numLogitRows[r],
  }));
  const copies = Array.from({ length: batch.numCopies }, (_, i) => [...batch.copies.subarray(4 * i, 4 * i + 4)]);
  return { step: batch.step, rows, copies, preempted: batch.preempted.map((r) => r.id), failed: batch.failed.map((r) => r.id) };
}

/** Of the next tokens of a request, how many want logits: all of the prompt but the last, whose logits are sampled anyway. */
function promptRows(request: Request, numNewTokens: number): number {
  if (!request.wantsPromptRows) return 0;
  return Math.max(0, Math.min(numNewTokens, request.numPromptTokens - 1 - request.numScheduledTokens));
}

/** The one implementation: filled by the scheduler in place. */
export class ReusableBatch implements ScheduledBatch {
  step = 0;
  numRows = 0;
  requests: Request[] = [];
  numNewTokens: Int32Array;
  firstToken: Int32Array;
  pendingRow: Int32Array;
  numLogitRows: Int32Array;
  numAppended: Int32Array;
  totalTokens = 0;
  totalLogitRows = 0;
  numPromptRows: Int32Array;
  totalPromptRows = 0;
  copies = new Int32Array(64);
  numCopies = 0;
  preempted: Request[] = [];
  failed: Request[] = [];
  loads: LoadOrder[] = [];

  constructor(maxRows: number) {
    this.numNewTokens = new Int32Array(maxRows);
    this.firstToken = new Int32Array(maxRows);
    this.pendingRow = new Int32Array(maxRows);
    this.numLogitRows = new Int32Array(maxRows);
    this.numPromptRows = new Int32Array(maxRows);
    this.numAppended = new Int32Array(maxRows);
  }

  clear(step: number): void {
    this.step = step;
    this.clearRows();
    this.numCopies = 0;
    this.preempted.length = 0;
    this.failed.length = 0;
    this.loads.length = 0;
  }

  clearRows(): void {
    this.numRows = 0;
    this.requests.length = 0;
    this.totalTokens = 0;
    this.totalLogitRows = 0;
    this.totalPromptRows = 0;
  }

  /** Tokens that a request may compute in this step as far as logit rows go. */
  roomFor(request: Request): number {
    const left = PROMPT_LOGIT_ROWS - this.totalPromptRows;
    return promptRows(request, Infinity) <= left ? Infinity : left;
  }

  add(request: Request, numNewTokens: number): void {
    const row = this.numRows++;
    this.requests.push(request);
    const isCaughtUp = numNewTokens === request.numBehind;
    this.firstToken[row] = request.numScheduledTokens;
    this.pendingRow[row] = request.numPendingTokens > 0 ? request.pendingLogitRow : -1;
    this.numNewTokens[row] = numNewTokens;
    this.numLogitRows[row] = isCaughtUp ? 1 + request.numDraftTokens : 0;
    this.totalTokens += numNewTokens;
    this.totalLogitRows += this.numLogitRows[row];
    this.numPromptRows[row] = promptRows(request, numNewTokens);
    this.totalPromptRows += this.numPromptRows[row];
  }

  /** Takes out the last row again. */
  dropLast(): void {
    const row = --this.numRows;
    this.requests.pop();
    this.totalTokens -= this.numNewTokens[row];
    this.totalLogitRows -= this.numLogitRows[row];
    this.totalPromptRows -= this.numPromptRows[row];
  }

  /** Books the rows as in flight: from now on their requests are ahead by this step. */
  launch(): void {
    let logitRow = 0;
    for (let row = 0; row < this.numRows; row++) {
      const request = this.requests[row];
      request.numInFlightTokens += this.numNewTokens[row];
      if (this.numLogitRows[row] > 0) {
        request.numPendingTokens++;
        request.pendingLogitRow = logitRow;
        logitRow += this.numLogitRows[row];
      }
    }
  }

  /** The step has ended, one way or another: takes back what `launch` booked for a row. */
  land(row: number): void {
    const request = this.requests[row];
    if (request.status === 'finished') return;
    request.numInFlightTokens -= this.numNewTokens[row];
    if (this.numLogitRows[row] > 0) request.numPendingTokens--;
  }
}
