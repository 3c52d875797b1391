/**
 * The memory of computed prefixes: a tree over token ids whose edges are blocks. Every node stands for one block of tokens after its parent's;
 * only full blocks have children, a shorter one is the tail of a finished sequence. Roots are named by a namespace, so that callers who must not share
 * never do. Matching compares token ids, so it is exact to the token: no hash stands for tokens, and none can collide.
 *
 * A struct of arrays: a node is a number. Arrays for as many nodes as there are blocks are reserved at once and touched as they fill, so that a tree
 * that grows never stops to copy itself.
 */
import { invariant } from '../base/errors.ts';
import { NO_BLOCK, NO_NODE } from './block-pool.ts';
import { grown, Siblings } from './siblings.ts';

export class RadixTree {
  readonly blockSize: number;
  readonly numGroups: number;
  readonly #siblings: Siblings;
  #capacity: number;
  /** Parent of each node; of an unused one, the next unused. */
  #parents: Int32Array;
  /** Sequences whose published path ends here: such a node stays even without blocks. */
  #pins: Int32Array;
  #blocks: Int32Array;
  /** How often a request began with it. */
  #uses: Int32Array;
  /** What the eviction policy made of its last use; lower goes first. */
  #evictionKeys: Float64Array;
  readonly #namespaces = new Map<number, string>();
  readonly #roots = new Map<string, number>();
  #firstUnused = NO_NODE;
  #numUsed = 0;
  /** Nodes ever used at once. */
  #numNodes = 0;

  /** @param expectedNodes room to reserve; more may come */
  constructor(blockSize: number, numGroups: number, expectedNodes = 64) {
    this.blockSize = blockSize;
    this.numGroups = numGroups;
    this.#capacity = Math.max(64, expectedNodes);
    this.#siblings = new Siblings(blockSize, this.#capacity);
    this.#parents = new Int32Array(this.#capacity);
    this.#pins = new Int32Array(this.#capacity);
    this.#blocks = new Int32Array(this.#capacity * numGroups);
    this.#uses = new Int32Array(this.#capacity);
    this.#evictionKeys = new Float64Array(this.#capacity);
  }

  /** Nodes in use, roots included. */
  get numNodes(): number {
    return this.#numUsed;
  }

  /** Tokens shared by the result of the last `longestChild`. */
  get commonLength(): number {
    return this.#siblings.commonLength;
  }

  /** The root of a namespace, made when first asked for. */
  root(namespace: string): number {
    const existing = this.#roots.get(namespace);
    if (existing !== undefined) return existing;
    const root = this.#newNode(NO_NODE, noTokens, 0, 0);
    this.#roots.set(namespace, root);
    this.#namespaces.set(root, namespace);
    return root;
  }

  /** The root of a namespace, or NO_NODE where nothing has been remembered. */
  findRoot(namespace: string): number {
    return this.#roots.get(namespace) ?? NO_NODE;
  }

  /** Namespace of a root. */
  namespaceOf(root: number): string {
    return this.#namespaces.get(root) ?? '';
  }

  parent(node: number): number {
    return this.#parents[node];
  }

  /** Tokens of the node; less than a block for a tail. */
  length(node: number): number {
    return this.#siblings.length(node);
  }

  copyTokens(node: number, target: Int32Array): void {
    this.#siblings.copyTokens(node, target);
  }

  block(node: number, group: number): number {
    return this.#blocks[node * this.numGroups + group];
  }

  setBlock(node: number, group: number, block: number): void {
    this.#blocks[node * this.numGroups + group] = block;
  }

  hasChildren(node: number): boolean {
    return this.#siblings.hasChildren(node);
  }

  pin(node: number): void {
    this.#pins[node]++;
  }

  unpin(node: number): void {
    this.#pins[node]--;
  }

  uses(node: number): number {
    return this.#uses[node];
  }

  countUse(node: number): void {
    this.#uses[node]++;
  }

  evictionKey(node: number): number {
    return this.#evictionKeys[node];
  }

  setEvictionKey(node: number, key: number): void {
    this.#evictionKeys[node] = key;
  }

  /**
   * The child that shares most tokens with `tokens[start, start + count)`; how many is left in `commonLength`.
   * @returns NO_NODE when none shares the first
   */
  longestChild(node: number, tokens: Int32Array, start: number, count: number): number {
    return this.#siblings.longest(node, tokens, start, count);
  }

  /** Adds a child for `tokens[start, start + count)`, with no blocks yet. The caller knows that no equal one exists. */
  insert(parent: number, tokens: Int32Array, start: number, count: number): number {
    const node = this.#newNode(parent, tokens, start, count);
    this.#siblings.insert(parent, node);
    return node;
  }

  /** Removes a node without children. */
  remove(node: number): void {
    invariant(!this.hasChildren(node) && this.#pins[node] === 0, `tree node ${node} is in use`);
    const parent = this.#parents[node];
    if (parent === NO_NODE) {
      this.#roots.delete(this.namespaceOf(node));
      this.#namespaces.delete(node);
    } else this.#siblings.remove(parent, node);
    this.#parents[node] = this.#firstUnused;
    this.#firstUnused = node;
    this.#numUsed--;
  }

  /**
   * Removes the node, and then its ancestors, while nothing depends on them: no child, no block, no pin.
   * @returns the first that stays, or NO_NODE
   */
  prune(node: number): number {
    let at = node;
    while (at !== NO_NODE) {
      if (this.hasChildren(at) || this.#pins[at] > 0 || this.#hasBlock(at)) return at;
      const parent = this.#parents[at];
      this.remove(at);
      at = parent;
    }
    return NO_NODE;
  }

  /** Calls `visit` for every node. For the invariant checker and tests. */
  forEach(visit: (node: number) => void): void {
    const stack = [...this.#roots.values()];
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      visit(node);
      this.#siblings.collect(node, stack);
    }
  }

  #hasBlock(node: number): boolean {
    for (let g = 0; g < this.numGroups; g++) if (this.block(node, g) !== NO_BLOCK) return true;
    return false;
  }

  #newNode(parent: number, tokens: Int32Array, start: number, count: number): number {
    let node = this.#firstUnused;
    if (node === NO_NODE) {
      node = this.#numNodes++;
      if (node >= this.#capacity) this.#grow();
    } else this.#firstUnused = this.#parents[node];
    this.#numUsed++;
    this.#parents[node] = parent;
    this.#pins[node] = 0;
    this.#uses[node] = 0;
    this.#evictionKeys[node] = -Infinity;
    this.#siblings.set(node, tokens, start, count);
    for (let g = 0; g < this.numGroups; g++) this.setBlock(node, g, NO_BLOCK);
    return node;
  }

  #grow(): void {
    this.#capacity *= 2;
    this.#siblings.grow(this.#capacity);
    this.#parents = grown(this.#parents, this.#capacity);
    this.#pins = grown(this.#pins, this.#capacity);
    this.#blocks = grown(this.#blocks, this.#capacity * this.numGroups);
    this.#uses = grown(this.#uses, this.#capacity);
    this.#evictionKeys = grown(this.#evictionKeys, this.#capacity);
  }
}

const noTokens = new Int32Array(0);
