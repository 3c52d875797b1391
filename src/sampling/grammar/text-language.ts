/**
 * Sets of texts made of patterns: in all of these, in none of those, and so many characters long. Each pattern is a small automaton over code
 * points; they are run side by side and the pairs of states that can occur become one automaton (Rabin and Scott's product).
 */
import { anyCodePoint, type CodePointSet, codePoints, includes, includesAll, intersection } from './code-points.ts';
import { characters, type Expression } from './expression.ts';
import { grammarLimits, grammarUnsupported, spendWork, tooLarge } from './limits.ts';
import { parseRegex, plainExpression, type Regex, type WantedTexts, wholeOf } from './regex.ts';

/** Nondeterministic, over code points. Node 0 begins, node 1 ends. */
export interface TextAutomaton {
  readonly empty: readonly (readonly number[])[];
  /** Passable without reading where a text begins (`^`), or where it ends (`$`). */
  readonly atStart: readonly (readonly number[])[];
  readonly atEnd: readonly (readonly number[])[];
  readonly edges: readonly (readonly { readonly set: CodePointSet; readonly target: number }[])[];
  /** A node from which every text leads to the end, or -1: who is there need not look at the others. */
  readonly universal: number;
}

/** @throws GRAMMAR_TOO_LARGE, GRAMMAR_UNSUPPORTED for look-ahead that does not stand in front */
export function textAutomaton(regex: Regex, culprit = 'a pattern'): TextAutomaton {
  const empty: number[][] = [];
  const atStart: number[][] = [];
  const atEnd: number[][] = [];
  const edges: { set: CodePointSet; target: number }[][] = [];
  const node = () => {
    if (empty.length >= 50_000) throw tooLarge(culprit, 'at most 50000 automaton nodes');
    edges.push([]);
    atStart.push([]);
    atEnd.push([]);
    return empty.push([]) - 1;
  };
  const add = (part: Regex, from: number, to: number): void => {
    switch (part.kind) {
      case 'set':
        edges[from].push({ set: part.set, target: to });
        return;
      case 'sequence': {
        let at = from;
        for (const inner of part.parts) {
          const next = node();
          add(inner, at, next);
          at = next;
        }
        empty[at].push(to);
        return;
      }
      case 'choice':
        for (const alternative of part.alternatives) add(alternative, from, to);
        return;
      case 'repeat': {
        const { body, min, max } = part;
        let at = from;
        const copies = max === Number.POSITIVE_INFINITY ? min : max;
        for (let i = 0; i < copies; i++) {
          if (i >= min) empty[at].push(to);
          const next = node();
          add(body, at, next);
          at = next;
        }
        if (max === Number.POSITIVE_INFINITY) {
          const loop = node();
          const back = node();
          empty[at].push(loop);
          add(body, loop, back);
          empty[back].push(loop);
          at = loop;
        }
        empty[at].push(to);
        return;
      }
      case 'start':
        atStart[from].push(to);
        return;
      case 'end':
        atEnd[from].push(to);
        return;
      case 'ahead':
        throw grammarUnsupported('look-ahead behind the beginning of a pattern');
    }
  };
  node();
  node();
  add(regex, 0, 1);
  const automaton = { empty, atStart, atEnd, edges, universal: -1 };
  return { ...automaton, universal: findUniversal(automaton) };
}

function findUniversal(automaton: TextAutomaton): number {
  return automaton.edges.findIndex((edges, node) =>
    edges.some(
      ({ set, target }) => includesAll(set, anyCodePoint) && closure(automaton, [node]).includes(1) && closure(automaton, [target]).includes(node),
    ),
  );
}

export function literalAutomaton(texts: readonly string[]): TextAutomaton {
  const alternatives = texts.map((text): Regex => {
    const parts = Array.from(text, (c): Regex => ({ kind: 'set', set: codePoints([[c.codePointAt(0) ?? 0, c.codePointAt(0) ?? 0]]) }));
    return { kind: 'sequence', parts };
  });
  return textAutomaton({ kind: 'choice', alternatives });
}

/** @param place where in a text: whether it begins there, whether it ends there */
function closure(automaton: TextAutomaton, nodes: Iterable<number>, { isStart = false, isEnd = false } = {}): number[] {
  const seen = new Set(nodes);
  for (const node of seen) {
    if (node === automaton.universal && seen.size > 1 && !isStart && !isEnd) return closure(automaton, [node]);
    for (const next of automaton.empty[node]) seen.add(next);
    if (isStart) for (const next of automaton.atStart[node]) seen.add(next);
    if (isEnd) for (const next of automaton.atEnd[node]) seen.add(next);
  }
  return [...seen].sort((a, b) => a - b);
}

