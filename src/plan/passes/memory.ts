/**
 * Where values live: one arena, cut so that values which are never needed at the same time share bytes.
 *
 * A value is alive from the node that writes it to the last node that reads it or a view of it; the input is alive from the start, outputs to
 * the end. Offsets depend on the plan and the row limits alone, so a plan always lies the same way.
 */
import type { Plan, Value } from '../plan.ts';

/** Every value starts at a multiple of this many bytes: a cache line, and one AVX-512 register. */
export const ARENA_ALIGNMENT = 64;

export interface MemoryLayout {
  /** Byte offset in the arena of each value by id; -1 for views (which lie in their value) and for values that nothing touches. */
  readonly offsets: Float64Array;
  readonly arenaBytes: number;
}

export interface RowLimits {
  /** Most rows of axis `tokens` in a step. */
  readonly maxTokens: number;
  /** Most rows of axis `logits` in a step. */
  readonly maxLogitRows: number;
}

interface Lifetime {
  readonly id: number;
  readonly sizeBytes: number;
  readonly first: number;
  last: number;
}

interface Placed extends Lifetime {
  readonly offset: number;
}

/**
 * Places the values of a plan. Larger values are placed first, each at the lowest offset that is free during its whole life
 * (Pisarchyk and Lee 2020, arXiv:2001.03288, "greedy by size").
 */
export function planMemory(plan: Plan, limits: RowLimits): MemoryLayout {
  const lifetimes = lifetimesOf(plan, limits);
  lifetimes.sort((a, b) => b.sizeBytes - a.sizeBytes || a.id - b.id);
  const offsets = new Float64Array(plan.values.length).fill(-1);
  const placed: Placed[] = [];
  let arenaBytes = 0;
  for (const lifetime of lifetimes) {
    const offset = lowestFreeOffset(lifetime, placed);
    offsets[lifetime.id] = offset;
    placed.push({ ...lifetime, offset });
    placed.sort((a, b) => a.offset - b.offset || a.id - b.id);
    arenaBytes = Math.max(arenaBytes, offset + lifetime.sizeBytes);
  }
  return { offsets, arenaBytes };
}

function lifetimesOf(plan: Plan, limits: RowLimits): Lifetime[] {
  const byId = new Map<number, Lifetime>();
  const owner = (id: number): Value => plan.values[plan.values[id].view?.of ?? id];
  const touch = (id: number, step: number) => {
    const value = owner(id);
    const known = byId.get(value.id);
    if (known === undefined) byId.set(value.id, { id: value.id, sizeBytes: sizeOf(value, limits), first: step, last: step });
    else known.last = Math.max(known.last, step);
  };
  touch(plan.input.value, -1);
  plan.nodes.forEach((node, step) => {
    for (const id of node.inputs) touch(id, step);
    for (const id of node.outputs) touch(id, step);
  });
  for (const id of Object.values(plan.outputs)) touch(id, plan.nodes.length);
  return [...byId.values()];
}

function sizeOf(value: Value, { maxTokens, maxLogitRows }: RowLimits): number {
  const rows = value.axis === 'tokens' ? maxTokens : maxLogitRows;
  return Math.ceil((rows * value.width * 4) / ARENA_ALIGNMENT) * ARENA_ALIGNMENT;
}

/** `placed` is sorted by offset. Inputs and outputs of one node are alive together: a kernel never writes over what it reads. */
function lowestFreeOffset(lifetime: Lifetime, placed: readonly Placed[]): number {
  let offset = 0;
  for (const other of placed) {
    const together = lifetime.first <= other.last && other.first <= lifetime.last;
    if (!together) continue;
    if (offset + lifetime.sizeBytes <= other.offset) break;
    offset = Math.max(offset, other.offset + other.sizeBytes);
  }
  return offset;
}
