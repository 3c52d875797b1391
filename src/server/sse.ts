import type { ServerResponse } from 'node:http';

export interface SseOptions {
  /** A comment is sent when nothing else was for this long. */
  readonly pingIntervalMs: number;
  /** The connection is dropped when written data is not taken for this long. */
  readonly writeTimeoutMs: number;
}

/** Server-sent events over a raw response, one `data:` frame a JSON value. Spec: WHATWG HTML, "Server-sent events". */
export class SseStream {
  readonly #response: ServerResponse;
  readonly #options: SseOptions;
  #lastWriteMs = performance.now();
  #ping: NodeJS.Timeout | null = null;
  #draining: Promise<void> | null = null;

  constructor(response: ServerResponse, options: SseOptions) {
    this.#response = response;
    this.#options = options;
  }

  get isClosed(): boolean {
    return this.#response.destroyed || this.#response.writableEnded;
  }

  /** Sends the status line and the headers now, so that the client knows that it was admitted. */
  open(headers: Readonly<Record<string, number | string | string[] | undefined>>): void {
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) this.#response.setHeader(name, value);
    // No `Connection` header by hand: Node answers a client's own wish to close.
    this.#response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
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
    return this.#write(`data: ${JSON.stringify(value)}\n\n`);
  }

  /** Resolves when the client has caught up, or is gone. Several writers may wait at once. */
  drained(): Promise<void> {
    const response = this.#response;
    if (this.isClosed || !response.writableNeedDrain) return Promise.resolve();
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

  /** The terminator of OpenAI's streams, then the end of the response. */
  end(): void {
    this.#stopPing();
    if (this.isClosed) return;
    this.#response.end('data: [DONE]\n\n');
  }

  #write(frame: string): boolean {
    if (this.isClosed) return true;
    this.#lastWriteMs = performance.now();
    return this.#response.write(frame);
  }

  #pingIfSilent(): void {
    const silentMs = performance.now() - this.#lastWriteMs;
    if (silentMs >= this.#options.pingIntervalMs && !this.#response.writableNeedDrain) this.#write(': ping\n\n');
  }

  #stopPing(): void {
    if (this.#ping !== null) clearInterval(this.#ping);
    this.#ping = null;
  }
}
