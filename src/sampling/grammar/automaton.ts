/**
 * A grammar being read: sets of (node, stack) pairs, made only when a text or a mask comes by and kept for the next time. Such a set is a state;
 * following a known byte from a known state is two array reads.
 */
import { type ByteClasses, ByteClassTable } from './byte-classes.ts';
import { EDGE_BYTES, EDGE_CALL, EDGE_EMPTY, EDGE_SPACING, type Grammar } from './grammar.ts';
import { KeptMemory } from './kept-memory.ts';
import { grammarLimits, tooLarge } from './limits.ts';
import type { Runs } from './runs.ts';

/** Where to go on when a rule ends: a return address with, for repetitions, the round that is being read. Equal stacks are one object. */
class Frame {
  readonly id: number;
  readonly edge: number;
  readonly round: number;
  readonly parent: Frame | null;
  readonly depth: number;
  /** What the text decided about spaces at each `SpacingPlace`, two bits each: 0 nothing yet, 1 a space, 2 none. */
  readonly spacing: number;
  readonly children = new Map<number, Frame>();

  constructor(id: number, edge: number, round: number, parent: Frame | null, spacing: number) {
    this.id = id;
    this.edge = edge;
    this.round = round;
    this.parent = parent;
    this.depth = parent === null ? 0 : parent.depth + 1;
    this.spacing = spacing;
  }
}

const tooManyReadings = () => tooLarge('a text can be read in too many ways', `at most ${grammarLimits.configs} at a time`);

/** Pairs in the order in which they were found, each once. */
class Reached {
  readonly nodes: number[] = [];
  readonly frames: Frame[] = [];
  length = 0;
  /** Used beyond a few, which are looked through. */
  readonly #seen = new Set<number>();

  clear(): void {
    if (this.length > FEW) this.#seen.clear();
    this.length = 0;
  }

  add(node: number, frame: Frame): void {
    const { nodes, frames, length } = this;
    if (length < FEW) {
      for (let i = 0; i < length; i++) if (nodes[i] === node && frames[i] === frame) return;
    } else {
      if (length === FEW) for (let i = 0; i < length; i++) this.#seen.add(keyOf(nodes[i], frames[i]));
      const key = keyOf(node, frame);
      if (this.#seen.has(key)) return;
      this.#seen.add(key);
      if (length >= 8 * grammarLimits.configs) throw tooManyReadings();
    }
    nodes[length] = node;
    frames[length] = frame;
    this.length++;
  }
}

const FEW = 16;

/** Nodes are below 2^17. */
function keyOf(node: number, frame: Frame): number {
  return frame.id * 2 ** 17 + node;
}

/** Room for one search at a time. */
const reached = new Reached();

/** What a state takes, about, beside its places and its mask. */
const STATE_BYTES = 1000;
/** Values of `Frame.spacing`: two places. */
const NUM_SPACINGS = 16;

export class State {
  readonly nodes: Int32Array;
  readonly frames: readonly Frame[];
  /** The text may end here. */
  readonly isAccepting: boolean;
  /** Plain characters that may follow at once, whatever they are: 0 to Infinity. */
  readonly numPlain: number;
  /** Byte -> class; class 0 leads nowhere. */
  readonly classOf: Uint8Array;
  /** One byte of each class. */
  readonly sampleOf: Uint8Array;
  /** Class -> state, undefined where not known yet. */
  readonly targets: (State | null | undefined)[];
  /** The byte that must follow, or -1 where several may or the text may end. */
  readonly forcedByte: number;
  /** The token that must follow, -1 where there is none, -2 where nobody has asked. */
  forcedToken = -2;
  /** See `runs.ts`; null and undefined where nobody has asked. */
  kinds: number | null = null;
  runs: Runs | null = null;
  beyondAscii: readonly State[] | null | undefined = undefined;
  /** See `runs.ts`: whether exactly `numPlain` plain characters may follow in a row. */
  isPlainExact: boolean | null = null;
  /** Set bits: token ids that may follow. */
  mask: Uint32Array | null = null;

