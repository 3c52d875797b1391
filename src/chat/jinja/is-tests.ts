/** The tests behind `is`. */
import { bind } from './arguments.ts';
import { arithmetic } from './arithmetic.ts';
import { JinjaError } from './errors.ts';
import { contains, equal, isIterable, type Ordering, ordered } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { isLower, isUpper } from './string-cases.ts';
import { repr, str } from './text.ts';
import {
  isFloat,
  isString,
  type Kwargs,
  Markup,
  noKwargs,
  numberOf,
  PyCallable,
  PyDict,
  PyFloat,
  PyRange,
  PyTuple,
  Undefined,
  type Value,
} from './values.ts';

export type IsTest = (rt: Runtime, value: Value, args: Value[], kwargs: Kwargs) => boolean;

/** @throws TemplateRuntimeError for a name that is no test */
export function findTest(rt: Runtime, name: Value): IsTest {
  const test = isTests.get(typeof name === 'string' ? name : '');
  if (test === undefined) throw new JinjaError('TemplateRuntimeError', `No test named ${repr(rt, name)}.`);
  return test;
}

export function callTest(rt: Runtime, name: Value, value: Value, args: Value[], kwargs: Kwargs): boolean {
  return findTest(rt, name)(rt, value, args, kwargs);
}

function plain(name: string, test: (value: Value, rt: Runtime) => boolean): [string, IsTest] {
  return [
    name,
    (rt, value, args, kwargs) => {
      if (args.length > 0 || kwargs.size > 0) bind(name, [], args, kwargs);
      return test(value, rt);
    },
  ];
}

function comparison(operator: Ordering, ...names: string[]): [string, IsTest][] {
  return names.map((name) => [name, (rt, value, args) => ordered(rt, operator, value, bind(name, ['other!'], args, noKwargs)[0] ?? null)]);
}

function equality(wanted: boolean, ...names: string[]): [string, IsTest][] {
  return names.map((name) => [name, (rt, value, args) => equal(rt, value, bind(name, ['other!'], args, noKwargs)[0] ?? null) === wanted]);
}

function remainder(rt: Runtime, value: Value, divisor: Value, wanted: number): boolean {
  return equal(rt, arithmetic(rt, '%', value, divisor), wanted);
}

/** `value is other`: what Python stores once, such as None and small integers, is the same when it is equal. */
function isSame(value: Value, other: Value): boolean {
  return value instanceof PyFloat && other instanceof PyFloat ? value.value === other.value : value === other;
}

function isInteger(value: Value): boolean {
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
}

/** Has a length and items. */
function isSequence(value: Value): boolean {
  if (isString(value) || Array.isArray(value)) return true;
  return value instanceof PyDict || value instanceof PyTuple || value instanceof PyRange || value instanceof Undefined;
}

export const isTests: ReadonlyMap<string, IsTest> = new Map<string, IsTest>([
  plain('defined', (value) => !(value instanceof Undefined)),
  plain('undefined', (value) => value instanceof Undefined),
  plain('none', (value) => value === null),
  plain('boolean', (value) => typeof value === 'boolean'),
  plain('true', (value) => value === true),
  plain('false', (value) => value === false),
  plain('integer', isInteger),
  plain('float', isFloat),
  plain('number', (value) => numberOf(value) !== undefined),
  plain('string', isString),
  plain('mapping', (value) => value instanceof PyDict),
  plain('sequence', isSequence),
  plain('iterable', (value, rt) => isIterable(rt, value)),
  plain('callable', (value) => value instanceof PyCallable || value instanceof Undefined),
  plain('escaped', (value) => value instanceof Markup),
  plain('lower', (value, rt) => isLower(rt, str(rt, value))),
  plain('upper', (value, rt) => isUpper(rt, str(rt, value))),
  plain('odd', (value, rt) => remainder(rt, value, 2, 1)),
  plain('even', (value, rt) => remainder(rt, value, 2, 0)),
  ['divisibleby', (rt, value, args, kwargs) => remainder(rt, value, bind('divisibleby', ['num!'], args, kwargs)[0] ?? null, 0)],
  ['sameas', (_, value, args, kwargs) => isSame(value, bind('sameas', ['other!'], args, kwargs)[0] ?? null)],
  ['in', (rt, value, args, kwargs) => contains(rt, bind('in', ['seq!'], args, kwargs)[0] ?? null, value)],
  ['test', (_, value) => typeof value === 'string' && isTests.has(value)],
  ...equality(true, '==', 'eq', 'equalto'),
  ...equality(false, '!=', 'ne'),
  ...comparison('<', '<', 'lt', 'lessthan'),
  ...comparison('<=', '<=', 'le'),
  ...comparison('>', '>', 'gt', 'greaterthan'),
  ...comparison('>=', '>=', 'ge'),
]);
