/** How many plain characters an automaton of characters reads whatever they are: what lets a mask take the tokens made of them at once. */
import { type CodePointSet, includesAll, intersection, plainCodePoints, union } from './code-points.ts';
import type { AutomatonState } from './expression.ts';

/**
 * For each state, the length of the shortest row of plain characters that gets stuck, less one: found backwards from the states where some plain
 * character may not follow. Infinity where none can ever get stuck.
 *
 * @param isLive whether an end can be reached from a state: where it cannot, a text must not go
 */
export function plainDepths(states: readonly AutomatonState[], isLive: (state: number) => boolean): Float64Array {
  const depths = new Float64Array(states.length).fill(Number.POSITIVE_INFINITY);
  const from: number[][] = states.map(() => []);
  const queue: number[] = [];
  for (const [i, { edges }] of states.entries()) {
    const plain: CodePointSet[] = [];
    for (const { set, target } of edges) {
      if (set === undefined || !isLive(target)) continue;
      const part = intersection(set, plainCodePoints);
      if (part.length === 0) continue;
      plain.push(part);
      from[target].push(i);
    }
    if (plain.length > 0 && includesAll(union(...plain), plainCodePoints)) continue;
    depths[i] = 0;
    queue.push(i);
  }
  for (const state of queue) {
    for (const before of from[state]) {
      if (depths[before] !== Number.POSITIVE_INFINITY) continue;
      depths[before] = depths[state] + 1;
      queue.push(before);
    }
  }
  return depths;
}
