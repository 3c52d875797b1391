/**
 * The blocks of a prompt as bytes, out of one engine and into another of the same class, in process or over TCP: a prompt that one has computed, another
 * goes on with, to the bit. Whole blocks travel; the rest of the prompt, less than a block, is computed again.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Backend, Cache } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { namespaceOf } from '../kv/namespace.ts';
import type { KvSequence } from '../kv/sequence.ts';
import type { StoredBlock } from '../kv/tiers/tier.ts';
import { fetchPrefix } from '../kv/transfer/client.ts';
import { type PrefixBlocks, type PrefixRequest, TransferServer, type TransferServerOptions } from '../kv/transfer/server.ts';

export interface TransferParts {
  readonly kv: KvCache;
  readonly backend: Backend;
  readonly cache: Cache;
  /** Names the class in which bytes of KV are equal. */
  readonly kvClass: string;
  /** Reads out what is evicted to make room, before anything is written there. */
  storeEvicted(): void;
}

/** Where to fetch from. */
export interface PrefixOrigin {
  readonly host?: string;
  readonly port: number;
  readonly secret?: string;
  readonly signal?: AbortSignal;
  readonly patienceMs?: number;
}

export class PrefixTransfer {
  readonly #parts: TransferParts;

  constructor(parts: TransferParts) {
    this.#parts = parts;
  }

  /** The blocks of a prompt that the device has, from its beginning. They stay where they are. */
  async export({ tokenIds, cacheSalt }: PrefixRequest): Promise<PrefixBlocks> {
    const { kv, backend, cache, kvClass } = this.#parts;
    const { blockSize } = kv;
    const sequence = kv.openGuest();
    try {
      const length = kv.matchPrefix(sequence, tokenIds, wholeBlocks(tokenIds.length, blockSize), namespaceOf({ cacheSalt }));
      const blocks = await Promise.all(
        Array.from({ length: Math.floor(length / blockSize) }, async (_, i): Promise<StoredBlock> => {
          const { groups, list } = blocksAt(sequence, i);
          return { groups, bytes: await backend.readBlocks(cache, list) };
        }),
      );
      return { kvClass, blockSize, blocks };
    } finally {
      kv.free(sequence, tokenIds, 0);
    }
  }

  /**
   * Remembers blocks that another engine exported for the same prompt. Where there is no room beside running requests, nothing is.
   * @returns tokens from the start of the prompt that this engine has now
   * @throws KV_TRANSFER_FAILED for blocks of another class or of a wrong size
   */
  async import({ tokenIds, cacheSalt }: PrefixRequest, { kvClass, blockSize, blocks }: PrefixBlocks): Promise<number> {
    const { kv, backend, cache } = this.#parts;
    const length = blocks.length * blockSize;
    if (kvClass !== this.#parts.kvClass || blockSize !== kv.blockSize) throw refused('they are of another model, layout or instruction set');
    if (length > tokenIds.length) throw refused(`there are ${blocks.length} of them for ${tokenIds.length} tokens`);
    for (const { groups, bytes } of blocks) if (bytesOf(groups, cache) !== bytes.byteLength) throw refused('one has a wrong size');
    // a copy that is yet to be made may read a block that would be written here
    while (kv.numPendingCopies > 0) await nextTurn();
    const sequence = kv.openGuest();
    let computed = kv.matchPrefix(sequence, tokenIds, wholeBlocks(length, blockSize), namespaceOf({ cacheSalt }));
    try {
      if (!kv.enablePrefixCaching || computed >= length) return computed;
      const first = sequence.numBlocks;
      if (!kv.beginLoad(sequence, length)) return computed;
      this.#parts.storeEvicted();
      const writes: Promise<void>[] = [];
      for (let i = first; i < sequence.numBlocks; i++) {
        const bytes = partsOf(blocks[i], blocksAt(sequence, i).groups, cache);
        if (bytes === null) break; // resumes before a window that did not come
        writes.push(backend.writeBlocks(cache, blocksAt(sequence, i).list, bytes));
      }
      const results = await Promise.allSettled(writes);
      const failed = results.findIndex(({ status }) => status === 'rejected');
      computed = kv.endLoad(sequence, tokenIds, computed, first + (failed < 0 ? writes.length : failed));
      return computed;
    } finally {
      kv.free(sequence, tokenIds, computed);
    }
  }

  /** Gives what this engine computes to others over TCP. @throws CONFIG_INVALID, PORT_IN_USE */
  serve(options: Omit<TransferServerOptions, 'export' | 'kvClass'> = {}): Promise<TransferServer> {
    return TransferServer.listen({ ...options, kvClass: this.#parts.kvClass, export: (request) => this.export(request) });
  }

  /** Fetches a prompt's blocks from another engine's `serve`. @returns tokens from the start of the prompt that this engine has now @throws KV_TRANSFER_FAILED */
  async fetch(request: PrefixRequest, origin: PrefixOrigin): Promise<number> {
    const { cache, kvClass, kv } = this.#parts;
    const maxBlockBytes = cache.blockBytes.reduce((sum, size) => sum + size, 0);
    return this.import(request, await fetchPrefix(request, { ...origin, kvClass, blockSize: kv.blockSize, maxBlockBytes }));
  }
}

function wholeBlocks(length: number, blockSize: number): number {
  return Math.floor(length / blockSize) * blockSize;
}

/** What a sequence holds at a place of its table: bit g for group g, and pairs of group and block. */
function blocksAt({ tables }: KvSequence, index: number): { groups: number; list: Int32Array } {
  let groups = 0;
  const list: number[] = [];
  for (let g = 0; g < tables.length; g++) {
    if (tables[g][index] < 0) continue;
    groups |= 1 << g;
    list.push(g, tables[g][index]);
  }
  return { groups, list: Int32Array.from(list) };
}

function bytesOf(groups: number, { blockBytes }: Cache): number {
  return blockBytes.reduce((sum, size, g) => sum + (((groups >> g) & 1) === 1 ? size : 0), 0);
}

/** The bytes of the groups wanted; null where one of them did not come. */
function partsOf({ groups, bytes }: StoredBlock, wanted: number, { blockBytes }: Cache): Uint8Array | null {
  if ((wanted & ~groups) !== 0) return null;
  const parts: Uint8Array[] = [];
  let at = 0;
  for (let g = 0; g < blockBytes.length; g++) {
    if (((groups >> g) & 1) === 0) continue;
    if (((wanted >> g) & 1) === 1) parts.push(bytes.subarray(at, at + blockBytes[g]));
    at += blockBytes[g];
  }
  return Buffer.concat(parts);
}

function refused(complaint: string): MillraceError {
  return new MillraceError('KV_TRANSFER_FAILED', `Blocks of KV cannot be taken over: ${complaint}.`);
}
