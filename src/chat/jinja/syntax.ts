/** The syntax tree of a template. */
import type { Arithmetic } from './arithmetic.ts';
import type { Ordering } from './operators.ts';
import type { Value } from './values.ts';

export type Comparison = Ordering | '==' | '!=' | 'in' | 'not in';

export interface CallArguments {
  readonly args: readonly Expression[];
  readonly kwargs: readonly (readonly [string, Expression])[];
  /** `*args` and `**kwargs` */
  readonly moreArgs: Expression | null;
  readonly moreKwargs: Expression | null;
}

export type Expression =
  | { readonly kind: 'constant'; readonly value: Value }
  | { readonly kind: 'name'; readonly name: string }
  /** `namespace.name`, only as what is assigned to */
  | { readonly kind: 'namespace'; readonly name: string; readonly attribute: string }
  | { readonly kind: 'tuple' | 'list' | 'concat'; readonly items: readonly Expression[] }
  | { readonly kind: 'dict'; readonly pairs: readonly (readonly [Expression, Expression])[] }
  | { readonly kind: 'attribute'; readonly object: Expression; readonly name: string }
  | { readonly kind: 'item'; readonly object: Expression; readonly key: Expression }
  | { readonly kind: 'slice'; readonly object: Expression; readonly bounds: readonly (Expression | null)[] }
  | { readonly kind: 'call'; readonly callee: Expression; readonly call: CallArguments }
  /** `subject` is null in a filter block: what the block wrote */
  | { readonly kind: 'filter'; readonly subject: Expression | null; readonly name: string; readonly call: CallArguments }
  | { readonly kind: 'test'; readonly subject: Expression; readonly name: string; readonly call: CallArguments }
  | { readonly kind: 'arithmetic'; readonly operator: Arithmetic; readonly left: Expression; readonly right: Expression }
  | { readonly kind: 'sign'; readonly operator: '+' | '-'; readonly operand: Expression }
  | { readonly kind: 'not'; readonly operand: Expression }
  | { readonly kind: 'and' | 'or'; readonly left: Expression; readonly right: Expression }
  | { readonly kind: 'compare'; readonly first: Expression; readonly rest: readonly (readonly [Comparison, Expression])[] }
  | { readonly kind: 'if'; readonly test: Expression; readonly value: Expression; readonly otherwise: Expression | null; readonly line: number };

/** What can be assigned to: a name, an attribute of a namespace, or a tuple of such. */
export type Target = Extract<Expression, { kind: 'name' | 'namespace' | 'tuple' | 'list' | 'concat' }>;

export interface Signature {
  readonly parameters: readonly string[];
  /** Of the last parameters. */
  readonly defaults: readonly Expression[];
}

/** A macro or the body of a call block. */
export interface MacroBody extends Signature {
  readonly body: readonly Statement[];
  /** Names that occur in the body, of which `caller`, `varargs` and `kwargs` mean that the macro takes them. */
  readonly names: ReadonlySet<string>;
}

export type Statement =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'print'; readonly value: Expression }
  | { readonly kind: 'set'; readonly target: Target; readonly value: Expression }
  | { readonly kind: 'capture'; readonly target: Target; readonly filter: Expression | null; readonly body: readonly Statement[] }
  | { readonly kind: 'if'; readonly branches: readonly (readonly [Expression, readonly Statement[]])[]; readonly otherwise: readonly Statement[] }
  | {
      readonly kind: 'for';
      readonly target: Target;
      readonly items: Expression;
      readonly test: Expression | null;
      readonly recursive: boolean;
      readonly body: readonly Statement[];
      readonly otherwise: readonly Statement[];
    }
  | { readonly kind: 'break' | 'continue' }
  | { readonly kind: 'macro'; readonly name: string; readonly macro: MacroBody }
  | { readonly kind: 'call'; readonly call: Expression & { kind: 'call' }; readonly macro: MacroBody }
  | { readonly kind: 'filter'; readonly filter: Expression; readonly body: readonly Statement[] }
  | { readonly kind: 'with'; readonly targets: readonly Target[]; readonly values: readonly Expression[]; readonly body: readonly Statement[] }
  | { readonly kind: 'block'; readonly name: string; readonly body: readonly Statement[] }
  /** A tag that needs other templates, of which there are none. */
  | { readonly kind: 'unloadable' };
