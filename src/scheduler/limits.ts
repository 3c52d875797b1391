/** Limits on time and on tenants: who may come, and who has been here too long. */
import { MillraceError } from '../base/errors.ts';
import type { Request } from './request.ts';

/** Unfinished requests of each tenant. */
export class TenantCounts {
  readonly #counts = new Map<string, number>();

  /** @throws TENANT_LIMIT */
  check(tenant: string, numMore: number, most: number): void {
    const count = this.#counts.get(tenant) ?? 0;
    if (count + numMore <= most) return;
    throw new MillraceError('TENANT_LIMIT', {
      message: 'Too many requests of this user are open.',
      expected: `at most ${most} at a time`,
      received: `${numMore} more with ${count} open`,
      hint: 'Wait for one to finish.',
    });
  }

  add(tenant: string, count: number): void {
    const sum = (this.#counts.get(tenant) ?? 0) + count;
    if (sum === 0) this.#counts.delete(tenant);
    else this.#counts.set(tenant, sum);
  }
}

/** Knows whose time is up: at the deadline of a request, or when it has waited for its first step too long. */
export class Expiry {
  readonly #maxQueueMs: number;
  /** Nobody's time is up before. */
  #nextMs = Infinity;

  constructor(maxQueueMs: number) {
    this.#maxQueueMs = maxQueueMs;
  }

  watch(request: Request): void {
    this.#nextMs = Math.min(this.#nextMs, this.#endMs(request));
  }

  /** Those whose time is up, each with its `error` set. Costs nothing until the first is due. */
  due(unfinished: () => readonly Request[], nowMs: number): readonly Request[] {
    if (nowMs < this.#nextMs) return [];
    this.#nextMs = Infinity;
    return unfinished().filter((request) => {
      const isDue = nowMs >= this.#endMs(request);
      if (isDue) request.error = this.#error(request, nowMs);
      else this.watch(request);
      return isDue;
    });
  }

  #endMs({ scheduledMs, arrivalMs, deadlineMs }: Request): number {
    return Math.min(scheduledMs === null ? arrivalMs + this.#maxQueueMs : Infinity, deadlineMs ?? Infinity);
  }

  #error({ deadlineMs, arrivalMs, numOutputTokens }: Request, nowMs: number): MillraceError {
    if (deadlineMs !== null && nowMs >= deadlineMs) {
      return new MillraceError('DEADLINE_EXCEEDED', {
        message: `The deadline of the request passed after ${Math.round(nowMs - arrivalMs)} ms, with ${numOutputTokens} tokens generated.`,
        param: 'deadline_ms',
      });
    }
    return new MillraceError('QUEUE_TIMEOUT', {
      message: 'The request waited too long to be started.',
      expected: `a start within ${this.#maxQueueMs} ms`,
      hint: 'Try again later, or raise --max-queue-ms.',
    });
  }
}
