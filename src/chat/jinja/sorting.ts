/** Order as Python's `sorted` makes it, and keys taken from items. */
import { getItem } from './attributes.ts';
import { ordered } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { lower } from './string-cases.ts';
import { isString, Markup, type Value } from './values.ts';

/** Stable, also when reversed. @throws TypeError for keys that cannot be compared */
export function sortedBy<T>(rt: Runtime, items: readonly T[], keyOf: (item: T) => Value, reverse: boolean): T[] {
  rt.roomForItems(items.length);
  const keyed = items.map((item) => ({ item, key: keyOf(item) }));
  const sign = reverse ? 1 : -1;
  keyed.sort((left, right) => {
    if (ordered(rt, '<', left.key, right.key)) return sign;
    return ordered(rt, '<', right.key, left.key) ? -sign : 0;
  });
  return keyed.map(({ item }) => item);
}

/** Strings in lower case, all else as it is. */
export function ignoreCase(rt: Runtime, value: Value): Value {
  return isString(value) ? lower(rt, value instanceof Markup ? value.text : value) : value;
}

/** What the filters' `attribute` argument names: `a.b.0`, a number, or nothing for the item itself. */
export function attributePath(attribute: Value | undefined): Value[] {
  if (attribute === undefined || attribute === null) return [];
  if (!isString(attribute)) return [attribute];
  const text = attribute instanceof Markup ? attribute.text : attribute;
  return text.split('.').map((part) => (/^\d{1,15}$/.test(part) ? Number(part) : part));
}

export function followPath(rt: Runtime, item: Value, path: readonly Value[]): Value {
  let value = item;
  for (const part of path) {
    rt.step();
    value = getItem(rt, value, part);
  }
  return value;
}