  constructor({ classOf, sampleOf, onlyByte }: ByteClasses, nodes: Int32Array, frames: readonly Frame[], isAccepting: boolean, numPlain: number) {
    this.nodes = nodes;
    this.frames = frames;
    this.isAccepting = isAccepting;
    this.numPlain = numPlain;
    this.forcedByte = isAccepting ? -1 : onlyByte;
    this.classOf = classOf;
    this.sampleOf = sampleOf;
    this.targets = new Array(sampleOf.length).fill(undefined);
    this.targets[0] = null;
  }

  /** No byte may follow: the text is complete. */
  get isFinal(): boolean {
    return this.targets.length === 1;
  }
}

export class Automaton {
  readonly grammar: Grammar;
  #states = new Map<string | number, State>();
  readonly #classes: ByteClassTable;
  /** The bottom of the stack for each spacing. */
  readonly #roots: readonly Frame[];
  #numFrames = 0;
  readonly #memory: KeptMemory;
  readonly #start: State;

  /** @param memory counts what is kept here, other grammars' too where they share it */
  constructor(grammar: Grammar, memory = new KeptMemory(grammarLimits.keptBytes)) {
    this.grammar = grammar;
    this.#memory = memory;
    this.#classes = new ByteClassTable(grammar);
    this.#roots = Array.from({ length: NUM_SPACINGS }, (_, spacing) => new Frame(this.#numFrames++, -1, 0, null, spacing));
    this.#start = this.#close([grammar.ruleStart[0]], [this.#roots[0]]) as State;
  }

  get start(): State {
    return this.#start;
  }

  /** States kept; for tests and measurements. */
  get numStates(): number {
    return this.#states.size;
  }

  /** @returns the state behind a byte, or null when the byte may not follow. @throws GRAMMAR_TOO_LARGE when the text has too many readings */
  next(state: State, byte: number): State | null {
    const at = state.classOf[byte];
    const known = state.targets[at];
    if (known !== undefined) return known;
    const { grammar } = this;
    const sample = state.sampleOf[at];
    const nodes: number[] = [];
    const frames: Frame[] = [];
    for (let i = 0; i < state.nodes.length; i++) {
      const node = state.nodes[i];
      for (let e = grammar.edgeStart[node]; e < grammar.edgeStart[node + 1]; e++) {
        if (grammar.edgeKind[e] !== EDGE_BYTES || sample < grammar.edgeA[e] || sample > grammar.edgeB[e]) continue;
        nodes.push(grammar.edgeTarget[e]);
        frames.push(state.frames[i]);
      }
    }
    const next = this.#close(nodes, frames);
    state.targets[at] = next;
    return next;
  }

  keepMask(state: State, mask: Uint32Array): void {
    this.#memory.grow(this, mask.byteLength);
    state.mask = mask;
  }