function step(automaton: TextAutomaton, nodes: readonly number[], codePoint: number): number[] {
  const reached = new Set<number>();
  for (const node of nodes) for (const { set, target } of automaton.edges[node]) if (includes(set, codePoint)) reached.add(target);
  return closure(automaton, reached);
}

/** Whether the automaton reads a whole text. */
export function readsText(automaton: TextAutomaton, text: string): boolean {
  let nodes = closure(automaton, [0], { isStart: true });
  for (const character of text) nodes = step(automaton, nodes, character.codePointAt(0) ?? 0);
  return closure(automaton, nodes, { isStart: text === '', isEnd: true }).includes(1);
}

export interface TextLanguage {
  /** The text is in each of these. */
  readonly all: readonly TextAutomaton[];
  /** And in none of these. */
  readonly none?: readonly TextAutomaton[];
  /** Code points. */
  readonly minLength?: number;
  readonly maxLength?: number;
}

/** What a search for a pattern comes to, and what it must not come to. */
export interface PatternLanguage {
  readonly all: readonly TextAutomaton[];
  readonly none: readonly TextAutomaton[];
}

/** @throws GRAMMAR_TOO_LARGE, GRAMMAR_UNSUPPORTED */
export function patternLanguage({ all, none }: WantedTexts, source: string): PatternLanguage {
  const automaton = (regex: Regex) => textAutomaton(regex, `the pattern ${JSON.stringify(source.slice(0, 200))}`);
  return { all: all.map(automaton), none: none.map(automaton) };
}

/** The texts that a pattern matches from end to end. @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE */
export function patternExpression(source: string): Expression {
  const regex = parseRegex(source);
  const plain = plainExpression(regex);
  return plain ?? languageExpression(patternLanguage(wholeOf(regex), source), characters, `the pattern ${JSON.stringify(source.slice(0, 200))}`);
}

/** Beside a pattern, a bound on lengths is kept to at least so many characters, or refused. */
const LEAST_MAX_LENGTH = 100;

/** Nodes of each automaton. */
type ProductState = readonly (readonly number[])[];

type Spell = (set: CodePointSet) => Expression;

/**
 * @param spell how a set of characters is written in the output (as such, or escaped for JSON)
 * @throws GRAMMAR_TOO_LARGE when more states can occur than the limit
 */
export function languageExpression(language: TextLanguage, spell: Spell, culprit: string): Expression {
  const { all, none = [], minLength = 0, maxLength = Number.POSITIVE_INFINITY } = language;
  const states = productStates([...all, ...none], all.length, culprit);
  if (minLength === 0 && maxLength === Number.POSITIVE_INFINITY) return asExpression(states, spell);
  // each length has its own copy of the states: where they are too many, texts are kept shorter than they might be
  const most = Math.floor(grammarLimits.patternStates / states.length) - 1;
  const isKept = maxLength <= most || (maxLength === Number.POSITIVE_INFINITY && minLength <= most);
  if (!isKept && most < Math.max(minLength, LEAST_MAX_LENGTH)) {
    const shorter = withLengths(states, minLength, maxLength);
    if (shorter === null) throw tooManyStates(culprit);
    return asExpression(shorter, spell);
  }
  const counted = withLengths(states, minLength, isKept ? maxLength : most);
  if (counted === null) throw tooManyStates(culprit);
  return asExpression(counted, spell);
}

function tooManyStates(culprit: string): Error {
  return tooLarge(culprit, `at most ${grammarLimits.patternStates} states of a pattern with its bounds`);
}

function asExpression(states: readonly BuiltState[], spell: Spell): Expression {
  // sets that are one object are spelt once
  const spelt = new Map<CodePointSet, Expression>();
  const labelOf = (set: CodePointSet) => {
    const label = spelt.get(set) ?? spell(set);
    spelt.set(set, label);
    return label;
  };
  return {
    kind: 'states',
    states: states.map(({ isEnd, edges }) => ({ isEnd, edges: edges.map(({ set, target }) => ({ label: labelOf(set), set, target })) })),
  };
}

