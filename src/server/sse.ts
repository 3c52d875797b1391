import type { ServerResponse } from 'node:http';

export interface SseOptions {
  /** A comment is sent when nothing else was for this long. */
  readonly pingIntervalMs: number;
  /** The connection is dropped when written data is not taken for this long. */
  readonly writeTimeoutMs: number;
}

/** How the values of a stream are put on the wire. */
export interface Framing {
  readonly contentType: string;
  frame(value: object): string;
  /** The same with an id that a client may come back to; absent where frames cannot have one. */
  identified?(id: string, value: object): string;
  /** Keeps a silent stream open; null where the format has no such thing. */
  readonly ping: string | null;
  /** Behind the last frame. */
  readonly end: string;
}

/** Server-sent events as OpenAI uses them. Spec: WHATWG HTML, "Server-sent events". */
export const eventFraming: Framing = {
  contentType: 'text/event-stream; charset=utf-8',
  frame: (value) => `data: ${JSON.stringify(value)}\n\n`,
  identified: (id, value) => `id: ${id}\n${eventFraming.frame(value)}`,
  ping: ': ping\n\n',
  end: 'data: [DONE]\n\n',
};

/** A stream of JSON values over a raw response. */
export class SseStream {
  readonly #response: ServerResponse;
  readonly #framing: Framing;
  readonly #options: SseOptions;
  #lastWriteMs = performance.now();
  #ping: NodeJS.Timeout | null = null;
  #draining: Promise<void> | null = null;
  // Not `writableNeedDrain`: answers within the process (millrace/fetch) have no socket to ask.
  #isFull = false;
  /** Resolves when the connection is over, whoever ended it. */
  readonly closed: Promise<void>;

  constructor(response: ServerResponse, options: SseOptions, framing: Framing = eventFraming) {
    this.#response = response;
    this.#framing = framing;
    this.#options = options;
    this.closed = new Promise((resolve) => response.once('close', resolve));
    response.on('drain', () => {
      this.#isFull = false;
    });
  }

  get isClosed(): boolean {
    return this.#response.destroyed || this.#response.writableEnded;
  }

  /** Sends the status line and the headers now, so that the client knows that it was admitted. */
  open(headers: Readonly<Record<string, number | string | string[] | undefined>>): void {
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) this.#response.setHeader(name, value);
    // No `Connection` header by hand: Node answers a client's own wish to close.
    this.#response.writeHead(200, {
      'content-type': this.#framing.contentType,
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
    this.#response.flushHeaders();
    const { pingIntervalMs } = this.#options;
    this.#ping = setInterval(() => this.#pingIfSilent(), Math.max(10, pingIntervalMs / 4)).unref();
    this.#response.once('close', () => this.#stopPing());
  }

  /** @returns false when the client is behind: wait for `drained()` before sending more. True on a closed connection, which swallows all. */
  send(value: object): boolean {
    return this.#write(this.#framing.frame(value));
  }

  /** As `send`, of what was framed before. */
  sendFrame(frame: string): boolean {
    return this.#write(frame);
  }

  /** Resolves when the client has caught up, or is gone. Several writers may wait at once. */
  drained(): Promise<void> {
    const response = this.#response;
    if (this.isClosed || !this.#isFull) return Promise.resolve();
    this.#draining ??= new Promise((resolve) => {
      const timer = setTimeout(() => response.destroy(), this.#options.writeTimeoutMs);
      const finish = () => {
        clearTimeout(timer);
        response.off('drain', finish);
        response.off('close', finish);
        this.#draining = null;
        resolve();
      };
      response.on('drain', finish);
      response.on('close', finish);
    });
    return this.#draining;
  }

  /** The terminator, then the end of the response. */
  end(): void {
    this.#stopPing();
    if (this.isClosed) return;
    this.#response.end(this.#framing.end);
  }

  #write(frame: string): boolean {
    if (this.isClosed) return true;
    this.#lastWriteMs = performance.now();
    this.#isFull = !this.#response.write(frame);
    return !this.#isFull;
  }

  #pingIfSilent(): void {
    const { ping } = this.#framing;
    const silentMs = performance.now() - this.#lastWriteMs;
    if (ping !== null && silentMs >= this.#options.pingIntervalMs && !this.#isFull) this.#write(ping);
  }

  #stopPing(): void {
    if (this.#ping !== null) clearInterval(this.#ping);
    this.#ping = null;
  }
}
