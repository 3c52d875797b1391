/** Methods of `str` that take strings apart or put them together. */
import { bind, positional } from './arguments.ts';
import { integerOf } from './arithmetic.ts';
import { typeError, valueError } from './errors.ts';
import { iterate } from './operators.ts';
import type { Runtime } from './runtime.ts';
import type { StringMethod } from './string-methods.ts';
import { isSpace, joinTexts, skipSpace, skipSpaceBack } from './text.ts';
import { isString, type Kwargs, Markup, PyTuple, typeName, type Value } from './values.ts';

function split(rt: Runtime, self: string, args: Value[], kwargs: Kwargs, fromRight: boolean): Value {
  const [separator, most] = bind(fromRight ? 'rsplit' : 'split', ['sep', 'maxsplit'], args, kwargs);
  const limit = most === undefined ? -1 : integerOf(rt, most);
  rt.scan(self.length);
  if (separator === undefined || separator === null) return splitAtSpace(rt, self, limit, fromRight);
  if (!isString(separator)) throw typeError(`must be str or None, not ${typeName(separator)}`);
  const mark = typeof separator === 'string' ? separator : separator.text;
  if (mark === '') throw valueError('empty separator');
  const pieces = self.split(mark);
  rt.roomForItems(pieces.length);
  if (limit < 0 || pieces.length <= limit + 1) return pieces;
  if (fromRight) {
    const head = pieces.slice(0, pieces.length - limit);
    return [head.join(mark), ...pieces.slice(pieces.length - limit)];
  }
  return [...pieces.slice(0, limit), pieces.slice(limit).join(mark)];
}

function splitAtSpace(rt: Runtime, self: string, limit: number, fromRight: boolean): string[] {
  if (fromRight && limit >= 0) return splitAtSpaceBack(rt, self, limit);
  const pieces: string[] = [];
  let at = skipSpace(self);
  while (at < self.length) {
    rt.step();
    if (limit >= 0 && pieces.length >= limit) {
      pieces.push(self.slice(at));
      break;
    }
    const start = at;
    while (at < self.length && !isSpace(self.charCodeAt(at))) at++;
    pieces.push(self.slice(start, at));
    at = skipSpace(self, at);
  }
  return pieces;
}

function splitAtSpaceBack(rt: Runtime, self: string, limit: number): string[] {
  const pieces: string[] = [];
  let end = skipSpaceBack(self);
  while (end > 0) {
    rt.step();
    if (pieces.length >= limit) {
      pieces.push(self.slice(0, end));
      break;
    }
    let start = end;
    while (start > 0 && !isSpace(self.charCodeAt(start - 1))) start--;
    pieces.push(self.slice(start, end));
    while (start > 0 && isSpace(self.charCodeAt(start - 1))) start--;
    end = start;
  }
  return pieces.reverse();
}

function partition(name: 'partition' | 'rpartition'): [string, StringMethod] {
  return [
    name,
    (rt, self, args, kwargs) => {
      positional(`str.${name}`, args, kwargs, 1, 1);
      if (!isString(args[0])) throw typeError(`must be str, not ${typeName(args[0])}`);
      const mark = typeof args[0] === 'string' ? args[0] : args[0].text;
      if (mark === '') throw valueError('empty separator');
      rt.scan(self.length);
      const at = name === 'partition' ? self.indexOf(mark) : self.lastIndexOf(mark);
      if (at < 0) return new PyTuple(name === 'partition' ? [self, '', ''] : ['', '', self]);
      return new PyTuple([self.slice(0, at), mark, self.slice(at + mark.length)]);
    },
  ];
}

export const splitMethods: readonly [string, StringMethod][] = [
  ['split', (rt, self, args, kwargs) => split(rt, self, args, kwargs, false)],
  ['rsplit', (rt, self, args, kwargs) => split(rt, self, args, kwargs, true)],
  partition('partition'),
  partition('rpartition'),
];

export const joinMethod: [string, StringMethod] = [
  'join',
  (rt, self, args, kwargs) => {
    positional('str.join', args, kwargs, 1, 1);
    const texts: string[] = [];
    for (const item of iterate(rt, args[0])) {
      rt.grow(texts.length);
      if (!isString(item)) throw typeError(`sequence item ${texts.length}: expected str instance, ${typeName(item)} found`);
      texts.push(item instanceof Markup ? item.text : item);
    }
    return joinTexts(rt, texts, self);
  },
];
