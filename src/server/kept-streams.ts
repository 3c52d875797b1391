import { randomUUID } from 'node:crypto';
import { MillraceError } from '../base/errors.ts';
import type { Framing, SseStream } from './sse.ts';

type Reader = { next: number };
type Headers = Readonly<Record<string, number | string | string[] | undefined>>;

export interface KeptStreamLimits {
  /** Bytes of frames that one stream holds for those who come back. */
  readonly bytes: number;
  /** Streams held at once, ended ones included. */
  readonly count: number;
  /** How long a stream waits for a reader to come back, while it grows and after its end. */
  readonly windowMs: number;
}

/** What a stream that outlives its connection needs to know. */
export interface KeptStreamSetup {
  readonly id: string;
  readonly tenant: string;
  readonly framing: Framing;
  /** False: it goes on for as long as it takes, whether somebody reads or not. */
  readonly needsReader: boolean;
}

/**
 * The frames of one answer, numbered from 0, apart from any connection: readers come, leave and come back. It holds the newest `bytes` of
 * frames; a reader that is there is waited for before a frame that it lacks is dropped, one that left is not.
 */
export class KeptStream {
  readonly id: string;
  readonly tenant: string;
  readonly #setup: KeptStreamSetup;
  readonly #limits: KeptStreamLimits;
  readonly #frames = new Map<number, string>();
  readonly #readers = new Set<Reader>();
  readonly #abort = new AbortController();
  readonly #onGone: () => void;
  #first = 0;
  #next = 0;
  #bytes = 0;
  #isEnded = false;
  #timer: NodeJS.Timeout | null = null;
  #wake = deferred();

  /** @param onGone called once, when nobody may come back any more */
  constructor(setup: KeptStreamSetup, limits: KeptStreamLimits, onGone: () => void) {
    this.id = setup.id;
    this.tenant = setup.tenant;
    this.#setup = setup;
    this.#limits = limits;
    this.#onGone = onGone;
    this.#waitForReader();
  }

  /** Aborted when nobody came back in time, or by `abort`. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** A kept stream has no connection that could close. */
  get isClosed(): boolean {
    return false;
  }

