/**
 * Frames on a socket: length and type, then the payload. Reads are asked for one at a time and bounded; a peer that sends too much, stops in the middle or
 * takes too long ends the connection with KV_TRANSFER_FAILED.
 */
import type { Socket } from 'node:net';
import { MillraceError } from '../../base/errors.ts';

export const frameTypes = { hello: 1, proof: 2, fetch: 3, offer: 4, block: 5, end: 6, error: 7 } as const;
export type FrameType = (typeof frameTypes)[keyof typeof frameTypes];

export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

const HEADER_BYTES = 5;

export class FrameSocket {
  readonly #socket: Socket;
  readonly #patienceMs: number;
  #chunks: Buffer[] = [];
  #numBytes = 0;
  #failure: MillraceError | null = null;
  #wake: (() => void) | null = null;

  constructor(socket: Socket, patienceMs: number) {
    this.#socket = socket;
    this.#patienceMs = patienceMs;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#numBytes += chunk.byteLength;
      socket.pause(); // no more than what was asked for is taken in
      this.#wake?.();
    });
    socket.on('error', (cause) => this.#fail(transferFailed(`the connection broke: ${cause.message}`, cause)));
    socket.on('close', () => this.#fail(transferFailed('the connection was closed before the transfer had ended')));
    socket.pause();
  }

  /** The next frame of at most so many bytes. @throws KV_TRANSFER_FAILED, and what the peer reports */
  async read(maxBytes: number): Promise<Frame> {
    const header = await this.#take(HEADER_BYTES);
    const length = header.readUInt32LE(0);
    const type = header.readUInt8(4);
    const limit = type === frameTypes.error ? 4096 : maxBytes;
    if (length > limit) throw transferFailed(`a frame of ${length} bytes came where at most ${limit} may`);
    const payload = await this.#take(length);
    if (type === frameTypes.error) throw transferFailed(`the other side says: ${payload.toString('utf8').replace(/[^\x20-\x7e]/g, '?')}`);
    return { type, payload };
  }

  /** As `read`, for a frame that must be of a type. */
  async expect(type: FrameType, maxBytes: number): Promise<Buffer> {
    const frame = await this.read(maxBytes);
    if (frame.type !== type) throw transferFailed(`a frame of type ${frame.type} came in the place of one of type ${type}`);
    return frame.payload;
  }

  /** Resolves when the socket wants more. */
  async write(type: FrameType, ...parts: readonly Uint8Array[]): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(
      parts.reduce((sum, part) => sum + part.byteLength, 0),
      0,
    );
    header.writeUInt8(type, 4);
    this.#socket.cork();
    this.#socket.write(header);
    let flows = true;
    for (const part of parts) flows = this.#socket.write(part);
    this.#socket.uncork();
    if (!flows) await this.#until(() => !this.#socket.writableNeedDrain, 'drain');
  }

  /** Tells the peer why nothing more comes, and hangs up. */
  refuse(message: string): void {
    const payload = Buffer.from(message.slice(0, 2000));
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(payload.byteLength, 0);
    header.writeUInt8(frameTypes.error, 4);
    this.#socket.end(Buffer.concat([header, payload]));
  }

  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async #take(count: number): Promise<Buffer> {
    while (this.#numBytes < count) {
      if (this.#failure !== null) throw this.#failure;
      this.#socket.resume();
      const seen = this.#numBytes;
      await this.#until(() => this.#numBytes > seen, null);
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks, this.#numBytes);
    this.#chunks = all.byteLength === count ? [] : [all.subarray(count)];
    this.#numBytes -= count;
    return all.subarray(0, count);
  }

  async #until(isMet: () => boolean, event: 'drain' | null): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => this.#fail(transferFailed(`nothing came for ${this.#patienceMs} ms`)), this.#patienceMs);
      const done = () => {
        clearTimeout(timer);
        if (event !== null) this.#socket.off(event, done);
        this.#wake = null;
        resolve();
      };
      this.#wake = done;
      if (event !== null) this.#socket.on(event, done);
      if (isMet() || this.#failure !== null) done();
    });
    if (this.#failure !== null && !isMet()) throw this.#failure;
  }

  #fail(reason: MillraceError): void {
    this.#failure ??= reason;
    this.#wake?.();
    this.#socket.destroy();
  }
}

export function transferFailed(complaint: string, cause?: unknown): MillraceError {
  return new MillraceError('KV_TRANSFER_FAILED', {
    message: `Blocks of KV could not be transferred: ${complaint}.`,
    hint: 'The prompt can be computed here instead.',
    cause,
  });
}
