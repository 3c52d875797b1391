import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { MillraceError } from '../base/errors.ts';

/** Ids come back in a header, so they are visible ASCII. */
const acceptableId = /^[\x21-\x7e]{1,128}$/;

/** The client's `x-request-id`, or a drawn one. */
export function requestIdOf(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && acceptableId.test(given) ? given : drawId();
}

function drawId(): string {
  return randomUUID().replaceAll('-', '');
}

/** One request and its answer while both are open: its id, and the signal that its owner left. */
export class Exchange {
  readonly #abort = new AbortController();
  /** Who asks, by API key; '' when none is wanted. */
  tenant = '';
  #id: string;
  #idIsOurs: boolean;

  constructor(request: IncomingMessage, response: ServerResponse, id: string) {
    this.#id = id;
    this.#idIsOurs = request.headers['x-request-id'] !== id;
    // Each prompt of a request listens to the same signal.
    setMaxListeners(0, this.#abort.signal);
    response.once('close', () => {
      if (!response.writableFinished) this.abort(new MillraceError('REQUEST_ABORTED', 'The client closed the connection.'));
    });
  }

  get id(): string {
    return this.#id;
  }

  /** Aborted when the connection closes before the answer is complete, or when the server stops. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  abort(reason: MillraceError): void {
    if (!this.#abort.signal.aborted) this.#abort.abort(reason);
  }

  /** Takes the id that the body names, unless a header named one. */
  rename(id: string | null | undefined): void {
    if (id === undefined || id === null || !this.#idIsOurs) return;
    if (!acceptableId.test(id)) {
      throw new MillraceError('REQUEST_INVALID', {
        message: 'The field request_id cannot be used.',
        expected: '1 to 128 visible ASCII characters',
        param: 'request_id',
      });
    }
    this.#id = id;
    this.#idIsOurs = false;
  }

  /** A name for one generation of this request, unique in the engine even when clients repeat their ids. */
  generationId(prefix: string, index: number, count: number): string {
    const name = count === 1 ? `${prefix}-${this.#id}` : `${prefix}-${this.#id}-${index}`;
    return this.#idIsOurs ? name : `${name}-${drawId().slice(0, 8)}`;
  }
}

/** The exchanges that are open now, so that the server can wait for them, or stop them. */
export class OpenExchanges {
  readonly #open = new Set<Exchange>();
  #onEmpty: (() => void) | null = null;

  get count(): number {
    return this.#open.size;
  }

  add(exchange: Exchange, response: ServerResponse): void {
    this.#open.add(exchange);
    response.once('close', () => {
      this.#open.delete(exchange);
      if (this.#open.size === 0) this.#onEmpty?.();
    });
  }

  /** Resolves true when none is left, false after `timeoutMs`. */
  drained(timeoutMs: number): Promise<boolean> {
    if (this.#open.size === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (isEmpty: boolean) => {
        clearTimeout(timer);
        this.#onEmpty = null;
        resolve(isEmpty);
      };
      const timer = setTimeout(() => finish(false), timeoutMs);
      this.#onEmpty = () => finish(true);
    });
  }

  abortAll(reason: MillraceError): void {
    for (const exchange of this.#open) exchange.abort(reason);
  }
}
