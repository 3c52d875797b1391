/** What grammars keep for the next time (states, masks), bounded over all of them together. */

/** Something that can drop what it keeps, and find it again. */
export interface Keeper {
  forget(): void;
}

export class KeptMemory {
  readonly limitBytes: number;
  /** Least recently grown first. */
  readonly #bytes = new Map<Keeper, number>();
  #totalBytes = 0;
  /** Who grew last: it is last in the order already. */
  #last: Keeper | null = null;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** Counts what a keeper keeps from now on. Beyond the limit those that grew least recently forget all, and it itself at last. */
  grow(keeper: Keeper, bytes: number): void {
    if (keeper !== this.#last || this.#totalBytes + bytes > this.limitBytes) this.#makeRoom(keeper, bytes);
    this.#bytes.set(keeper, (this.#bytes.get(keeper) ?? 0) + bytes);
    this.#totalBytes += bytes;
  }

  #makeRoom(keeper: Keeper, bytes: number): void {
    this.#last = keeper;
    const before = this.#bytes.get(keeper) ?? 0;
    this.#bytes.delete(keeper);
    this.#bytes.set(keeper, before);
    for (const other of this.#bytes.keys()) {
      if (this.#totalBytes + bytes <= this.limitBytes) break;
      this.release(other);
      other.forget();
    }
  }

  /** No longer counted. */
  release(keeper: Keeper): void {
    this.#totalBytes -= this.#bytes.get(keeper) ?? 0;
    this.#bytes.delete(keeper);
    if (keeper === this.#last) this.#last = null;
  }
}
