/** Fetches blocks of a prompt that another process has computed. */
import { connect } from 'node:net';
import { decodeBlockFile, HEADER_BYTES } from '../tiers/block-file.ts';
import type { StoredBlock } from '../tiers/tier.ts';
import { FrameSocket, frameTypes, transferFailed } from './frames.ts';
import { shakeHands } from './handshake.ts';
import { type PrefixBlocks, type PrefixRequest, writeFetch } from './server.ts';

export interface FetchOptions {
  /** Default: 127.0.0.1. */
  readonly host?: string;
  readonly port: number;
  readonly secret?: string;
  /** Class of the blocks that this process understands, and their size. */
  readonly kvClass: string;
  readonly blockSize: number;
  /** Bytes of a block of tokens at most, and of all together. */
  readonly maxBlockBytes: number;
  readonly maxBytes?: number;
  /** Default: 30 seconds. */
  readonly patienceMs?: number;
  readonly signal?: AbortSignal;
}

const MAX_BYTES = 4 * 2 ** 30;
const PATIENCE_MS = 30_000;

/** All whole blocks of a prompt that the other side has, or an error: nothing half. @throws KV_TRANSFER_FAILED */
export async function fetchPrefix(request: PrefixRequest, options: FetchOptions): Promise<PrefixBlocks> {
  const { host = '127.0.0.1', port, secret = '', kvClass, blockSize, signal, patienceMs = PATIENCE_MS } = options;
  const socket = connect({ host, port });
  const frames = new FrameSocket(socket, patienceMs);
  const onAbort = () => frames.destroy();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    if (signal?.aborted === true) throw transferFailed('it was aborted');
    await shakeHands(frames, 'client', secret);
    await frames.write(frameTypes.fetch, ...writeFetch(kvClass, request));
    return { kvClass, blockSize, blocks: await receive(frames, request, options) };
  } catch (thrown) {
    throw signal?.aborted === true ? transferFailed('it was aborted', thrown) : thrown;
  } finally {
    signal?.removeEventListener('abort', onAbort);
    frames.destroy();
  }
}

async function receive(frames: FrameSocket, { tokenIds }: PrefixRequest, options: FetchOptions): Promise<StoredBlock[]> {
  const { blockSize, maxBlockBytes, maxBytes = MAX_BYTES } = options;
  const numBlocks = readOffer(await frames.expect(frameTypes.offer, 1024), blockSize);
  if (numBlocks > Math.floor(tokenIds.length / blockSize)) throw transferFailed(`${numBlocks} blocks are offered for ${tokenIds.length} tokens`);
  const blocks: StoredBlock[] = [];
  let sum = 0;
  for (let i = 0; i < numBlocks; i++) {
    const block = await decodeBlockFile(`block ${i}`, await frames.expect(frameTypes.block, maxBlockBytes + HEADER_BYTES));
    if (block === null) throw transferFailed(`block ${i} is damaged`);
    sum += block.bytes.byteLength;
    if (sum > maxBytes) throw transferFailed(`more than ${maxBytes} bytes came`);
    blocks.push(block);
  }
  await frames.expect(frameTypes.end, 0);
  return blocks;
}

function readOffer(payload: Buffer, blockSize: number): number {
  let offer: unknown;
  try {
    offer = JSON.parse(payload.toString('utf8'));
  } catch {
    throw transferFailed('the offer is malformed');
  }
  const fields = typeof offer === 'object' && offer !== null ? (offer as Record<string, unknown>) : {};
  if (fields.blockSize !== blockSize) throw transferFailed(`blocks of ${String(fields.blockSize)} tokens are offered where ${blockSize} are wanted`);
  const { numBlocks } = fields;
  if (typeof numBlocks === 'number' && Number.isInteger(numBlocks) && numBlocks >= 0) return numBlocks;
  throw transferFailed('the offer is malformed');
}
