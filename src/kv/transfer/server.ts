/** Gives blocks of computed prompts to other processes over TCP. On a loopback address unless there is a secret. */
import { once } from 'node:events';
import { createServer, isIP, type Server, type Socket } from 'node:net';
import { MillraceError, toMillraceError } from '../../base/errors.ts';
import { encodeBlockFile } from '../tiers/block-file.ts';
import type { StoredBlock } from '../tiers/tier.ts';
import { FrameSocket, frameTypes, transferFailed } from './frames.ts';
import { shakeHands } from './handshake.ts';

/** Blocks of the beginning of a prompt, whole ones, in order. */
export interface PrefixBlocks {
  /** Names the class in which bytes of KV are equal: model, layout, number type, instruction set. */
  readonly kvClass: string;
  readonly blockSize: number;
  readonly blocks: readonly StoredBlock[];
}

/** What a transfer asks for. */
export interface PrefixRequest {
  readonly tokenIds: Int32Array;
  /** As `cache_salt`. */
  readonly cacheSalt: string;
}

export interface TransferServerOptions {
  /** What this process has computed of a prompt. */
  export(request: PrefixRequest): Promise<PrefixBlocks>;
  readonly kvClass: string;
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** Whoever fetches must know it. Needed on any address that is not a loopback one. */
  readonly secret?: string;
  readonly maxConnections?: number;
  readonly maxPromptTokens?: number;
  /** A peer that is silent for so long is given up. */
  readonly patienceMs?: number;
}

const MAX_CONNECTIONS = 16;
const MAX_PROMPT_TOKENS = 1 << 22;
const PATIENCE_MS = 30_000;

export class TransferServer {
  readonly #options: TransferServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(options: TransferServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => void this.#serve(socket));
    this.#server.maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
  }

  /** @throws CONFIG_INVALID, PORT_IN_USE */
  static async listen(options: TransferServerOptions): Promise<TransferServer> {
    const { host = '127.0.0.1', port = 0, secret = '' } = options;
    if (secret === '' && !isLoopback(host)) {
      throw new MillraceError('CONFIG_INVALID', {
        message: 'A KV server on an address that others reach needs a secret: blocks tell what was asked.',
        expected: 'a secret, or a loopback address',
        received: host,
      });
    }
    const transfer = new TransferServer(options);
    try {
      transfer.#server.listen(port, host);
      await once(transfer.#server, 'listening');
    } catch (cause) {
      const isTaken = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE';
      const message = isTaken ? `Port ${port} is taken.` : `The KV server cannot listen on ${host}: ${(cause as Error).message}`;
      throw new MillraceError(isTaken ? 'PORT_IN_USE' : 'CONFIG_INVALID', { message, cause });
    }
    return transfer;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get numConnections(): number {
    return this.#sockets.size;
  }

  /** Hangs up on everybody. Idempotent. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    const frames = new FrameSocket(socket, this.#options.patienceMs ?? PATIENCE_MS);
    try {
      await shakeHands(frames, 'server', this.#options.secret ?? '');
      await this.#answer(frames);
      frames.end();
    } catch (thrown) {
      // what went wrong inside stays inside: the code says enough
      const { code, message } = toMillraceError(thrown);
      frames.refuse(code === 'KV_TRANSFER_FAILED' ? message : code);
    }
  }

  async #answer(frames: FrameSocket): Promise<void> {
    const maxTokens = this.#options.maxPromptTokens ?? MAX_PROMPT_TOKENS;
    const request = readFetch(await frames.expect(frameTypes.fetch, 4 * maxTokens + 8192), this.#options.kvClass);
    const { blockSize, blocks } = await this.#options.export(request);
    await frames.write(frameTypes.offer, Buffer.from(JSON.stringify({ blockSize, numBlocks: blocks.length })));
    for (const [i, block] of blocks.entries()) await frames.write(frameTypes.block, ...(await encodeBlockFile(`block ${i}`, block)));
    await frames.write(frameTypes.end);
  }
}

/** Class and salt as JSON behind its length, then the ids. */
export function writeFetch(kvClass: string, { tokenIds, cacheSalt }: PrefixRequest): Uint8Array[] {
  const head = Buffer.from(JSON.stringify({ kvClass, cacheSalt }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.byteLength);
  return [length, head, new Uint8Array(tokenIds.buffer, tokenIds.byteOffset, tokenIds.byteLength)];
}

function readFetch(payload: Buffer, kvClass: string): PrefixRequest {
  const headBytes = payload.byteLength < 4 ? -1 : payload.readUInt32LE(0);
  const idBytes = payload.byteLength - 4 - headBytes;
  if (headBytes < 0 || headBytes > 8000 || idBytes < 0 || idBytes % 4 !== 0) throw transferFailed('the request is malformed');
  let head: unknown;
  try {
    head = JSON.parse(payload.toString('utf8', 4, 4 + headBytes));
  } catch {
    throw transferFailed('the request is malformed');
  }
  const fields = typeof head === 'object' && head !== null ? (head as Record<string, unknown>) : {};
  if (typeof fields.cacheSalt !== 'string') throw transferFailed('the request is malformed');
  if (fields.kvClass !== kvClass) {
    throw transferFailed('the two sides hold KV of different models, layouts or instruction sets, which do not understand each other');
  }
  return { cacheSalt: fields.cacheSalt, tokenIds: new Int32Array(new Uint8Array(payload.subarray(4 + headBytes)).buffer) };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}
