/** The methods that a template may call, by type. A `Map` each: no name can reach anything of JavaScript. */
import { positional } from './arguments.ts';
import { integerOf } from './arithmetic.ts';
import { typeError, valueError } from './errors.ts';
import { formatBraces } from './format.ts';
import { equal, hashable, itemsOf } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { type StringMethod, stringMethods } from './string-methods.ts';
import { repr } from './text.ts';
import { type Kwargs, Markup, PyDict, PyRange, PyTuple, PyView, type Value } from './values.ts';

export type Method = (rt: Runtime, self: Value, args: Value[], kwargs: Kwargs) => Value;

/** @returns undefined when the type has no such method, or none that leaves its object as it is */
export function methodOf(object: Value, name: string): Method | undefined {
  if (typeof object === 'string') return textMethods.get(name);
  if (Array.isArray(object)) return sequenceMethods('list', name);
  if (object instanceof PyDict) return dictMethods.get(name);
  if (object instanceof Markup) return markupMethods.get(name);
  if (object instanceof PyTuple) return name === 'copy' ? undefined : sequenceMethods('tuple', name);
  return object instanceof PyRange && name !== 'copy' ? sequenceMethods('range', name) : undefined;
}

/** `format` looks up attributes, so it sees every type. */
const allStringMethods: readonly (readonly [string, StringMethod])[] = [
  ...stringMethods,
  ['format', formatBraces],
  [
    'format_map',
    (rt, self, args, kwargs) => {
      positional('str.format_map', args, kwargs, 1, 1);
      return formatBraces(rt, self, [], namedArguments(args[0]));
    },
  ],
];

function namedArguments(mapping: Value): Kwargs {
  if (!(mapping instanceof PyDict)) throw typeError('format_map() argument after ** must be a mapping');
  const named = new Map<string, Value>();
  for (const [key, value] of mapping.entries()) if (typeof key === 'string') named.set(key, value);
  return named;
}

const textMethods: ReadonlyMap<string, Method> = new Map(
  allStringMethods.map(([name, method]) => [name, (rt, self, args, kwargs) => method(rt, typeof self === 'string' ? self : '', args, kwargs)]),
);

/** As those of strings, but what comes out is markup again. */
const markupMethods: ReadonlyMap<string, Method> = new Map(
  allStringMethods.map(([name, method]) => [
    name,
    (rt, self, args, kwargs) => marked(method(rt, self instanceof Markup ? self.text : '', args, kwargs)),
  ]),
);

function marked(value: Value): Value {
  if (typeof value === 'string') return new Markup(value);
  if (value instanceof PyTuple) return new PyTuple(value.items.map(marked));
  return Array.isArray(value) ? value.map(marked) : value;
}

const dictMethods: ReadonlyMap<string, Method> = new Map<string, Method>([
  ['items', dictMethod('items', 0, 0, (_, dict) => new PyView('items', dict))],
  ['keys', dictMethod('keys', 0, 0, (_, dict) => new PyView('keys', dict))],
  ['values', dictMethod('values', 0, 0, (_, dict) => new PyView('values', dict))],
  ['get', dictMethod('get', 1, 2, (rt, dict, args) => dict.get(hashable(rt, args[0])) ?? (dict.has(args[0]) ? null : (args[1] ?? null)))],
  ['copy', dictMethod('copy', 0, 0, (rt, dict) => copied(rt, dict))],
]);

function dictMethod(name: string, least: number, most: number, method: (rt: Runtime, dict: PyDict, args: Value[]) => Value): Method {
  return (rt, self, args, kwargs) => {
    positional(`dict.${name}`, args, kwargs, least, most);
    return self instanceof PyDict ? method(rt, self, args) : null;
  };
}

export function copied(rt: Runtime, dict: PyDict): PyDict {
  const copy = new PyDict();
  rt.roomForItems(dict.size);
  for (const [key, value] of dict.entries()) copy.set(key, value);
  return copy;
}

function sequenceMethods(type: string, name: string): Method | undefined {
  if (name === 'count') return (rt, self, args, kwargs) => countItems(rt, type, self, args, kwargs);
  if (name === 'index') return (rt, self, args, kwargs) => indexOfItem(rt, type, self, args, kwargs);
  if (name !== 'copy') return undefined;
  return (rt, self, args, kwargs) => {
    positional(`${type}.copy`, args, kwargs, 0, 0);
    return [...itemsOf(rt, self)];
  };
}

function countItems(rt: Runtime, type: string, self: Value, args: Value[], kwargs: Kwargs): Value {
  positional(`${type}.count`, args, kwargs, 1, 1);
  let found = 0;
  for (const item of itemsOf(rt, self)) if (equal(rt, item, args[0])) found++;
  return found;
}

function indexOfItem(rt: Runtime, type: string, self: Value, args: Value[], kwargs: Kwargs): Value {
  positional(`${type}.index`, args, kwargs, 1, 3);
  const items = itemsOf(rt, self);
  const bound = (value: Value | undefined, fallback: number): number => {
    if (value === undefined) return fallback;
    const index = integerOf(rt, value);
    return index < 0 ? Math.max(0, index + items.length) : index;
  };
  const stop = Math.min(items.length, bound(args[2], items.length));
  for (let i = bound(args[1], 0); i < stop; i++) if (equal(rt, items[i], args[0])) return i;
  throw valueError(type === 'tuple' ? 'tuple.index(x): x not in tuple' : `${repr(rt, args[0])} is not in ${type}`);
}
