/** What a grammar must fulfil before it runs: every place can still reach the end, and no rule calls itself without reading something. */
import type { Edge } from './grammar.ts';
import { grammarInvalid, tooLarge } from './limits.ts';

const BYTES = 0;
const EMPTY = 1;
const CALL = 2;
const REPEAT = 3;
const SPACING = 4;

/** `[nodes]`: 1 where the end of the node's rule can be reached. Backwards from the ends, each edge looked at a bounded number of times. */
export function findLive(nodes: readonly (readonly Edge[])[], starts: readonly number[], ends: readonly number[]): Uint8Array {
  return spread(nodes, starts, ends, (edge, live) => {
    if (edge.kind === CALL) return live[starts[edge.a]] === 1;
    return edge.kind !== REPEAT || edge.min === 0 || live[starts[edge.a]] === 1;
  });
}

/** `[nodes]`: 1 where the end of the node's rule can be reached without reading. */
function findNullable(nodes: readonly (readonly Edge[])[], starts: readonly number[], ends: readonly number[]): Uint8Array {
  return spread(nodes, starts, ends, (edge, nullable) => {
    if (edge.kind === BYTES) return false;
    if (edge.kind === EMPTY || edge.kind === SPACING) return true;
    return (edge.kind === REPEAT && edge.min === 0) || nullable[starts[edge.a]] === 1;
  });
}

function spread(
  nodes: readonly (readonly Edge[])[],
  starts: readonly number[],
  ends: readonly number[],
  passes: (edge: Edge, marked: Uint8Array) => boolean,
): Uint8Array {
  const marked = new Uint8Array(nodes.length);
  const into: [from: number, edge: Edge][][] = nodes.map(() => []);
  /** Edges that call the rule which begins at a node. */
  const callers = new Map<number, [from: number, edge: Edge][]>(starts.map((start) => [start, []]));
  for (const [from, edges] of nodes.entries()) {
    for (const edge of edges) {
      into[edge.target].push([from, edge]);
      if (edge.kind === CALL || edge.kind === REPEAT) callers.get(starts[edge.a])?.push([from, edge]);
    }
  }
  const queue = [...ends];
  for (const end of ends) marked[end] = 1;
  for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
    for (const [from, edge] of [...into[node], ...(callers.get(node) ?? [])]) {
      if (marked[from] === 1 || marked[edge.target] === 0 || !passes(edge, marked)) continue;
      marked[from] = 1;
      queue.push(from);
    }
  }
  return marked;
}

/** @throws GRAMMAR_INVALID naming a rule of the cycle */
export function checkLeftRecursion(
  nodes: readonly (readonly Edge[])[],
  starts: readonly number[],
  ends: readonly number[],
  names: readonly string[],
): void {
  const nullable = findNullable(nodes, starts, ends);
  for (const edge of nodes.flat()) {
    if (edge.kind !== REPEAT || nullable[starts[edge.a]] === 0) continue;
    const rounds = Math.max(edge.min, edge.max === Number.POSITIVE_INFINITY ? 0 : edge.max);
    if (rounds > 64) throw tooLarge('a repetition of something that may be empty', 'at most 64 rounds', String(rounds));
  }
  const leftCalls = starts.map((start) => {
    const called = new Set<number>();
    const seen = new Set([start]);
    const queue = [start];
    for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
      for (const edge of nodes[node]) {
        if (edge.kind === BYTES) continue;
        if (edge.kind === CALL || edge.kind === REPEAT) called.add(edge.a);
        const passes = edge.kind === EMPTY || edge.kind === SPACING || (edge.kind === REPEAT && edge.min === 0) || nullable[starts[edge.a]] === 1;
        if (!passes || seen.has(edge.target)) continue;
        seen.add(edge.target);
        queue.push(edge.target);
      }
    }
    return called;
  });
  const numWaiting = starts.map(() => 0);
  for (const called of leftCalls) for (const rule of called) numWaiting[rule]++;
  const free = numWaiting.flatMap((count, rule) => (count === 0 ? [rule] : []));
  let numDone = 0;
  for (let rule = free.pop(); rule !== undefined; rule = free.pop()) {
    numDone++;
    for (const called of leftCalls[rule]) if (--numWaiting[called] === 0) free.push(called);
  }
  if (numDone === starts.length) return;
  const culprit = numWaiting.findIndex((count) => count > 0);
  throw grammarInvalid(`The rule ${names[culprit]} can come back to itself without reading anything (left recursion).`);
}
