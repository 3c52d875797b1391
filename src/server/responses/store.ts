import { MillraceError } from '../../base/errors.ts';
import type { InputItem } from './schemas.ts';

export interface ResponseStoreLimits {
  readonly count: number;
  /** Of JSON, in all. */
  readonly bytes: number;
  /** How long a response is kept behind its end. */
  readonly ttlMs: number;
}

/** A response as it is told to whoever asks; `status` says whether it still changes. */
export interface ResponseBody {
  readonly id: string;
  readonly status: 'queued' | 'in_progress' | 'completed' | 'incomplete' | 'failed' | 'cancelled';
  readonly output: readonly object[];
  readonly [field: string]: unknown;
}

export interface StoredResponse {
  readonly id: string;
  readonly tenant: string;
  readonly isBackground: boolean;
  /** What the request itself gave. */
  readonly input: readonly InputItem[];
  /** All before the output: the conversation of earlier responses, then `input`. */
  readonly before: readonly InputItem[];
  body: ResponseBody;
}

interface Entry {
  readonly response: StoredResponse;
  bytes: number;
  expiresMs: number;
}

const isOpen = ({ body }: StoredResponse) => body.status === 'queued' || body.status === 'in_progress';

/** Responses in memory, bounded in count, bytes and time; the oldest that have ended go first. */
export class ResponseStore {
  readonly #entries = new Map<string, Entry>();
  readonly #limits: ResponseStoreLimits;
  readonly #now: () => number;
  #bytes = 0;

  constructor(limits: ResponseStoreLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
  }

  get count(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @throws QUEUE_FULL when nothing but open responses is held, and no more may be */
  add(response: StoredResponse): void {
    this.#expire();
    while (this.#entries.size >= this.#limits.count) {
      if (!this.#dropOldest())
        throw new MillraceError('QUEUE_FULL', { message: 'Too many responses are open.', expected: `at most ${this.#limits.count}` });
    }
    this.#entries.set(response.id, { response, bytes: 0, expiresMs: 0 });
    this.#measure(response.id);
  }

  /** Takes the response as it is now. Without effect on one that was deleted. */
  update(id: string, body: ResponseBody): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.response.body = body;
    this.#measure(id);
  }

  /**
   * @param param field that named it, if one did
   * @throws RESPONSE_UNKNOWN also when it is another tenant's
   */
  find(id: string, tenant: string, param?: string): StoredResponse {
    this.#expire();
    const response = this.#entries.get(id)?.response;
    if (response !== undefined && response.tenant === tenant) return response;
    throw new MillraceError('RESPONSE_UNKNOWN', {
      message: `The response ${JSON.stringify(id.slice(0, 80))} is not stored here (any more).`,
      hint: 'Responses are kept in memory, unless "store" is false, within --response-ttl, --max-responses and --max-response-bytes.',
      ...(param === undefined ? {} : { param }),
    });
  }

  /**
   * An item of a stored conversation, given or answered.
   * @throws RESPONSE_UNKNOWN also when it is another tenant's
   */
  findItem(id: string, tenant: string, param: string): InputItem {
    this.#expire();
    for (const { response } of this.#entries.values()) {
      if (response.tenant !== tenant) continue;
      const item = [...response.before, ...(response.body.output as readonly InputItem[])].find((each) => each.id === id);
      if (item !== undefined) return item;
    }
    throw new MillraceError('RESPONSE_UNKNOWN', {
      message: `No stored response has an item ${JSON.stringify(id.slice(0, 80))} (any more).`,
      hint: 'Responses are kept in memory, unless "store" is false, within --response-ttl, --max-responses and --max-response-bytes.',
      param,
    });
  }

  delete(id: string): void {
    this.#bytes -= this.#entries.get(id)?.bytes ?? 0;
    this.#entries.delete(id);
  }

  #measure(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    const { before, body } = entry.response;
    const bytes = JSON.stringify([before, body]).length;
    this.#bytes += bytes - entry.bytes;
    entry.bytes = bytes;
    entry.expiresMs = isOpen(entry.response) ? Infinity : this.#now() + this.#limits.ttlMs;
    while (this.#bytes > this.#limits.bytes && this.#dropOldest()) {
      // the newest goes too if it alone is too large
    }
  }

  #dropOldest(): boolean {
    for (const [id, { response }] of this.#entries) {
      if (isOpen(response)) continue;
      this.delete(id);
      return true;
    }
    return false;
  }

  #expire(): void {
    const now = this.#now();
    for (const [id, { expiresMs }] of this.#entries) if (expiresMs <= now) this.delete(id);
  }
}
