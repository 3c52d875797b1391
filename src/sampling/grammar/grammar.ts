/**
 * A grammar over bytes as a recursive transition network: each rule is a small automaton whose edges read a byte, read nothing, or call a rule
 * (once or a counted number of times). Repetition is counted while reading, never written out, so `maxLength: 100000` costs one edge.
 */
import { includesAll, plainCodePoints, utf8Sequences } from './code-points.ts';
import type { AutomatonState, Expression } from './expression.ts';
import { checkLeftRecursion, findLive } from './grammar-checks.ts';
import { grammarInvalid, grammarLimits, tooLarge } from './limits.ts';
import { plainDepths } from './plain-depths.ts';

export const EDGE_BYTES = 0;
export const EDGE_EMPTY = 1;
export const EDGE_CALL = 2;
export const EDGE_REPEAT = 3;
/** Passable where the text's spacing is so, or not decided yet. */
export const EDGE_SPACING = 4;

/** Ready to run. Edges of node n are `[edgeStart[n], edgeStart[n + 1])`; only edges from which the rule's end can be reached are left. */
export interface Grammar {
  readonly numNodes: number;
  readonly edgeStart: Int32Array;
  /** EDGE_BYTES: a..b is the range of bytes. EDGE_CALL and EDGE_REPEAT: a is the rule. EDGE_SPACING: a is the place, b 1 with a space, 2 without. */
  readonly edgeKind: Uint8Array;
  readonly edgeA: Int32Array;
  readonly edgeB: Int32Array;
  readonly edgeTarget: Int32Array;
  readonly edgeMin: Float64Array;
  readonly edgeMax: Float64Array;
  readonly ruleStart: Int32Array;
  /** 1 where the node ends its rule; such nodes have no edges. */
  readonly isEnd: Uint8Array;
  /** Plain characters that may follow in a row at least, whatever they are; Infinity in a loop over all of them. */
  readonly numPlain: Float64Array;
  /** 1 for rules that are one character of a set that holds all plain ones. */
  readonly isPlainRule: Uint8Array;
  /** Whether some text holds a byte below a space. */
  readonly hasControls: boolean;
  /** Rule 0 is the whole text. */
  readonly ruleNames: readonly string[];
}

export interface Edge {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly min: number;
  readonly max: number;
  readonly target: number;
}

export class GrammarBuilder {
  readonly #names: string[] = [];
  readonly #bodies: (Expression | null)[] = [];
  #nodes: Edge[][] = [];
  #numEdges = 0;
  #ends: number[] = [];
  #plain = new Map<number, number>();
  #plainRules = new Set<number>();
  readonly #automata: { readonly states: readonly AutomatonState[]; readonly nodes: readonly number[] }[] = [];

