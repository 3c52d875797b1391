/**
 * The memory of computed prefixes: a tree over token ids whose edges are blocks. Every node stands for one block of tokens after its parent's;
 * only full blocks have children, a shorter one is the tail of a finished sequence. Roots are named by a salt, so that callers who must not share never do.
 *
 * Children of a node are sorted by their tokens. A binary search so finds the child with the longest common head, hence matching is exact to
 * the token with no hashing and no collisions.
 */
import { invariant } from '../base/errors.ts';
import { NO_BLOCK, NO_NODE } from './block-pool.ts';

export class RadixTree {
  readonly blockSize: number;
  readonly numGroups: number;
  #capacity = 64;
  #parents = new Int32Array(this.#capacity);
  #lengths = new Int32Array(this.#capacity);
  /** Sequences whose published path ends here: such a node stays even without blocks. */
  #pins = new Int32Array(this.#capacity);
  #tokens: Int32Array;
  #blocks: Int32Array;
  #children: (number[] | null)[] = [];
  #rootSalts = new Map<number, string>();
  #roots = new Map<string, number>();
  #unused: number[] = [];
  #numNodes = 0;
  /** Result of the last `longestChild`: how many tokens it shares. */
  commonLength = 0;

  constructor(blockSize: number, numGroups: number) {
    this.blockSize = blockSize;
    this.numGroups = numGroups;
    this.#tokens = new Int32Array(this.#capacity * blockSize);
    this.#blocks = new Int32Array(this.#capacity * numGroups);
  }

  /** Nodes in use, roots included. */
  get numNodes(): number {
    return this.#numNodes - this.#unused.length;
  }

  /** The root of a namespace, made when first asked for. */
  root(salt: string): number {
    const existing = this.#roots.get(salt);
    if (existing !== undefined) return existing;
    const root = this.#newNode(NO_NODE);
    this.#roots.set(salt, root);
    this.#rootSalts.set(root, salt);
    return root;
  }

  parent(node: number): number {
    return this.#parents[node];
  }

  /** Tokens of the node; less than a block for a tail. */
  length(node: number): number {
    return this.#lengths[node];
  }

  block(node: number, group: number): number {
    return this.#blocks[node * this.numGroups + group];
  }

  setBlock(node: number, group: number, block: number): void {
    this.#blocks[node * this.numGroups + group] = block;
  }

  hasChildren(node: number): boolean {
    return (this.#children[node]?.length ?? 0) > 0;
  }

  pin(node: number): void {
    this.#pins[node]++;
  }

  unpin(node: number): void {
    this.#pins[node]--;
  }

  /**
   * The child that shares most tokens with `tokens[start, start + count)`; how many is left in `commonLength`.
   * @returns NO_NODE when none shares the first
   */
  longestChild(node: number, tokens: Int32Array, start: number, count: number): number {
    this.commonLength = 0;
    const siblings = this.#children[node];
    if (siblings === null || siblings === undefined) return NO_NODE;
    const at = this.#lowerBound(siblings, tokens, start, count);
    // in sorted order the longest common head is next to where the tokens would stand
    let best = NO_NODE;
    for (let i = at; i >= at - 1; i--) {
      if (i < 0 || i >= siblings.length) continue;
      const common = this.#common(siblings[i], tokens, start, count);
      if (common > this.commonLength) {
        this.commonLength = common;
        best = siblings[i];
      }
    }
    return best;
  }

  /** Adds a child for `tokens[start, start + count)`, with no blocks yet. The caller knows that no equal one exists. */
  insert(parent: number, tokens: Int32Array, start: number, count: number): number {
    const node = this.#newNode(parent);
    this.#lengths[node] = count;
    for (let i = 0; i < count; i++) this.#tokens[node * this.blockSize + i] = tokens[start + i];
    const siblings = this.#children[parent];
    if (siblings === null) this.#children[parent] = [node];
    else siblings.splice(this.#lowerBound(siblings, tokens, start, count), 0, node);
    return node;
  }

  /** Removes a node without children. */
  remove(node: number): void {
    invariant(!this.hasChildren(node) && this.#pins[node] === 0, `tree node ${node} is in use`);
    const parent = this.#parents[node];
    if (parent === NO_NODE) {
      this.#roots.delete(this.#rootSalts.get(node) ?? '');
      this.#rootSalts.delete(node);
    } else {
      const siblings = this.#children[parent] ?? [];
      const at = this.#lowerBound(siblings, this.#tokens, node * this.blockSize, this.#lengths[node]);
      invariant(siblings[at] === node, `tree node ${node} is not among its siblings`);
      siblings.splice(at, 1);
      if (siblings.length === 0) this.#children[parent] = null;
    }
    this.#unused.push(node);
  }

  /** Removes the node, and then its ancestors, while nothing depends on them: no child, no block, no pin. */
  prune(node: number): void {
    for (let at = node; at !== NO_NODE; ) {
      if (this.hasChildren(at) || this.#pins[at] > 0 || this.#hasBlock(at)) return;
      const parent = this.#parents[at];
      this.remove(at);
      at = parent;
    }
  }

  /** Calls `visit` for every node. For the invariant checker and tests. */
  forEach(visit: (node: number) => void): void {
    const stack = [...this.#roots.values()];
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      visit(node);
      stack.push(...(this.#children[node] ?? []));
    }
  }

  #hasBlock(node: number): boolean {
    for (let g = 0; g < this.numGroups; g++) if (this.block(node, g) !== NO_BLOCK) return true;
    return false;
  }

  #newNode(parent: number): number {
    const node = this.#unused.pop() ?? this.#numNodes++;
    if (node >= this.#capacity) this.#grow();
    this.#parents[node] = parent;
    this.#lengths[node] = 0;
    this.#pins[node] = 0;
    this.#children[node] = null;
    for (let g = 0; g < this.numGroups; g++) this.setBlock(node, g, NO_BLOCK);
    return node;
  }

  #grow(): void {
    this.#capacity *= 2;
    const grown = (array: Int32Array, perNode: number) => {
      const larger = new Int32Array(this.#capacity * perNode);
      larger.set(array);
      return larger;
    };
    this.#parents = grown(this.#parents, 1);
    this.#lengths = grown(this.#lengths, 1);
    this.#pins = grown(this.#pins, 1);
    this.#tokens = grown(this.#tokens, this.blockSize);
    this.#blocks = grown(this.#blocks, this.numGroups);
  }

  /** First index whose node is not smaller than the tokens; a head is smaller than what it is the head of. */
  #lowerBound(siblings: readonly number[], tokens: Int32Array, start: number, count: number): number {
    let low = 0;
    let high = siblings.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#isSmaller(siblings[middle], tokens, start, count)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #isSmaller(node: number, tokens: Int32Array, start: number, count: number): boolean {
    const common = this.#common(node, tokens, start, count);
    if (common === count) return false;
    if (common === this.#lengths[node]) return true;
    return this.#tokens[node * this.blockSize + common] < tokens[start + common];
  }

  #common(node: number, tokens: Int32Array, start: number, count: number): number {
    const base = node * this.blockSize;
    const most = Math.min(count, this.#lengths[node]);
    let i = 0;
    while (i < most && this.#tokens[base + i] === tokens[start + i]) i++;
    return i;
  }
}
