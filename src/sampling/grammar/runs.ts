/** How far a text can go on without the automaton looking at its characters one by one: what lets a mask take many tokens at once. */
import type { Automaton, State } from './automaton.ts';
import { byteKinds, MAX_PLAIN } from './vocabulary-trie.ts';

const bytesOfKind = byteKinds.map((characters) => Buffer.from(characters));

/**
 * Finds the kinds of bytes that all lead from a state to the same next one, and how many of those may follow each other: without end where that is
 * the state itself, as in `[a-z]*`, else as long as the states behind it say so too, as in `[a-z]{3,20}`.
 */
export function findRun(state: State, automaton: Automaton, depth = 0): void {
  state.runKinds = 0;
  let target: State | null = null;
  for (const [kind, bytes] of bytesOfKind.entries()) {
    const reached = sharedTarget(state, bytes, automaton);
    if (reached === null || (target !== null && reached !== target)) continue;
    target = reached;
    state.runKinds |= 1 << kind;
  }
  if (target === null) return;
  state.runLength = target === state ? Number.POSITIVE_INFINITY : 1;
  if (target === state || depth >= MAX_PLAIN) return;
  if (target.runKinds < 0) findRun(target, automaton, depth + 1);
  if ((state.runKinds & ~target.runKinds) === 0) state.runLength += target.runLength;
}

function sharedTarget(state: State, bytes: Uint8Array, automaton: Automaton): State | null {
  const target = automaton.next(state, bytes[0]);
  if (target === null) return null;
  for (let i = 1; i < bytes.length; i++) if (automaton.next(state, bytes[i]) !== target) return null;
  return target;
}

const plainAscii = Uint8Array.from(Array.from({ length: 0x5f }, (_, i) => 0x20 + i).filter((byte) => byte !== 0x22 && byte !== 0x5c));

/**
 * Whether the state's `numPlain` plain characters may follow whatever they are, and never one more: as in a string of bounded length.
 * @param isRound the state before was found to be so and reads at the same places, a round of a repetition earlier: then only its round differs
 */
export function isPlainExact(state: State, automaton: Automaton, isRound = false): boolean {
  if (state.isPlainExact !== null) return state.isPlainExact;
  if (state.numPlain === 0) state.isPlainExact = allowsNoPlain(state);
  else {
    const behind = isRound ? sharedTarget(state, plainAscii, automaton) : plainTarget(state, automaton);
    const goesOn = behind !== null && behind.numPlain === state.numPlain - 1;
    state.isPlainExact = goesOn && isPlainExact(behind, automaton, readsAtSamePlaces(state, behind));
  }
  return state.isPlainExact;
}

function readsAtSamePlaces({ nodes }: State, other: State): boolean {
  return nodes.length === other.nodes.length && nodes.every((node, i) => node === other.nodes[i]);
}

function allowsNoPlain({ classOf }: State): boolean {
  for (const byte of plainAscii) if (classOf[byte] !== 0) return false;
  for (let byte = 0x80; byte < 256; byte++) if (classOf[byte] !== 0) return false;
  return true;
}

/** The one state behind any plain character, or null. */
function plainTarget(state: State, automaton: Automaton): State | null {
  const target = sharedTarget(state, plainAscii, automaton);
  if (target === null) return null;
  for (const [lo, hi, length] of leads) {
    let reached = statesBehind([state], lo, hi, automaton);
    for (let i = 1; i < length; i++) reached = statesBehind(reached, 0x80, 0xbf, automaton);
    for (const one of reached) if (one !== target) return null;
  }
  return target;
}

/** First bytes of characters of two to four. */
const leads = [
  [0xc2, 0xdf, 2],
  [0xe0, 0xef, 3],
  [0xf0, 0xf4, 4],
] as const;

function statesBehind(states: Iterable<State>, lo: number, hi: number, automaton: Automaton): Set<State> {
  const reached = new Set<State>();
  for (const state of states) {
    for (let byte = lo; byte <= hi; byte++) {
      const next = automaton.next(state, byte);
      if (next !== null) reached.add(next);
    }
  }
  return reached;
}
