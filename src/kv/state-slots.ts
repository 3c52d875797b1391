/**
 * Recurrent states (cache groups of kind `state`): one block a sequence, which every token replaces, and copies of it that the prefix tree remembers. A state
 * cannot be cut: what has been computed of a text can be taken up only where a copy was made. Copies are made at multiples of an interval, by the step that
 * goes on from there, and the last state of a sequence that ends stays as it is.
 */
import type { BlockCopies } from './block-copies.ts';
import { NO_BLOCK, NO_NODE } from './block-pool.ts';
import { isState } from './layout.ts';
import type { PrefixMemory } from './prefix-memory.ts';
import type { KvSequence } from './sequence.ts';

export class StateSlots {
  /** Indices of the state groups. */
  readonly groups: readonly number[];
  /** Tokens between copies: a whole number of blocks. */
  readonly interval: number;
  readonly #memory: PrefixMemory;
  readonly #copies: BlockCopies;

  constructor(memory: PrefixMemory, copies: BlockCopies, interval: number) {
    this.groups = memory.groups.flatMap((group, g) => (isState(group) ? [g] : []));
    this.interval = interval;
    this.#memory = memory;
    this.#copies = copies;
  }

  /** Tokens that one step may compute behind the token at `first`: copies are made between steps. */
  chunkRoom(first: number): number {
    return this.groups.length === 0 ? Infinity : this.interval - (first % this.interval);
  }

  /** Whether a sequence has its states, or could have them now. */
  canHold(sequence: KvSequence): boolean {
    return this.groups.every((g) => sequence.states[g] !== NO_BLOCK || this.#memory.pools[g].numAvailable > 0);
  }

  /** Holds the remembered states of the prefix that a sequence has just taken, found in a node of each group. */
  share(sequence: KvSequence, node: number): void {
    for (const g of this.groups) {
      const source = this.#memory.tree.block(node, g);
      sequence.stateSources[g] = source;
      this.#memory.pools[g].hold(source);
    }
  }

  /**
   * Blocks for the states of a sequence whose next step begins at index `first`; the caller has asked `canHold`. Those of its prefix are copied into them. At the end of
   * an interval the states are copied out, if there is room.
   */
  allocate(sequence: KvSequence, first: number): void {
    for (const g of this.groups) {
      if (sequence.states[g] !== NO_BLOCK) continue;
      sequence.states[g] = this.#memory.take(g);
      const source = sequence.stateSources[g];
      if (source === NO_BLOCK) continue;
      this.#copies.add(g, source, sequence.states[g], this.#memory.blockSize);
      this.#memory.release(g, source);
      sequence.stateSources[g] = NO_BLOCK;
    }
    const isDue = first > 0 && first % this.interval === 0 && sequence.checkpointLength < first;
    if (isDue && sequence.node !== NO_NODE) this.#checkpoint(sequence, first);
  }

  /** Remembers the copies made, once the step that made them has ended: it has computed more than what they stand for. */
  publish(sequence: KvSequence, numComputed: number): void {
    const { blockSize } = this.#memory;
    const numBlocks = sequence.checkpointLength / blockSize;
    if (numComputed <= sequence.checkpointLength || sequence.numPublished < numBlocks) return;
    let node = sequence.node;
    for (let depth = sequence.numPublished; depth > numBlocks; depth--) node = this.#memory.tree.parent(node);
    for (const g of this.groups) {
      const block = sequence.checkpoints[g];
      if (block === NO_BLOCK) continue;
      if (this.#memory.tree.block(node, g) === NO_BLOCK) this.#memory.bind(node, g, block);
      this.#memory.release(g, block);
      sequence.checkpoints[g] = NO_BLOCK;
    }
  }

  /** The states of a sequence that ends, as those behind the last token of a node. */
  remember(sequence: KvSequence, node: number): void {
    for (const g of this.groups) {
      if (sequence.states[g] !== NO_BLOCK && this.#memory.tree.block(node, g) === NO_BLOCK) this.#memory.bind(node, g, sequence.states[g]);
    }
  }

  /** Gives back all that a sequence holds. */
  free(sequence: KvSequence): void {
    for (const g of this.groups) {
      for (const held of [sequence.states, sequence.stateSources, sequence.checkpoints]) {
        if (held[g] !== NO_BLOCK) this.#memory.release(g, held[g]);
        held[g] = NO_BLOCK;
      }
    }
    sequence.checkpointLength = 0;
  }

  #checkpoint(sequence: KvSequence, first: number): void {
    sequence.checkpointLength = first;
    for (const g of this.groups) {
      // what was copied before and is not remembered yet would be lost; a cache may lose it
      if (sequence.checkpoints[g] !== NO_BLOCK) this.#memory.release(g, sequence.checkpoints[g]);
      sequence.checkpoints[g] = NO_BLOCK;
      if (this.#memory.pools[g].numAvailable === 0) continue;
      sequence.checkpoints[g] = this.#memory.take(g);
      this.#copies.add(g, sequence.states[g], sequence.checkpoints[g], this.#memory.blockSize);
    }
  }
}
