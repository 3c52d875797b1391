/** What grammars are written in: front ends build these values, `grammar.ts` makes an automaton of bytes from them. */
import type { CodePointSet } from './code-points.ts';

export type Expression =
  /** One of these byte strings; shared beginnings cost nothing. */
  | { readonly kind: 'literals'; readonly literals: readonly Uint8Array[] }
  /** One byte of these ranges, a character or not. */
  | { readonly kind: 'bytes'; readonly ranges: readonly (readonly [low: number, high: number])[] }
  /** One character of a set in UTF-8. */
  | { readonly kind: 'characters'; readonly set: CodePointSet }
  | { readonly kind: 'sequence'; readonly parts: readonly Expression[] }
  /** No alternatives: matches nothing at all. */
  | {
      readonly kind: 'choice';
      readonly alternatives: readonly Expression[] /** One character of a set that holds all plain ones. */;
      readonly isPlain?: boolean;
    }
  | { readonly kind: 'repeat'; readonly body: Expression; readonly min: number /** May be Infinity. */; readonly max: number }
  | { readonly kind: 'rule'; readonly rule: number }
  /** One space or none, alike at all places of this number: the first place that a text comes to decides. */
  | { readonly kind: 'spacing'; readonly place: SpacingPlace }
  /** An automaton that is there already: state 0 begins. */
  | { readonly kind: 'states'; readonly states: readonly AutomatonState[] };

export interface AutomatonState {
  readonly isEnd: boolean;
  readonly edges: readonly AutomatonEdge[];
}

export interface AutomatonEdge {
  readonly label: Expression;
  readonly target: number;
  /** Given where the label is one character of this set. */
  readonly set?: CodePointSet;
}

/** Behind colons, behind commas. */
export type SpacingPlace = 0 | 1;

const encoder = new TextEncoder();

export const literal = (text: string): Expression => ({ kind: 'literals', literals: [encoder.encode(text)] });
/** Exactly these bytes, which need not be text. */
export const bytes = (exact: Uint8Array): Expression => ({ kind: 'literals', literals: [exact] });
export const literals = (texts: Iterable<string>): Expression => ({ kind: 'literals', literals: Array.from(texts, (text) => encoder.encode(text)) });
export const characters = (set: CodePointSet): Expression => ({ kind: 'characters', set });
export const sequence = (...parts: readonly Expression[]): Expression => ({ kind: 'sequence', parts });
export const choice = (...alternatives: readonly Expression[]): Expression => ({ kind: 'choice', alternatives });
export const repeat = (body: Expression, min: number, max: number): Expression => ({ kind: 'repeat', body, min, max });
export const optional = (body: Expression): Expression => repeat(body, 0, 1);
export const ruleRef = (rule: number): Expression => ({ kind: 'rule', rule });
export const nothing: Expression = { kind: 'choice', alternatives: [] };
export const empty: Expression = { kind: 'sequence', parts: [] };
