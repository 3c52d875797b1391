/** What decides which remembered prefix is forgotten first. */

/** One use of a node of the prefix tree: a request began with it, computed it, or let go of it. */
export interface PrefixUse {
  /** On the scheduler's clock. */
  readonly nowMs: number;
  /** Grows with every use of any prefix: tells apart what happens in one millisecond. */
  readonly tick: number;
  /** How many requests have begun with it. */
  readonly uses: number;
  /** Of the request; lower is more urgent, 0 by default. */
  readonly priority: number;
}

/** Whatever a policy says, only leaves of the tree go, so a prefix never loses its beginning before its end. */
export interface EvictionPolicy {
  /** Lower goes first. A node keeps the highest that its uses gave it. */
  key(use: PrefixUse): number;
  /** A node with that key was evicted. */
  onEvicted?(key: number): void;
  /** Nodes with a key up to this have had their time, wanted or not. */
  expiredKey?(nowMs: number): number;
}