  /** Drops all that is known; it is found again as it is needed. */
  forget(): void {
    this.#states = new Map();
    for (const root of this.#roots) root.children.clear();
    // what the start leads to would keep all of it alive
    if (this.#start !== undefined) {
      this.#start.targets.fill(undefined, 1);
      this.#start.mask = null;
    }
  }

  /** All that can be reached without reading, as a state; null when that is nothing. */
  #close(seedNodes: readonly number[], seedFrames: readonly Frame[]): State | null {
    const { grammar } = this;
    reached.clear();
    for (let i = 0; i < seedNodes.length; i++) reached.add(seedNodes[i], seedFrames[i]);
    const keys: number[] = [];
    const nodes: number[] = [];
    const frames: Frame[] = [];
    let isAccepting = false;
    let numPlain = 0;
    for (let i = 0; i < reached.length; i++) {
      const node = reached.nodes[i];
      const frame = reached.frames[i];
      if (grammar.isEnd[node] === 1) {
        if (frame.edge < 0) {
          isAccepting = true;
          keys.push(-1 - frame.id);
        } else numPlain = Math.max(numPlain, this.#return(frame));
        continue;
      }
      numPlain = Math.max(numPlain, grammar.numPlain[node]);
      let readsBytes = false;
      for (let e = grammar.edgeStart[node]; e < grammar.edgeStart[node + 1]; e++) {
        const kind = grammar.edgeKind[e];
        if (kind === EDGE_BYTES) readsBytes = true;
        else if (kind === EDGE_EMPTY) reached.add(grammar.edgeTarget[e], frame);
        else if (kind === EDGE_CALL) {
          // nothing is left to do after the call when its target ends the rule: the caller's return address serves
          const isTail = grammar.isEnd[grammar.edgeTarget[e]] === 1;
          this.#enter(grammar.edgeA[e], isTail ? frame : this.#push(e, 0, frame));
        } else if (kind === EDGE_SPACING) {
          const spaced = this.#decided(frame, grammar.edgeA[e], grammar.edgeB[e]);
          if (spaced !== null) reached.add(grammar.edgeTarget[e], spaced);
        } else {
          if (grammar.edgeMin[e] === 0) reached.add(grammar.edgeTarget[e], frame);
          numPlain = Math.max(numPlain, this.#startRound(e, 1, frame));
        }
      }
      if (!readsBytes) continue;
      keys.push(frame.id * grammar.numNodes + node);
      nodes.push(node);
      frames.push(frame);
    }
    if (keys.length === 0) return null;
    if (keys.length > grammarLimits.configs) throw tooManyReadings();
    return this.#intern(keys, nodes, frames, isAccepting, numPlain);
  }

  #intern(keys: number[], nodes: readonly number[], frames: readonly Frame[], isAccepting: boolean, numPlain: number): State {
    const key = keys.length === 1 ? keys[0] : keys.sort((a, b) => a - b).join();
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    if (this.#states.size >= grammarLimits.states) {
      this.#memory.release(this);
      this.forget();
    }
    this.#memory.grow(this, STATE_BYTES + 16 * nodes.length);
    const state = new State(this.#classes.of(nodes), Int32Array.from(nodes), frames, isAccepting, numPlain);
    this.#states.set(key, state);
    return state;
  }

  #push(edge: number, round: number, parent: Frame): Frame {
    // rounds stay below 2^21, edges below 2^20
    const key = edge * 2 ** 21 + round;
    const known = parent.children.get(key);
    if (known !== undefined) return known;
    const frame = new Frame(this.#numFrames++, edge, round, parent, parent.spacing);
    parent.children.set(key, frame);
    return frame;
  }

  /** The same stack in a text whose spacing at a place is so; null where it is decided otherwise. */
  #decided(frame: Frame, place: number, choice: number): Frame | null {
    const known = (frame.spacing >>> (2 * place)) & 3;
    if (known !== 0) return known === choice ? frame : null;
    return this.#moved(frame, this.#roots[frame.spacing | (choice << (2 * place))]);
  }

  #moved({ edge, round, parent }: Frame, root: Frame): Frame {
    return parent === null ? root : this.#push(edge, round, this.#moved(parent, root));
  }

  #enter(rule: number, frame: Frame): void {
    if (frame.depth <= grammarLimits.depth) reached.add(this.grammar.ruleStart[rule], frame);
  }

  /** Enters a round of a repetition. @returns plain characters that may follow by it */
  #startRound(edge: number, round: number, parent: Frame): number {
    const { grammar } = this;
    const rule = grammar.edgeA[edge];
    this.#enter(rule, this.#push(edge, round, parent));
    if (grammar.isPlainRule[rule] === 0) return 0;
    return grammar.edgeMax[edge] - round + 1;
  }

  /** Goes on behind the call that a frame stands for. @returns plain characters that may follow by it */
  #return(frame: Frame): number {
    const { grammar } = this;
    const { edge, round, parent } = frame;
    if (parent === null) return 0;
    if (round === 0) {
      reached.add(grammar.edgeTarget[edge], parent);
      return 0;
    }
    if (round >= grammar.edgeMin[edge]) reached.add(grammar.edgeTarget[edge], parent);
    // without an upper bound, rounds beyond the lower one are all alike
    const max = grammar.edgeMax[edge];
    if (round >= max) return 0;
    return this.#startRound(edge, max === Number.POSITIVE_INFINITY ? Math.min(round + 1, grammar.edgeMin[edge]) : round + 1, parent);
  }
}
