/** Filters on lists, dicts and what else can be iterated. */
import { bind } from './arguments.ts';
import { arithmetic, integerOf } from './arithmetic.ts';
import { filterArgumentError, JinjaError, typeError } from './errors.ts';
import type { Filter } from './filters.ts';
import { equal, hashable, isIterable, itemsOf, iterate, lengthOf, ordered, truthy } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { attributePath, followPath, ignoreCase, sortedBy } from './sorting.ts';
import { codePoints } from './text.ts';
import { isString, type Kwargs, Markup, PyDict, PyIterator, PyTuple, typeName, Undefined, type Value } from './values.ts';

function length(rt: Runtime, value: Value): Value {
  const known = lengthOf(rt, value);
  if (known === undefined) throw typeError(`object of type '${typeName(value)}' has no len()`);
  return known;
}

function fallback(_: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [instead = '', ofFalse = false] = bind('default', ['default_value', 'boolean'], args, kwargs);
  return value instanceof Undefined || (truthy(ofFalse) && !truthy(value)) ? instead : value;
}

function first(rt: Runtime, value: Value): Value {
  for (const item of iterate(rt, value)) return item;
  return new Undefined('No first item, sequence was empty.');
}

function last(rt: Runtime, value: Value): Value {
  if (value instanceof PyIterator || !(isIterable(rt, value) || value instanceof Undefined))
    throw typeError(`'${typeName(value)}' object is not reversible`);
  const items = itemsOf(rt, value);
  return items.length === 0 ? new Undefined('No last item, sequence was empty.') : items[items.length - 1];
}

function reverse(rt: Runtime, value: Value): Value {
  if (isString(value))
    return codePoints(rt, value instanceof Markup ? value.text : value)
      .reverse()
      .join('');
  if (!isIterable(rt, value)) throw filterArgumentError('argument must be iterable');
  const reversed = [...itemsOf(rt, value)].reverse();
  if (value instanceof PyIterator) return reversed;
  const kind = Array.isArray(value) ? 'list_reverseiterator' : value instanceof PyDict ? 'dict_reversekeyiterator' : 'reversed';
  return new PyIterator(reversed, kind);
}

function sort(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [reversed = false, caseSensitive = false, attribute = null] = bind('sort', ['reverse', 'case_sensitive', 'attribute'], args, kwargs);
  const paths = isString(attribute)
    ? String(attribute instanceof Markup ? attribute.text : attribute)
        .split(',')
        .map(attributePath)
    : [attributePath(attribute)];
  const part = (item: Value, path: Value[]): Value => cased(rt, followPath(rt, item, path), caseSensitive);
  // In a list even when it is alone: equal keys are not compared, so that several None can be sorted.
  const keyOf = (item: Value): Value => paths.map((path) => part(item, path));
  return sortedBy(rt, itemsOf(rt, value), keyOf, truthy(reversed));
}

function cased(rt: Runtime, value: Value, caseSensitive: Value): Value {
  return truthy(caseSensitive) ? value : ignoreCase(rt, value);
}

function dictSort(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [caseSensitive = false, by = 'key', reversed = false] = bind('dictsort', ['case_sensitive', 'by', 'reverse'], args, kwargs);
  if (by !== 'key' && by !== 'value') throw filterArgumentError('You can only sort by either "key" or "value"');
  if (value instanceof Undefined) value.fail();
  if (!(value instanceof PyDict)) throw new JinjaError('AttributeError', `'${typeName(value)}' object has no attribute 'items'`);
  const keyOf = ([key, item]: [Value, Value]): Value => cased(rt, by === 'key' ? key : item, caseSensitive);
  return sortedBy(rt, [...value.entries()], keyOf, truthy(reversed)).map((pair) => new PyTuple(pair));
}

function unique(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [caseSensitive = false, attribute = null] = bind('unique', ['case_sensitive', 'attribute'], args, kwargs);
  const path = attributePath(attribute);
  return new PyIterator(
    (function* (): Generator<Value> {
      const seen = new PyDict();
      for (const item of iterate(rt, value)) {
        rt.step();
        const key = cased(rt, followPath(rt, item, path), caseSensitive);
        if (seen.has(hashable(rt, key))) continue;
        seen.set(key, true);
        yield item;
      }
    })(),
  );
}

