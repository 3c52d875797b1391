/** Expressions as closures: compiled once per template, called for each value. */
import { maxArguments } from './arguments.ts';
import { arithmetic, concatenated, signed } from './arithmetic.ts';
import { getAttribute, getItem, getSlice } from './attributes.ts';
import { JinjaError, TemplateTooLarge, typeError } from './errors.ts';
import { filters } from './filters.ts';
import { isTests } from './is-tests.ts';
import { methodOf } from './methods.ts';
import { contains, equal, hashable, itemsOf, ordered, truthy } from './operators.ts';
import type { Runtime } from './runtime.ts';
import type { Scope } from './scope.ts';
import type { CallArguments, Comparison, Expression } from './syntax.ts';
import { str } from './text.ts';
import { isString, type Kwargs, noKwargs, PyCallable, PyDict, PyTuple, typeName, Undefined, type Value } from './values.ts';

export type Evaluate = (rt: Runtime, scope: Scope) => Value;

/** `received` evaluates to what a filter block wrote. */
export function compileExpression(expression: Expression, received: Evaluate | null = null): Evaluate {
  const compile = (part: Expression): Evaluate => compileExpression(part, received);
  switch (expression.kind) {
    case 'constant': {
      const { value } = expression;
      return () => value;
    }
    case 'name':
    case 'namespace':
      return compileName(expression.name);
    case 'list':
    case 'tuple':
      return compileItems(expression.items.map(compile), expression.kind);
    case 'concat':
      return compileConcat(expression.items.map(compile));
    case 'dict':
      return compileDict(expression.pairs.map(([key, value]) => [compile(key), compile(value)]));
    case 'attribute':
      return compileAttribute(compile(expression.object), expression.name);
    case 'item':
      return compileItem(compile(expression.object), compile(expression.key));
    case 'slice':
      return compileSlice(
        compile(expression.object),
        expression.bounds.map((bound) => (bound === null ? () => null : compile(bound))),
      );
    case 'call':
      return compileCall(expression.callee, compileArguments(expression.call));
    case 'filter':
      return compileFilter(expression, expression.subject === null ? received : compile(expression.subject));
    case 'test':
      return compileTest(compile(expression.subject), expression.name, compileArguments(expression.call));
    case 'if':
      return compileCondition(
        compile(expression.test),
        compile(expression.value),
        expression.otherwise === null ? null : compile(expression.otherwise),
        expression.line,
      );
    case 'compare':
      return compileComparison(
        compile(expression.first),
        expression.rest.map(([operator, operand]) => [operator, compile(operand)]),
      );
    default:
      return compileOperator(expression, compile);
  }
}

function compileOperator(
  expression: Extract<Expression, { kind: 'arithmetic' | 'sign' | 'not' | 'and' | 'or' }>,
  compile: (part: Expression) => Evaluate,
): Evaluate {
  if (expression.kind === 'sign' || expression.kind === 'not') {
    const operand = compile(expression.operand);
    if (expression.kind === 'not') return (rt, scope) => !truthy(operand(rt, scope));
    const { operator } = expression;
    return (rt, scope) => signed(rt, operator, operand(rt, scope));
  }
  const left = compile(expression.left);
  const right = compile(expression.right);
  if (expression.kind === 'arithmetic') {
    const { operator } = expression;
    return (rt, scope) => arithmetic(rt, operator, left(rt, scope), right(rt, scope));
  }
  const stops = expression.kind === 'or';
  return (rt, scope) => {
    const value = left(rt, scope);
    return truthy(value) === stops ? value : right(rt, scope);
  };
}

function compileName(name: string): Evaluate {
  return (_, scope) => {
    const value = scope.get(name);
    return value === undefined ? new Undefined(() => `'${name}' is undefined`) : value;
  };
}

function compileItems(items: readonly Evaluate[], kind: 'list' | 'tuple'): Evaluate {
  return (rt, scope) => {
    rt.roomForItems(items.length);
    const values = items.map((item) => item(rt, scope));
    return kind === 'list' ? values : new PyTuple(values);
  };
}

function compileConcat(items: readonly Evaluate[]): Evaluate {
  return (rt, scope) => {
    let text = '';
    for (const item of items) text = concatenated(rt, text, str(rt, item(rt, scope)));
    return text;
  };
}

function compileDict(pairs: readonly (readonly [Evaluate, Evaluate])[]): Evaluate {
  return (rt, scope) => {
    rt.roomForItems(pairs.length);
    const dict = new PyDict();
    for (const [key, value] of pairs) dict.set(hashable(rt, key(rt, scope)), value(rt, scope));
    return dict;
  };
}

function compileAttribute(object: Evaluate, name: string): Evaluate {
  return (rt, scope) => {
    rt.step();
    return getAttribute(rt, object(rt, scope), name);
  };
}

function compileItem(object: Evaluate, key: Evaluate): Evaluate {
  return (rt, scope) => {
    rt.step();
    return getItem(rt, object(rt, scope), key(rt, scope));
  };
}

function compileSlice(object: Evaluate, [start, stop, step]: readonly Evaluate[]): Evaluate {
  return (rt, scope) => getSlice(rt, object(rt, scope), [start(rt, scope), stop(rt, scope), step(rt, scope)]);
}

