/** How far a text can go on without the automaton looking at its characters one by one: what lets a mask take many tokens at once. */
import type { Automaton, State } from './automaton.ts';
import { plainBeyondAscii, utf8Sequences } from './code-points.ts';
import { BEYOND_ASCII, byteKinds, MAX_PLAIN } from './vocabulary-tables.ts';

/** States that one search looks at; more are left to the walk. */
const MAX_SEARCHED = 64;
/** Times that a kind is left out which leads elsewhere. */
const MAX_NARROWED = 6;
const bytesOfKind = byteKinds.map((characters) => Buffer.from(characters));
const sequencesBeyondAscii = utf8Sequences(plainBeyondAscii);

/** Kinds of characters that may follow each other in any order, and how many of them at least. */
export interface Run {
  readonly kinds: number;
  readonly length: number;
}

/** What is known of the plain characters behind a state. */
export interface Runs {
  /** All kinds that may follow at once. */
  readonly wide: Run;
  /** Of these only the ones that may also follow each other. */
  readonly narrow: Run;
}

const none: Run = { kinds: 0, length: 0 };

/** Whether texts of at most so many characters of these kinds may follow, whatever they are. */
export function mayAllFollow(state: State, numCharacters: number, kinds: number, automaton: Automaton): boolean {
  if (state.numPlain >= numCharacters) return true;
  state.runs ??= findRuns(state, automaton);
  const { wide, narrow } = state.runs;
  return ((kinds & ~wide.kinds) === 0 && wide.length >= numCharacters) || ((kinds & ~narrow.kinds) === 0 && narrow.length >= numCharacters);
}

function findRuns(state: State, automaton: Automaton): Runs {
  const kinds = kindsOf(state, automaton);
  if (kinds === 0) return { wide: none, narrow: none };
  const wide = findRun(state, kinds, automaton);
  let narrow = wide;
  for (let i = 0; i < MAX_NARROWED && narrow.length < MAX_PLAIN && narrow.closer !== 0 && narrow.closer !== narrow.kinds; i++)
    narrow = findRun(state, narrow.closer, automaton);
  return { wide, narrow };
}

/**
 * Layer by layer through the states behind characters of these kinds, until one does not allow them all.
 * @returns also fewer kinds, which that one does allow or which do not lead to it
 */
function findRun(state: State, kinds: number, automaton: Automaton): Run & { readonly closer: number } {
  let length = MAX_PLAIN;
  let layer = [state];
  const seen = new Set(layer);
  for (let depth = 0; layer.length > 0 && depth < length; depth++) {
    const behind: State[] = [];
    for (const from of layer) {
      for (let kind = 0; kind < 32; kind++) {
        if (((kinds >>> kind) & 1) === 0) continue;
        for (const target of targetsOf(from, kind, automaton)) {
          if (seen.has(target)) continue;
          seen.add(target);
          const left = kindsOf(target, automaton) & kinds;
          if (left !== kinds) return { kinds, length: Math.min(length, depth + 1), closer: numBits(kinds & ~left) > 1 ? kinds & ~(1 << kind) : left };
          if (seen.size > MAX_SEARCHED) return { kinds, length: Math.min(length, depth + 1), closer: 0 };
          const known = target.runs?.wide ?? none;
          if (known.length > 0 && (kinds & ~known.kinds) === 0) length = Math.min(length, depth + 1 + known.length);
          else behind.push(target);
        }
      }
    }
    layer = behind;
  }
  return { kinds, length, closer: 0 };
}

