import type { Plan, PlanNode, Value, Weight } from '../plan.ts';
import type { OpName } from './index.ts';

/** What an op is, apart from its arithmetic (which `backends/reference/<op>.ts` defines). */
export interface OpDefinition<Attrs extends object> {
  /** Rules of shapes and attributes. Returns the complaint, or null when the node is legal. */
  verify(node: VerifiedNode<Attrs>): string | null;
  /** Attributes in the order in which `encode` writes them; the native side reads them by that order. */
  readonly attrs: AttrLayout<Attrs>;
}

/** How each attribute travels: integer, f32, or the index in a closed list of words, of which the first is meant where an optional attribute is absent. */
export type AttrLayout<Attrs extends object> = { readonly [K in keyof Required<Attrs>]: 'int' | 'float' | readonly string[] };

/** A node with its ids resolved, as `verify` sees it. */
export interface VerifiedNode<Attrs> {
  readonly plan: Plan;
  readonly node: PlanNode<OpName>;
  readonly attrs: Attrs;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly weights: readonly (Weight | null)[];
}