function compileCondition(test: Evaluate, then: Evaluate, otherwise: Evaluate | null, line: number): Evaluate {
  const message = `the inline if-expression on line ${line} evaluated to false and no else section was defined.`;
  return (rt, scope) => {
    if (truthy(test(rt, scope))) return then(rt, scope);
    return otherwise === null ? new Undefined(message) : otherwise(rt, scope);
  };
}

function compileComparison(first: Evaluate, rest: readonly (readonly [Comparison, Evaluate])[]): Evaluate {
  return (rt, scope) => {
    let left = first(rt, scope);
    for (const [operator, operand] of rest) {
      const right = operand(rt, scope);
      if (!compare(rt, operator, left, right)) return false;
      left = right;
    }
    return true;
  };
}

function compare(rt: Runtime, operator: Comparison, left: Value, right: Value): boolean {
  switch (operator) {
    case '==':
      return equal(rt, left, right);
    case '!=':
      return !equal(rt, left, right);
    case 'in':
      return contains(rt, right, left);
    case 'not in':
      return !contains(rt, right, left);
    default:
      return ordered(rt, operator, left, right);
  }
}

interface Arguments {
  readonly args: (rt: Runtime, scope: Scope) => Value[];
  readonly kwargs: (rt: Runtime, scope: Scope) => Kwargs;
}

export function compileArguments(call: CallArguments): Arguments {
  const args = call.args.map((arg) => compileExpression(arg));
  const kwargs = call.kwargs.map(([name, value]) => [name, compileExpression(value)] as const);
  const moreArgs = call.moreArgs === null ? null : compileExpression(call.moreArgs);
  const moreKwargs = call.moreKwargs === null ? null : compileExpression(call.moreKwargs);
  return {
    args: (rt, scope) => {
      const values = args.map((arg) => arg(rt, scope));
      if (moreArgs === null) return values;
      const all = values.concat(itemsOf(rt, moreArgs(rt, scope)));
      if (all.length > maxArguments) throw new TemplateTooLarge(`it calls something with more than ${maxArguments} arguments`);
      return all;
    },
    kwargs: (rt, scope) => {
      if (kwargs.length === 0 && moreKwargs === null) return noKwargs;
      const named = new Map<string, Value>();
      for (const [name, value] of kwargs) named.set(name, value(rt, scope));
      if (moreKwargs !== null) spread(rt, moreKwargs(rt, scope), named);
      return named;
    },
  };
}

function spread(rt: Runtime, value: Value, named: Map<string, Value>): void {
  if (!(value instanceof PyDict)) throw typeError(`argument after ** must be a mapping, not ${typeName(value)}`);
  rt.roomForItems(value.size);
  for (const [key, item] of value.entries()) {
    if (!isString(key)) throw typeError('keywords must be strings');
    const name = str(rt, key);
    if (named.has(name)) throw typeError(`got multiple values for keyword argument '${name}'`);
    named.set(name, item);
  }
}

function compileCall(callee: Expression, { args, kwargs }: Arguments): Evaluate {
  if (callee.kind === 'attribute') {
    // The common case, without a bound method in between.
    const object = compileExpression(callee.object);
    const { name } = callee;
    return (rt, scope) => {
      rt.step();
      const self = object(rt, scope);
      const method = methodOf(self, name);
      if (method !== undefined) return method(rt, self, args(rt, scope), kwargs(rt, scope));
      return callValue(rt, getAttribute(rt, self, name), args(rt, scope), kwargs(rt, scope));
    };
  }
  const target = compileExpression(callee);
  return (rt, scope) => callValue(rt, target(rt, scope), args(rt, scope), kwargs(rt, scope));
}

export function callValue(rt: Runtime, target: Value, args: Value[], kwargs: Kwargs): Value {
  rt.step();
  if (target instanceof PyCallable) return target.call(rt, args, kwargs);
  if (target instanceof Undefined) target.fail();
  throw typeError(`'${typeName(target)}' object is not callable`);
}

function compileFilter(expression: Expression & { kind: 'filter' }, subject: Evaluate | null): Evaluate {
  const { name } = expression;
  const { args, kwargs } = compileArguments(expression.call);
  const filter = filters.get(name);
  return (rt, scope) => {
    rt.step();
    // Python knows when it compiles; a template may ask for a filter that it does not need.
    if (filter === undefined) throw new JinjaError('TemplateRuntimeError', `No filter named '${name}' found.`);
    return filter(rt, subject === null ? '' : subject(rt, scope), args(rt, scope), kwargs(rt, scope));
  };
}

function compileTest(subject: Evaluate, name: string, { args, kwargs }: Arguments): Evaluate {
  // Here and not in the table, since filters can be asked for only where they are all known.
  const test = name === 'filter' ? (_: Runtime, value: Value) => typeof value === 'string' && filters.has(value) : isTests.get(name);
  return (rt, scope) => {
    rt.step();
    if (test === undefined) throw new JinjaError('TemplateRuntimeError', `No test named '${name}' found.`);
    return test(rt, subject(rt, scope), args(rt, scope), kwargs(rt, scope));
  };
}
