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

/** When a request is to be ended if nothing changes: at its deadline, or when it has waited for its first step too long. */
export function expiryMs(request: Request, maxQueueMs: number): number {
  const queueEnd = request.scheduledMs === null ? request.arrivalMs + maxQueueMs : Infinity;
  return Math.min(queueEnd, request.deadlineMs ?? Infinity);
}

export function expiryError(request: Request, nowMs: number, maxQueueMs: number): MillraceError {
  if (request.deadlineMs !== null && nowMs >= request.deadlineMs) {
    return new MillraceError('DEADLINE_EXCEEDED', {
      message: `The deadline of the request passed after ${Math.round(nowMs - request.arrivalMs)} ms, with ${request.numOutputTokens} tokens generated.`,
      param: 'deadline_ms',
    });
  }
  return new MillraceError('QUEUE_TIMEOUT', {
    message: 'The request waited too long to be started.',
    expected: `a start within ${maxQueueMs} ms`,
    hint: 'Try again later, or raise --max-queue-ms.',
  });
}
