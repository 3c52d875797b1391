/** One walk down the tree of a vocabulary beside the automaton, cut where a byte may not follow. */
import type { Automaton, State } from './automaton.ts';
import { mayAllFollow } from './runs.ts';
import { BEYOND_ASCII, type ByteTree, MAX_PLAIN, type VocabularyTables } from './vocabulary-tables.ts';

/** First bytes of characters of more than one. */
const LEAD = 0xc2;
const path: State[] = [];

function setAll(mask: Uint32Array, tokens: Int32Array, from: number, to: number): void {
  for (let t = from; t < to; t++) mask[tokens[t] >>> 5] |= 1 << (tokens[t] & 31);
}

function clearAll(mask: Uint32Array, tokens: Int32Array, from: number, to: number): void {
  for (let t = from; t < to; t++) mask[tokens[t] >>> 5] &= ~(1 << (tokens[t] & 31));
}

/** Adds the tokens of the tree that may follow. */
export function walk(tree: ByteTree, start: State, automaton: Automaton, mask: Uint32Array): void {
  const { byte, depth, next, tokenStart, tokens, numNodes } = tree;
  path[0] = start;
  for (let n = 0; n < numNodes; ) {
    const d = depth[n];
    const from = path[d - 1];
    const known = from.targets[from.classOf[byte[n]]];
    const state = known === undefined ? automaton.next(from, byte[n]) : known;
    if (state === null) {
      n = next[n];
      continue;
    }
    path[d] = state;
    setAll(mask, tokens, tokenStart[n], tokenStart[n + 1]);
    n++;
  }
  path.length = 0;
}

/**
 * The mask of the tokens of plain characters. Where whole branches lead on alike they are taken at once; where most first bytes may follow, all
 * tokens are taken and those that may not follow are taken away.
 */
export function walkPlain({ plain, plainBelow, kindsBelow, plainMasks }: VocabularyTables, start: State, automaton: Automaton): Uint32Array {
  const { byte, depth, next, tokenStart, tokens, numNodes } = plain;
  const takesAway = allowsMost(plain, start);
  const mask = takesAway ? plainMasks[MAX_PLAIN].slice() : new Uint32Array(plainMasks[0].length);
  path[0] = start;
  for (let n = 0; n < numNodes; ) {
    const d = depth[n];
    const from = path[d - 1];
    if (byte[n] >= LEAD && mayAllFollow(from, plainBelow[n] + 1, kindsBelow[n] | BEYOND_ASCII, automaton)) {
      if (!takesAway) setAll(mask, tokens, tokenStart[n], tokenStart[next[n]]);
      n = next[n];
      continue;
    }
    const known = from.targets[from.classOf[byte[n]]];
    const state = known === undefined ? automaton.next(from, byte[n]) : known;
    if (state === null) {
      if (takesAway) clearAll(mask, tokens, tokenStart[n], tokenStart[next[n]]);
      n = next[n];
      continue;
    }
    path[d] = state;
    // where no whole character is below, the bytes of one that has begun must be read
    const after = plainBelow[n] > 0 && mayAllFollow(state, plainBelow[n], kindsBelow[n], automaton) ? next[n] : n + 1;
    if (!takesAway) setAll(mask, tokens, tokenStart[n], tokenStart[after]);
    n = after;
  }
  path.length = 0;
  return mask;
}

function allowsMost({ byte, next, tokenStart, tokens, numNodes }: ByteTree, { classOf }: State): boolean {
  let numAllowed = 0;
  for (let n = 0; n < numNodes; n = next[n]) if (classOf[byte[n]] !== 0) numAllowed += tokenStart[next[n]] - tokenStart[n];
  return numAllowed > tokens.length / 2;
}