function numBits(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/** The kinds all of whose characters may follow. */
function kindsOf(state: State, automaton: Automaton): number {
  if (state.kinds !== null) return state.kinds;
  let kinds = 0;
  for (const [kind, bytes] of bytesOfKind.entries()) {
    let isAllowed = true;
    for (let i = 0; i < bytes.length && isAllowed; i++) isAllowed = state.classOf[bytes[i]] !== 0 && automaton.next(state, bytes[i]) !== null;
    if (isAllowed) kinds |= 1 << kind;
  }
  if (targetsBeyondAscii(state, automaton) !== null) kinds |= BEYOND_ASCII;
  state.kinds = kinds;
  return kinds;
}

function targetsOf(state: State, kind: number, automaton: Automaton): readonly State[] {
  if (kind === 31) return targetsBeyondAscii(state, automaton) ?? [];
  const targets: State[] = [];
  for (const byte of bytesOfKind[kind]) {
    const target = automaton.next(state, byte);
    if (target !== null && !targets.includes(target)) targets.push(target);
  }
  return targets;
}

/** The states behind plain characters of more than one byte; null when one of them may not follow. */
function targetsBeyondAscii(state: State, automaton: Automaton): readonly State[] | null {
  if (state.classOf[0xc2] === 0) return null;
  if (state.beyondAscii !== undefined) return state.beyondAscii;
  const targets = new Set<State>();
  let isComplete = true;
  for (const ranges of sequencesBeyondAscii) {
    let reached: readonly State[] | null = [state];
    for (const [lo, hi] of ranges) reached = reached === null ? null : statesBehind(reached, lo, hi, automaton);
    if (reached === null) {
      isComplete = false;
      break;
    }
    for (const target of reached) targets.add(target);
  }
  state.beyondAscii = isComplete ? [...targets] : null;
  return state.beyondAscii;
}

/** Null when a byte of the range may not follow one of the states. */
function statesBehind(states: readonly State[], lo: number, hi: number, automaton: Automaton): State[] | null {
  const reached: State[] = [];
  for (const state of states) {
    const { classOf } = state;
    for (let byte = lo; byte <= hi; byte++) {
      if (byte > lo && classOf[byte] === classOf[byte - 1]) continue;
      const next = classOf[byte] === 0 ? null : automaton.next(state, byte);
      if (next === null) return null;
      if (!reached.includes(next)) reached.push(next);
    }
  }
  return reached;
}

const plainAscii = Uint8Array.from(Array.from({ length: 0x5f }, (_, i) => 0x20 + i).filter((byte) => byte !== 0x22 && byte !== 0x5c));

/** Whether the state's `numPlain` plain characters may follow whatever they are, and never one more: as in a string of bounded length. */
export function isPlainExact(state: State, automaton: Automaton): boolean {
  const chain: State[] = [];
  let at = state;
  while (at.isPlainExact === null) {
    chain.push(at);
    if (at.numPlain === 0) {
      at.isPlainExact = allowsNoPlain(at);
      break;
    }
    const before = chain.at(-2);
    const isRound = before !== undefined && readsAtSamePlaces(before, at);
    // a round of a repetition later everything is as it was, but for the count
    const behind: State | null = isRound ? sharedTarget(at, automaton) : plainTarget(at, automaton);
    if (behind === null || behind.numPlain !== at.numPlain - 1) at.isPlainExact = false;
    else at = behind;
  }
  for (const one of chain) one.isPlainExact = at.isPlainExact;
  return at.isPlainExact;
}

function readsAtSamePlaces({ nodes }: State, other: State): boolean {
  return nodes.length === other.nodes.length && nodes.every((node, i) => node === other.nodes[i]);
}

function allowsNoPlain({ classOf }: State): boolean {
  for (const byte of plainAscii) if (classOf[byte] !== 0) return false;
  for (let byte = 0x80; byte < 256; byte++) if (classOf[byte] !== 0) return false;
  return true;
}

/** The one state behind any plain character of one byte, or null. */
function sharedTarget(state: State, automaton: Automaton): State | null {
  const target = automaton.next(state, plainAscii[0]);
  if (target === null) return null;
  for (const byte of plainAscii) if (automaton.next(state, byte) !== target) return null;
  return target;
}

/** The one state behind any plain character, or null. */
function plainTarget(state: State, automaton: Automaton): State | null {
  const target = sharedTarget(state, automaton);
  const others = target === null ? null : targetsBeyondAscii(state, automaton);
  return others?.length === 1 && others[0] === target ? target : null;
}