function extreme(name: 'min' | 'max'): Filter {
  return (rt, value, args, kwargs) => {
    const [caseSensitive = false, attribute = null] = bind(name, ['case_sensitive', 'attribute'], args, kwargs);
    const path = attributePath(attribute);
    let best: { item: Value; key: Value } | null = null;
    for (const item of iterate(rt, value)) {
      const key = cased(rt, followPath(rt, item, path), caseSensitive);
      if (best === null || ordered(rt, name === 'min' ? '<' : '>', key, best.key)) best = { item, key };
    }
    return best === null ? new Undefined('No aggregated item, sequence was empty.') : best.item;
  };
}

function sum(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [attribute = null, start = 0] = bind('sum', ['attribute', 'start'], args, kwargs);
  if (isString(start)) throw typeError("sum() can't sum strings [use ''.join(seq) instead]");
  const path = attributePath(attribute);
  let total: Value = start;
  for (const item of iterate(rt, value)) {
    rt.step();
    total = arithmetic(rt, '+', total, followPath(rt, item, path));
  }
  return total;
}

function batch(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [count = 0, fill = null] = bind('batch', ['linecount!', 'fill_with'], args, kwargs);
  const size = integerOf(rt, count);
  return new PyIterator(
    (function* (): Generator<Value> {
      let row: Value[] = [];
      for (const item of iterate(rt, value)) {
        rt.step();
        if (row.length === size) {
          yield row;
          row = [];
        }
        row.push(item);
      }
      if (row.length === 0) return;
      if (fill !== null && row.length < size) {
        rt.roomForItems(size);
        while (row.length < size) row.push(fill);
      }
      yield row;
    })(),
  );
}

function slice(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [count = 0, fill = null] = bind('slice', ['slices!', 'fill_with'], args, kwargs);
  const slices = integerOf(rt, count);
  return new PyIterator(
    (function* (): Generator<Value> {
      const items = itemsOf(rt, value);
      if (slices === 0) throw new JinjaError('ZeroDivisionError', 'integer division or modulo by zero');
      const [size, longer] = [Math.floor(items.length / slices), items.length % slices];
      let start = 0;
      for (let i = 0; i < slices; i++) {
        rt.step();
        const end = start + size + (i < longer ? 1 : 0);
        const part = items.slice(start, end);
        if (fill !== null && i >= longer) part.push(fill);
        start = end;
        yield part;
      }
    })(),
  );
}

/** A pair that also answers to `grouper` and `list`. */
class Group extends PyTuple {
  override attribute(name: string): Value | undefined {
    return name === 'grouper' ? this.items[0] : name === 'list' ? this.items[1] : undefined;
  }
}

function groupBy(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [attribute = null, instead = null, caseSensitive = false] = bind('groupby', ['attribute!', 'default', 'case_sensitive'], args, kwargs);
  const path = attributePath(attribute);
  const plainKey = (item: Value): Value => {
    const key = followPath(rt, item, path);
    return instead !== null && key instanceof Undefined ? instead : key;
  };
  const groups: { key: Value; items: Value[] }[] = [];
  for (const item of sortedBy(rt, itemsOf(rt, value), (each) => cased(rt, plainKey(each), caseSensitive), false)) {
    rt.step();
    const key = cased(rt, plainKey(item), caseSensitive);
    const open = groups.at(-1);
    if (open !== undefined && equal(rt, open.key, key)) open.items.push(item);
    else groups.push({ key, items: [item] });
  }
  return groups.map(({ items }) => new Group([plainKey(items[0]), items]));
}

function items(_: Runtime, value: Value): Value {
  return new PyIterator(
    (function* (): Generator<Value> {
      if (value instanceof Undefined) return;
      if (!(value instanceof PyDict)) throw typeError('Can only get item pairs from a mapping.');
      for (const pair of value.entries()) yield new PyTuple(pair);
    })(),
  );
}

export const sequenceFilters: readonly [string, Filter][] = [
  ['length', length],
  ['count', length],
  ['default', fallback],
  ['d', fallback],
  ['first', first],
  ['last', last],
  ['reverse', reverse],
  ['list', (rt, value) => [...itemsOf(rt, value)]],
  ['items', items],
  ['sort', sort],
  ['dictsort', dictSort],
  ['unique', unique],
  ['min', extreme('min')],
  ['max', extreme('max')],
  ['sum', sum],
  ['batch', batch],
  ['slice', slice],
  ['groupby', groupBy],
];