/** One copy of the states for each number of characters read; null where that comes to too many. */
function withLengths(states: readonly BuiltState[], minLength: number, maxLength: number): BuiltState[] | null {
  // beyond this the count does not matter
  const cap = maxLength === Number.POSITIVE_INFINITY ? minLength : maxLength;
  const copies: { readonly of: number; readonly length: number }[] = [{ of: 0, length: 0 }];
  const known = new Map<number, number>([[0, 0]]);
  const built: BuiltState[] = [];
  for (const { of, length } of copies) {
    const next = Math.min(length + 1, cap);
    const edges = length >= maxLength ? [] : states[of].edges;
    built.push({
      isEnd: length >= minLength && states[of].isEnd,
      edges: edges.map(({ set, target }) => {
        const key = next * states.length + target;
        let copy = known.get(key);
        if (copy === undefined) {
          copy = copies.push({ of: target, length: next }) - 1;
          known.set(key, copy);
        }
        return { set, target: copy };
      }),
    });
    if (copies.length > grammarLimits.patternStates) return null;
  }
  return built;
}

interface BuiltState {
  readonly isEnd: boolean;
  readonly edges: readonly { readonly set: CodePointSet; readonly target: number }[];
}

/** The automata side by side; a text must be in each of the first `numAll` and in none of the others. */
function productStates(automata: readonly TextAutomaton[], numAll: number, culprit: string): BuiltState[] {
  const states: ProductState[] = [automata.map((automaton) => closure(automaton, [0], { isStart: true }))];
  // the beginning of a text is a place of its own where a pattern asks for it
  const hasStart = automata.some(({ atStart }) => atStart.some((targets) => targets.length > 0));
  const known = new Map<string, number>(hasStart ? [] : [[states[0].join(';'), 0]]);
  const built: BuiltState[] = [];
  for (const [i, state] of states.entries()) {
    const place = { isStart: i === 0, isEnd: true };
    const isEnd = automata.every((automaton, p) => closure(automaton, state[p], place).includes(1) === p < numAll);
    const sets = new Map<number, [number, number][]>();
    for (const [lo, hi] of cut(automata, state)) {
      spendWork(1);
      const next = automata.map((automaton, p) => step(automaton, state[p], lo));
      if (next.some((nodes, p) => p < numAll && nodes.length === 0)) continue;
      const key = next.join(';');
      let target = known.get(key);
      if (target === undefined) {
        target = states.push(next) - 1;
        known.set(key, target);
        if (states.length > grammarLimits.patternStates) throw tooManyStates(culprit);
      }
      const ranges = sets.get(target) ?? [];
      ranges.push([lo, hi]);
      sets.set(target, ranges);
    }
    built.push({ isEnd, edges: Array.from(sets, ([target, ranges]) => ({ set: codePoints(ranges), target })) });
  }
  return built;
}

/** A language of several automata as a single one, so that it can be forbidden as well as asked for. @throws GRAMMAR_TOO_LARGE */
export function oneAutomaton({ all, none }: PatternLanguage, culprit: string): TextAutomaton {
  const states = productStates([...all, ...none], all.length, culprit);
  // states lie behind the two nodes where every automaton begins and ends
  const edges = [[], [], ...states.map((state) => state.edges.map(({ set, target }) => ({ set, target: target + 2 })))];
  const nowhere = edges.map(() => []);
  const empty = [[2], [], ...states.map(({ isEnd }) => (isEnd ? [1] : []))];
  return { empty, atStart: nowhere, atEnd: nowhere, edges, universal: -1 };
}

/** Ranges of characters that no automaton tells apart in this state. */
function cut(automata: readonly TextAutomaton[], state: ProductState): [number, number][] {
  const starts = new Set([0, 0xd800, 0xe000]);
  for (const [p, automaton] of automata.entries()) {
    for (const node of state[p]) {
      for (const { set } of automaton.edges[node]) {
        for (const [lo, hi] of set) {
          starts.add(lo);
          starts.add(hi + 1);
        }
      }
    }
  }
  const sorted = [...starts].filter((start) => start <= 0x10ffff).sort((a, b) => a - b);
  const ranges = sorted.map((lo, i): [number, number] => [lo, (sorted[i + 1] ?? 0x110000) - 1]);
  return ranges.filter(([lo]) => intersection(anyCodePoint, [[lo, lo]]).length > 0);
}