  /** Declares a rule; rule 0 is the start. */
  addRule(name: string, body: Expression | null = null): number {
    if (this.#names.length >= grammarLimits.rules) throw tooLarge(`the rule ${name}`, `at most ${grammarLimits.rules} rules`);
    this.#names.push(name);
    this.#bodies.push(body);
    return this.#names.length - 1;
  }

  define(rule: number, body: Expression): void {
    this.#bodies[rule] = body;
  }

  /** @throws GRAMMAR_INVALID when nothing matches or a rule calls itself before reading anything, GRAMMAR_TOO_LARGE */
  build(): Grammar {
    const starts: number[] = [];
    for (let rule = 0; rule < this.#bodies.length; rule++) {
      const body = this.#bodies[rule];
      if (body === null) throw grammarInvalid(`The rule ${this.#names[rule]} is used but not defined.`);
      const start = this.#node();
      const end = this.#node();
      starts.push(start);
      this.#ends.push(end);
      if (isPlainCharacter(body)) this.#plainRules.add(rule);
      this.#compile(body, start, end, 0);
    }
    const live = findLive(this.#nodes, starts, this.#ends);
    if (live[starts[0]] === 0) throw grammarInvalid('The structured output allows no text at all: its constraints contradict each other.');
    this.#markPlain(live);
    const kept = this.#nodes.map((edges) => edges.filter((edge) => isUsable(edge, live, starts)));
    checkLeftRecursion(kept, starts, this.#ends, this.#names);
    return this.#freeze(kept, starts);
  }

  #node(): number {
    if (this.#nodes.length >= grammarLimits.nodes) throw tooLarge('it has too many parts', `at most ${grammarLimits.nodes} automaton nodes`);
    this.#nodes.push([]);
    return this.#nodes.length - 1;
  }

  #edge(from: number, edge: Edge): void {
    if (++this.#numEdges > grammarLimits.edges) throw tooLarge('it has too many parts', `at most ${grammarLimits.edges} automaton edges`);
    this.#nodes[from].push(edge);
  }

  #bytes(from: number, lo: number, hi: number, target: number): void {
    this.#edge(from, { kind: EDGE_BYTES, a: lo, b: hi, min: 0, max: 0, target });
  }

  #empty(from: number, target: number): void {
    this.#edge(from, { kind: EDGE_EMPTY, a: 0, b: 0, min: 0, max: 0, target });
  }

  #compile(body: Expression, from: number, to: number, depth: number): void {
    if (depth > 4 * grammarLimits.nesting) throw tooLarge('it is nested too deeply', `at most ${grammarLimits.nesting} levels`);
    switch (body.kind) {
      case 'literals':
        this.#compileLiterals(body.literals, from, to);
        return;
      case 'characters':
        this.#compileCharacters(body, from, to);
        return;
      case 'bytes':
        for (const [low, high] of body.ranges) this.#bytes(from, low, high, to);
        return;
      case 'sequence': {
        let at = from;
        for (const [i, part] of body.parts.entries()) {
          const next = i === body.parts.length - 1 ? to : this.#node();
          this.#compile(part, at, next, depth + 1);
          at = next;
        }
        if (body.parts.length === 0) this.#empty(from, to);
        return;
      }
      case 'choice':
        for (const alternative of body.alternatives) this.#compile(alternative, from, to, depth + 1);
        return;
      case 'rule':
        this.#edge(from, { kind: EDGE_CALL, a: body.rule, b: 0, min: 1, max: 1, target: to });
        return;
      case 'repeat':
        this.#compileRepeat(body, from, to, depth);
        return;
      case 'spacing': {
        const space = this.#node();
        this.#edge(from, { kind: EDGE_SPACING, a: body.place, b: 1, min: 0, max: 0, target: space });
        this.#bytes(space, 0x20, 0x20, to);
        this.#edge(from, { kind: EDGE_SPACING, a: body.place, b: 2, min: 0, max: 0, target: to });
        return;
      }
      case 'states':
        this.#compileStates(body.states, from, to, depth);
        return;
    }
  }

