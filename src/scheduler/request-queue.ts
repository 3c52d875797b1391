import { compareRanks } from './policies/policy.ts';
import type { Request } from './request.ts';

/** Requests in a doubly linked list, each in at most one queue: O(1) at both ends and from the middle. */
export class RequestQueue {
  #first: Request | null = null;
  #last: Request | null = null;
  #size = 0;
  readonly #sorting: Request[] = [];

  get first(): Request | null {
    return this.#first;
  }

  get size(): number {
    return this.#size;
  }

  /** Puts a request before another one, or at the end. */
  insertBefore(next: Request | null, request: Request): void {
    const previous = next === null ? this.#last : next.previous;
    request.previous = previous;
    request.next = next;
    if (previous === null) this.#first = request;
    else previous.next = request;
    if (next === null) this.#last = request;
    else next.previous = request;
    this.#size++;
  }

  remove(request: Request): void {
    if (request.previous === null) this.#first = request.next;
    else request.previous.next = request.next;
    if (request.next === null) this.#last = request.previous;
    else request.next.previous = request.previous;
    request.previous = null;
    request.next = null;
    this.#size--;
  }

  get last(): Request | null {
    return this.#last;
  }

  /** Puts a request in its place by rank, looking from the end. */
  insertByRank(request: Request): void {
    let before: Request | null = null;
    for (let at = this.#last; at !== null && compareRanks(request, at) < 0; at = at.previous) before = at;
    this.insertBefore(before, request);
  }

  /** Puts all in order again after their ranks have changed. */
  sort(): void {
    if (this.#isSorted()) return;
    const all = this.#sorting;
    for (let at = this.#first; at !== null; at = at.next) all.push(at);
    all.sort(compareRanks);
    this.#first = all[0] ?? null;
    this.#last = all[all.length - 1] ?? null;
    for (let i = 0; i < all.length; i++) {
      all[i].previous = all[i - 1] ?? null;
      all[i].next = all[i + 1] ?? null;
    }
    all.length = 0;
  }

  #isSorted(): boolean {
    for (let at = this.#first; at !== null && at.next !== null; at = at.next) if (compareRanks(at, at.next) > 0) return false;
    return true;
  }
}
