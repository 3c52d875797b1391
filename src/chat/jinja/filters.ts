/** The filters by name, and those that call other filters or tests. */

import { bind } from './arguments.ts';
import { getAttribute } from './attributes.ts';
import { filterArgumentError, JinjaError } from './errors.ts';
import { sequenceFilters } from './filters-sequence.ts';
import { joinFilter, textFilters } from './filters-text.ts';
import { callTest } from './is-tests.ts';
import { iterate, truthy } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { attributePath, followPath } from './sorting.ts';
import { repr, str } from './text.ts';
import { type Kwargs, PyDict, PyIterator, Undefined, type Value } from './values.ts';

export type Filter = (rt: Runtime, value: Value, args: Value[], kwargs: Kwargs) => Value;

/** @throws TemplateRuntimeError for a name that is no filter */
export function findFilter(rt: Runtime, name: Value): Filter {
  const filter = filters.get(typeof name === 'string' ? name : '');
  if (filter === undefined) throw new JinjaError('TemplateRuntimeError', `No filter named ${repr(rt, name)}.`);
  return filter;
}

function map(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  return new PyIterator(mapped(rt, value, args, kwargs));
}

/** Lazy: what goes wrong shows when the result is read. */
function* mapped(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Generator<Value> {
  if (!truthy(value)) return;
  const change = mapFunction(rt, args, kwargs);
  for (const item of iterate(rt, value)) {
    rt.step();
    yield change(item);
  }
}

function mapFunction(rt: Runtime, args: Value[], kwargs: Kwargs): (item: Value) => Value {
  if (args.length > 0) {
    const filter = findFilter(rt, args[0]);
    return (item) => filter(rt, item, args.slice(1), kwargs);
  }
  const attribute = kwargs.get('attribute');
  if (attribute === undefined) throw filterArgumentError('map requires a filter argument');
  for (const key of kwargs.keys()) if (key !== 'attribute' && key !== 'default') throw filterArgumentError(`Unexpected keyword argument '${key}'`);
  const fallback = kwargs.get('default') ?? null;
  const path = attributePath(attribute);
  return (item) => followWithDefault(rt, item, path, fallback);
}

/** The fallback takes the place of anything undefined on the way. */
export function followWithDefault(rt: Runtime, item: Value, path: readonly Value[], fallback: Value): Value {
  let value = item;
  for (const part of path) {
    value = followPath(rt, value, [part]);
    if (fallback !== null && value instanceof Undefined) value = fallback;
  }
  return value;
}

function selecting(keep: boolean, byAttribute: boolean): Filter {
  return (rt, value, args, kwargs) => new PyIterator(selected(rt, value, args, kwargs, keep, byAttribute));
}

function* selected(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs, keep: boolean, byAttribute: boolean): Generator<Value> {
  if (!truthy(value)) return;
  if (byAttribute && args.length === 0) throw filterArgumentError('Missing parameter for attribute name');
  const path = byAttribute ? attributePath(args[0]) : [];
  const [name, ...rest] = byAttribute ? args.slice(1) : args;
  for (const item of iterate(rt, value)) {
    rt.step();
    const subject = followPath(rt, item, path);
    const passes = name === undefined ? truthy(subject) : truthy(callTest(rt, name, subject, rest, kwargs));
    if (passes === keep) yield item;
  }
}

/** An attribute, and never an item of a mapping. */
function attribute(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [name = ''] = bind('attr', ['name!'], args, kwargs);
  const text = str(rt, name);
  const found = getAttribute(rt, value, text);
  const isItem = value instanceof PyDict && found === value.get(text);
  return isItem ? new Undefined(`'dict object' has no attribute ${repr(rt, text)}`) : found;
}

export const filters: ReadonlyMap<string, Filter> = new Map<string, Filter>([
  ...textFilters,
  ...sequenceFilters,
  ['join', joinFilter((rt, item, path) => followPath(rt, item, attributePath(path)))],
  ['map', map],
  ['select', selecting(true, false)],
  ['reject', selecting(false, false)],
  ['selectattr', selecting(true, true)],
  ['rejectattr', selecting(false, true)],
  ['attr', attribute],
]);
