import type { Request } from './request.ts';

/** Requests in a doubly linked list, each in at most one queue: O(1) at both ends and from the middle. */
export class RequestQueue {
  #first: Request | null = null;
  #last: Request | null = null;
  #size = 0;

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
}
