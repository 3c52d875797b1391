/** Integers of one block copy: group, source, destination, tokens. */
export const COPY_STRIDE = 4;

/** Block copies to be made before the next step, in the order asked for. */
export class BlockCopies {
  #copies = new Int32Array(16 * COPY_STRIDE);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(group: number, source: number, destination: number, tokens: number): void {
    const at = this.#count++ * COPY_STRIDE;
    if (at === this.#copies.length) {
      const larger = new Int32Array(at * 2);
      larger.set(this.#copies);
      this.#copies = larger;
    }
    this.#copies[at] = group;
    this.#copies[at + 1] = source;
    this.#copies[at + 2] = destination;
    this.#copies[at + 3] = tokens;
  }

  /** Moves all into `target.copies`, made larger where need be. @returns how many */
  drain(target: { copies: Int32Array }): number {
    const count = this.#count;
    if (target.copies.length < count * COPY_STRIDE) target.copies = new Int32Array(this.#copies.length);
    target.copies.set(this.#copies.subarray(0, count * COPY_STRIDE));
    this.#count = 0;
    return count;
  }
}
