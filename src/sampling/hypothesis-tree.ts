/** Hypotheses of a search that share their beginnings: a node is a token behind its parent. Structure of arrays. */
export class HypothesisTree {
  #parents = new Int32Array(64);
  #tokenIds = new Int32Array(64);
  #logprobs = new Float32Array(64);
  #count = 0;

  get size(): number {
    return this.#count;
  }

  /** @param parent -1 for the first token of a hypothesis */
  add(parent: number, tokenId: number, logprob: number): number {
    if (this.#count === this.#parents.length) this.#grow();
    const node = this.#count++;
    this.#parents[node] = parent;
    this.#tokenIds[node] = tokenId;
    this.#logprobs[node] = logprob;
    return node;
  }

  parent(node: number): number {
    return this.#parents[node];
  }

  tokenId(node: number): number {
    return this.#tokenIds[node];
  }

  logprob(node: number): number {
    return this.#logprobs[node];
  }

  /** The nodes from the first token to `node`. */
  path(node: number): number[] {
    const nodes: number[] = [];
    for (let at = node; at >= 0; at = this.#parents[at]) nodes.push(at);
    return nodes.reverse();
  }

  #grow(): void {
    const larger = <T extends Int32Array | Float32Array>(array: T): T => {
      const copy = new (array.constructor as new (length: number) => T)(array.length * 2);
      copy.set(array);
      return copy;
    };
    this.#parents = larger(this.#parents);
    this.#tokenIds = larger(this.#tokenIds);
    this.#logprobs = larger(this.#logprobs);
  }
}