  abort(reason: MillraceError): void {
    if (this.#isEnded) return;
    this.#abort.abort(reason);
    this.#notify();
  }

  /** @returns false when a reader is behind by all that may be held: wait for `drained()` */
  send(value: object): boolean {
    const { framing, id } = this.#setup;
    const frame = framing.identified?.(`${id}-${this.#next}`, value) ?? framing.frame(value);
    this.#frames.set(this.#next++, frame);
    this.#bytes += frame.length;
    this.#notify();
    return this.#trim();
  }

  async drained(): Promise<void> {
    while (!this.#trim() && !this.signal.aborted) await this.#wake.promise;
  }

  end(): void {
    this.#isEnded = true;
    this.#notify();
    if (this.#readers.size === 0 || !this.#setup.needsReader) this.#waitForReader();
  }

  /**
   * @param after number of the last event that the client has; -1 for none
   * @throws STREAM_POSITION_LOST
   */
  checkPosition(after: number): void {
    if (after + 1 < this.#first || after >= this.#next) throw this.#lost(after);
  }

  /** Sends the frames behind number `after`, which was checked, then those that come, until the end or until the client leaves. */
  async attach(sse: SseStream, headers: Headers, after: number): Promise<void> {
    const reader: Reader = { next: after + 1 };
    this.#readers.add(reader);
    if (this.#timer !== null) clearTimeout(this.#timer);
    sse.closed.then(() => this.#notify());
    sse.open({ ...headers, 'x-stream-id': this.id });
    try {
      await this.#feed(reader, sse);
    } finally {
      this.#readers.delete(reader);
      this.#notify();
      if (this.#readers.size === 0) this.#waitForReader();
    }
  }

  async #feed(reader: Reader, sse: SseStream): Promise<void> {
    while (!sse.isClosed) {
      const frame = this.#frames.get(reader.next);
      if (frame !== undefined) {
        reader.next++;
        if (!sse.sendFrame(frame)) await sse.drained();
        this.#notify();
      } else if (this.#isEnded) {
        sse.end();
        return;
      } else await this.#wake.promise;
    }
  }

  /** Drops the oldest frames down to the limit. @returns whether that succeeded */
  #trim(): boolean {
    while (this.#bytes > this.#limits.bytes && this.#first < this.#next - 1) {
      for (const { next } of this.#readers) if (next <= this.#first) return false;
      this.#bytes -= this.#frames.get(this.#first)?.length ?? 0;
      this.#frames.delete(this.#first++);
    }
    return true;
  }

  #notify(): void {
    this.#wake.resolve();
    this.#wake = deferred();
  }

  #waitForReader(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    if (!this.#setup.needsReader && !this.#isEnded) return;
    this.#timer = setTimeout(() => {
      this.abort(new MillraceError('REQUEST_ABORTED', 'The client left and did not come back in time.'));
      this.#onGone();
    }, this.#limits.windowMs).unref();
  }

  #lost(after: number): MillraceError {
    return new MillraceError('STREAM_POSITION_LOST', {
      message: `The stream cannot be taken up behind event ${after}.`,
      expected: `a number from ${this.#first - 1} to ${this.#next - 1}`,
      received: String(after),
      hint: 'Send the request again.',
    });
  }
}

interface Deferred {
  readonly promise: Promise<void>;
  resolve(): void;
}

function deferred(): Deferred {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

const eventId = /^(.{1,200})-(\d{1,10})$/;

/** Streams that a client may come back to. */
export class KeptStreams {
  readonly #streams = new Map<string, KeptStream>();
  readonly #limits: KeptStreamLimits;

  constructor(limits: KeptStreamLimits) {
    this.#limits = limits;
  }

  get count(): number {
    return this.#streams.size;
  }

  /** @throws QUEUE_FULL when as many are held as may be, and none of them has ended */
  open(setup: Omit<KeptStreamSetup, 'id'> & { readonly id?: string }): KeptStream {
    if (this.#streams.size >= this.#limits.count) this.#dropOldest();
    const id = setup.id ?? `stream_${randomUUID().replaceAll('-', '')}`;
    const stream = new KeptStream({ ...setup, id }, this.#limits, () => this.#streams.delete(id));
    this.#streams.set(id, stream);
    return stream;
  }

  /**
   * The stream of that id, if it is the tenant's.
   * @throws STREAM_UNKNOWN
   */
  find(id: string, tenant: string): KeptStream {
    const stream = this.#streams.get(id);
    if (stream !== undefined && stream.tenant === tenant) return stream;
    throw new MillraceError('STREAM_UNKNOWN', {
      message: 'There is no stream of that id to take up.',
      received: JSON.stringify(id.slice(0, 80)),
      hint: 'Streams are kept for a while (--resume-window) when the request asks for it with the header "x-stream-resume: 1".',
    });
  }

  /** @throws STREAM_UNKNOWN also for what is no event id of ours */
  findEvent(id: string, tenant: string): { readonly stream: KeptStream; readonly after: number } {
    const [, streamId = id, number = '0'] = eventId.exec(id) ?? [];
    return { stream: this.find(streamId, tenant), after: Number(number) };
  }

  delete(id: string): void {
    this.#streams.get(id)?.abort(new MillraceError('REQUEST_ABORTED', 'The response was deleted.'));
    this.#streams.delete(id);
  }

  abortAll(reason: MillraceError): void {
    for (const stream of this.#streams.values()) stream.abort(reason);
  }

  /** Those that still grow. */
  get numRunning(): number {
    let count = 0;
    for (const { isEnded } of this.#streams.values()) if (!isEnded) count++;
    return count;
  }

  #dropOldest(): void {
    for (const [id, { isEnded }] of this.#streams) {
      if (isEnded) {
        this.#streams.delete(id);
        return;
      }
    }
    throw new MillraceError('QUEUE_FULL', {
      message: 'Too many streams that may be taken up again are open.',
      expected: `at most ${this.#limits.count}`,
    });
  }
}
