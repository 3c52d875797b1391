/**
 * Names of blocks that mean the same in every process: SHA-256 over the name of the block before, and the tokens. The first names the class in which bytes
 * are equal (model, layout, instruction set) and the namespace. Nobody can make two texts share a name short of breaking SHA-256.
 */
import { createHash } from 'node:crypto';
import { NO_NODE } from './block-pool.ts';
import type { RadixTree } from './radix-tree.ts';

const DIGEST_BYTES = 32;

export class BlockKeys {
  readonly #tree: RadixTree;
  readonly #classDigest: string;
  readonly #tokens: Int32Array;
  /** `[nodes, 32]`, with whether each is known. */
  #digests = new Uint8Array(1024 * DIGEST_BYTES);
  #isKnown = new Uint8Array(1024);
  readonly #missing: number[] = [];

  constructor(tree: RadixTree, classDigest: string) {
    this.#tree = tree;
    this.#classDigest = classDigest;
    this.#tokens = new Int32Array(tree.blockSize);
  }

  /** The node stands for something else from now on. */
  forget(node: number): void {
    this.#reserve(node);
    this.#isKnown[node] = 0;
  }

  /** 32 bytes; a view that later calls leave alone while the node lives. */
  digest(node: number): Uint8Array {
    const missing = this.#missing;
    for (let at = node; at !== NO_NODE; at = this.#tree.parent(at)) {
      this.#reserve(at);
      if (this.#isKnown[at] === 1) break;
      missing.push(at);
    }
    for (let at = missing.pop(); at !== undefined; at = missing.pop()) {
      this.#digests.set(this.#compute(at), at * DIGEST_BYTES);
      this.#isKnown[at] = 1;
    }
    return this.#digests.subarray(node * DIGEST_BYTES, (node + 1) * DIGEST_BYTES);
  }

  /** The digest after another one. */
  next(before: Uint8Array, tokenIds: Int32Array, start: number): Uint8Array {
    for (let i = 0; i < this.#tokens.length; i++) this.#tokens[i] = tokenIds[start + i];
    return this.#hash(before);
  }

  #compute(node: number): Uint8Array {
    const parent = this.#tree.parent(node);
    if (parent === NO_NODE)
      return createHash('sha256')
        .update(`millrace kv 1\n${this.#classDigest}\n${this.#tree.namespaceOf(node)}`)
        .digest();
    this.#tree.copyTokens(node, this.#tokens);
    return this.#hash(this.#digests.subarray(parent * DIGEST_BYTES, (parent + 1) * DIGEST_BYTES));
  }

  #hash(before: Uint8Array): Uint8Array {
    // tokens as they lie in memory: all machines that share bytes of KV are little-endian alike
    return createHash('sha256').update(before).update(this.#tokens).digest();
  }

  #reserve(node: number): void {
    if (node < this.#isKnown.length) return;
    const capacity = Math.max(node + 1, this.#isKnown.length * 2);
    const digests = new Uint8Array(capacity * DIGEST_BYTES);
    digests.set(this.#digests);
    this.#digests = digests;
    const isKnown = new Uint8Array(capacity);
    isKnown.set(this.#isKnown);
    this.#isKnown = isKnown;
  }
}

export function keyText(digest: Uint8Array): string {
  return Buffer.from(digest.buffer, digest.byteOffset, digest.byteLength).toString('hex');
}