  #compileRepeat(body: Extract<Expression, { kind: 'repeat' }>, from: number, to: number, depth: number): void {
    const { min, max } = body;
    if (min > max) return;
    if (max === 0) {
      this.#empty(from, to);
      return;
    }
    if (max !== Number.POSITIVE_INFINITY && max > grammarLimits.repeat) {
      throw tooLarge('a bound of a repetition', `at most ${grammarLimits.repeat}`, String(max));
    }
    if (min > grammarLimits.repeat) throw tooLarge('a bound of a repetition', `at most ${grammarLimits.repeat}`, String(min));
    if (max === 1) {
      if (min === 0) this.#empty(from, to);
      this.#compile(body.body, from, to, depth + 1);
      return;
    }
    if (max === Number.POSITIVE_INFINITY && min <= 1) {
      const loop = this.#node();
      if (min === 0) this.#empty(from, loop);
      else this.#compile(body.body, from, loop, depth + 1);
      this.#compile(body.body, loop, loop, depth + 1);
      this.#empty(loop, to);
      if (isPlainCharacter(body.body)) this.#plain.set(loop, Number.POSITIVE_INFINITY);
      return;
    }
    let rule: number;
    if (body.body.kind === 'rule') rule = body.body.rule;
    else rule = this.addRule('repetition', body.body); // compiled when its turn comes
    this.#edge(from, { kind: EDGE_REPEAT, a: rule, b: 0, min, max, target: to });
  }

  #compileLiterals(texts: readonly Uint8Array[], from: number, to: number): void {
    const roots = new Map<number, LiteralNode>();
    for (const text of texts) {
      if (text.length === 0) {
        this.#empty(from, to);
        continue;
      }
      let at = from;
      let children = roots;
      for (const byte of text.subarray(0, -1)) {
        let child = children.get(byte);
        if (child === undefined) {
          child = { node: this.#node(), children: new Map() };
          children.set(byte, child);
          this.#bytes(at, byte, byte, child.node);
        }
        at = child.node;
        children = child.children;
      }
      this.#bytes(at, text[text.length - 1], text[text.length - 1], to);
    }
  }

  #compileCharacters({ set }: { readonly set: Parameters<typeof utf8Sequences>[0] }, from: number, to: number): void {
    for (const ranges of utf8Sequences(set)) {
      let at = from;
      for (const [i, [lo, hi]] of ranges.entries()) {
        const next = i === ranges.length - 1 ? to : this.#node();
        this.#bytes(at, lo, hi, next);
        at = next;
      }
    }
  }

  #compileStates(states: readonly AutomatonState[], from: number, to: number, depth: number): void {
    const nodes = states.map(() => this.#node());
    this.#empty(from, nodes[0]);
    for (const [i, { isEnd, edges }] of states.entries()) {
      if (isEnd) this.#empty(nodes[i], to);
      for (const { label, target } of edges) {
        this.#compile(label, nodes[i], nodes[target], depth + 1);
      }
    }
    this.#automata.push({ states, nodes });
  }

  #markPlain(live: Uint8Array): void {
    for (const { states, nodes } of this.#automata) {
      const depths = plainDepths(states, (i) => live[nodes[i]] === 1);
      for (const [i, depth] of depths.entries()) if (depth > 0) this.#plain.set(nodes[i], depth);
    }
  }

  #freeze(nodes: readonly (readonly Edge[])[], starts: readonly number[]): Grammar {
    const edges = nodes.flat();
    const edgeStart = new Int32Array(nodes.length + 1);
    for (const [n, list] of nodes.entries()) edgeStart[n + 1] = edgeStart[n] + list.length;
    const numPlain = new Float64Array(nodes.length);
    for (const [node, count] of this.#plain) numPlain[node] = count;
    const flags = (length: number, set: Iterable<number>) => {
      const array = new Uint8Array(length);
      for (const i of set) array[i] = 1;
      return array;
    };
    return {
      numNodes: nodes.length,
      edgeStart,
      edgeKind: Uint8Array.from(edges, (edge) => edge.kind),
      edgeA: Int32Array.from(edges, (edge) => edge.a),
      edgeB: Int32Array.from(edges, (edge) => edge.b),
      edgeTarget: Int32Array.from(edges, (edge) => edge.target),
      edgeMin: Float64Array.from(edges, (edge) => edge.min),
      edgeMax: Float64Array.from(edges, (edge) => edge.max),
      ruleStart: Int32Array.from(starts),
      isEnd: flags(nodes.length, this.#ends),
      numPlain,
      isPlainRule: flags(starts.length, this.#plainRules),
      hasControls: edges.some((edge) => edge.kind === EDGE_BYTES && edge.a < 0x20),
      ruleNames: this.#names,
    };
  }
}

interface LiteralNode {
  readonly node: number;
  readonly children: Map<number, LiteralNode>;
}

/** One character, of all plain ones at least. */
function isPlainCharacter(body: Expression): boolean {
  if (body.kind === 'characters') return includesAll(body.set, plainCodePoints);
  return body.kind === 'choice' && (body.isPlain === true || body.alternatives.some(isPlainCharacter));
}

function isUsable(edge: Edge, live: Uint8Array, starts: readonly number[]): boolean {
  if (live[edge.target] === 0) return false;
  if (edge.kind === EDGE_BYTES || edge.kind === EDGE_EMPTY || edge.kind === EDGE_SPACING) return true;
  return live[starts[edge.a]] === 1 || edge.min === 0; // a repetition of the impossible is kept for its zero times
}
