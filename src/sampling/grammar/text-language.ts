/**
 * Sets of texts made of patterns: in all of these, in none of those, and so many characters long. Each pattern is a small automaton over code
 * points; they are run side by side and the pairs of states that can occur become one automaton (Rabin and Scott's product).
 */
import { anyCodePoint, type CodePointSet, codePoints, includes, intersection } from './code-points.ts';
import type { AutomatonState, Expression } from './expression.ts';
import { grammarLimits, tooLarge } from './limits.ts';
import type { Regex } from './regex.ts';

/** Nondeterministic, over code points. Node 0 begins, node 1 ends. */
export interface TextAutomaton {
  readonly empty: readonly (readonly number[])[];
  readonly edges: readonly (readonly { readonly set: CodePointSet; readonly target: number }[])[];
}

/** @throws GRAMMAR_TOO_LARGE */
export function textAutomaton(regex: Regex): TextAutomaton {
  const empty: number[][] = [];
  const edges: { set: CodePointSet; target: number }[][] = [];
  const node = () => {
    if (empty.length >= 50_000) throw tooLarge('a pattern', 'at most 50000 automaton nodes');
    edges.push([]);
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
      default:
        return; // anchors are gone by now
    }
  };
  node();
  node();
  add(regex, 0, 1);
  return { empty, edges };
}

export function literalAutomaton(texts: readonly string[]): TextAutomaton {
  const alternatives = texts.map((text): Regex => {
    const parts = Array.from(text, (c): Regex => ({ kind: 'set', set: codePoints([[c.codePointAt(0) ?? 0, c.codePointAt(0) ?? 0]]) }));
    return { kind: 'sequence', parts };
  });
  return textAutomaton({ kind: 'choice', alternatives });
}

function closure(automaton: TextAutomaton, nodes: Iterable<number>): number[] {
  const seen = new Set(nodes);
  for (const node of seen) for (const next of automaton.empty[node]) seen.add(next);
  return [...seen].sort((a, b) => a - b);
}

function step(automaton: TextAutomaton, nodes: readonly number[], codePoint: number): number[] {
  const reached = new Set<number>();
  for (const node of nodes) for (const { set, target } of automaton.edges[node]) if (includes(set, codePoint)) reached.add(target);
  return closure(automaton, reached);
}

/** Whether the automaton reads a whole text. */
export function readsText(automaton: TextAutomaton, text: string): boolean {
  let nodes = closure(automaton, [0]);
  for (const character of text) nodes = step(automaton, nodes, character.codePointAt(0) ?? 0);
  return nodes.includes(1);
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

interface ProductState {
  readonly parts: readonly (readonly number[])[];
  readonly length: number;
}

/**
 * @param spell how a set of characters is written in the output (as such, or escaped for JSON)
 * @throws GRAMMAR_TOO_LARGE when more states can occur than the limit
 */
export function languageExpression(language: TextLanguage, spell: (set: CodePointSet) => Expression, culprit: string): Expression {
  const { all, none = [], minLength = 0, maxLength = Number.POSITIVE_INFINITY } = language;
  const automata = [...all, ...none];
  // beyond these lengths the count does not matter
  const lengthCap = maxLength === Number.POSITIVE_INFINITY ? minLength : maxLength;
  const states: ProductState[] = [{ parts: automata.map((automaton) => closure(automaton, [0])), length: 0 }];
  const known = new Map<string, number>([[keyOf(states[0]), 0]]);
  const built: AutomatonState[] = [];
  for (let i = 0; i < states.length; i++) {
    const state = states[i];
    const isEnd = state.length >= minLength && state.parts.every((nodes, p) => nodes.includes(1) === p < all.length);
    const sets = new Map<number, [number, number][]>();
    if (state.length < maxLength) {
      for (const [lo, hi] of cut(automata, state)) {
        const parts = automata.map((automaton, p) => step(automaton, state.parts[p], lo));
        if (parts.some((nodes, p) => p < all.length && nodes.length === 0)) continue;
        const next = { parts, length: Math.min(state.length + 1, lengthCap) };
        const key = keyOf(next);
        let target = known.get(key);
        if (target === undefined) {
          target = states.push(next) - 1;
          known.set(key, target);
          if (states.length > grammarLimits.patternStates)
            throw tooLarge(culprit, `at most ${grammarLimits.patternStates} states of a pattern with its bounds`);
        }
        const ranges = sets.get(target) ?? [];
        ranges.push([lo, hi]);
        sets.set(target, ranges);
      }
    }
    const edges = Array.from(sets, ([target, ranges]) => ({ set: codePoints(ranges), target }));
    built.push({ isEnd, edges: edges.map(({ set, target }) => ({ label: spell(set), set, target })) });
  }
  return { kind: 'states', states: built };
}

function keyOf({ parts, length }: ProductState): string {
  return `${length};${parts.join(';')}`;
}

/** Ranges of characters that no automaton tells apart in this state. */
function cut(automata: readonly TextAutomaton[], state: ProductState): [number, number][] {
  const starts = new Set([0, 0xd800, 0xe000]);
  for (const [p, automaton] of automata.entries()) {
    for (const node of state.parts[p]) {
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
