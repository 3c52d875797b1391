/** Methods of Python's `str`. Indices count code points. */
import { bind, positional } from './arguments.ts';
import { integerOf, repeatText } from './arithmetic.ts';
import { typeError, valueError } from './errors.ts';
import { truthy } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { caseMethods } from './string-cases.ts';
import { joinMethod, splitMethods } from './string-splits.ts';
import { codePoints, isSpace, isWide, replaceText, skipSpace, skipSpaceBack, splitLines, textLength } from './text.ts';
import { isString, type Kwargs, Markup, PyTuple, typeName, Undefined, type Value } from './values.ts';

export type StringMethod = (rt: Runtime, self: string, args: Value[], kwargs: Kwargs) => Value;

/** A string argument. @throws TypeError */
export function textArgument(name: string, value: Value): string {
  if (typeof value === 'string') return value;
  if (value instanceof Markup) return value.text;
  throw typeError(`${name}() argument must be str, not ${typeName(value)}`);
}

function method(name: string, least: number, most: number, run: (rt: Runtime, self: string, args: Value[]) => Value): [string, StringMethod] {
  return [
    name,
    (rt, self, args, kwargs) => {
      positional(`str.${name}`, args, kwargs, least, most);
      return run(rt, self, args);
    },
  ];
}

/** `str.strip` and kin: white space, or the characters that are given. */
export function strip(rt: Runtime, text: string, characters: Value | undefined, sides: 'both' | 'left' | 'right'): string {
  if (characters === undefined || characters === null) {
    const start = sides === 'right' ? 0 : skipSpace(text);
    const end = sides === 'left' ? text.length : skipSpaceBack(text, start);
    rt.scan(start + text.length - end);
    return text.slice(start, end);
  }
  if (!isString(characters)) throw typeError(`${sides === 'both' ? '' : sides[0]}strip arg must be None or str`);
  const set = new Set(codePoints(rt, typeof characters === 'string' ? characters : characters.text));
  rt.scan(text.length);
  if (!isWide(text)) {
    let start = 0;
    let end = text.length;
    if (sides !== 'right') while (start < end && set.has(text[start])) start++;
    if (sides !== 'left') while (end > start && set.has(text[end - 1])) end--;
    return text.slice(start, end);
  }
  const points = codePoints(rt, text);
  let start = 0;
  let end = points.length;
  if (sides !== 'right') while (start < end && set.has(points[start])) start++;
  if (sides !== 'left') while (end > start && set.has(points[end - 1])) end--;
  return points.slice(start, end).join('');
}

/** The part of the string that optional `start` and `end` arguments leave, and where it starts in code points. */
function window(rt: Runtime, self: string, args: Value[]): { text: string; start: number } | null {
  if (args.length < 2) return { text: self, start: 0 };
  const length = textLength(rt, self);
  const bound = (value: Value | undefined, fallback: number): number => {
    if (value === undefined || value === null) return fallback;
    const index = integerOf(rt, value);
    return Math.max(0, index < 0 ? index + length : index);
  };
  const start = bound(args[1], 0);
  const end = Math.min(length, bound(args[2], length));
  if (start > end) return null;
  return { text: isWide(self) ? codePoints(rt, self).slice(start, end).join('') : self.slice(start, end), start };
}

function edgeTest(name: 'startswith' | 'endswith'): [string, StringMethod] {
  return method(name, 1, 3, (rt, self, args) => {
    const [wanted] = args;
    const options = wanted instanceof PyTuple ? wanted.items : [wanted];
    const part = window(rt, self, args);
    rt.touch(self.length);
    let found = false;
    for (const option of options) {
      rt.step();
      if (!isString(option)) {
        if (option instanceof Undefined && wanted instanceof PyTuple) option.fail();
        throw typeError(
          wanted instanceof PyTuple
            ? `tuple for ${name} must only contain str, not ${typeName(option)}`
            : `${name} first arg must be str or a tuple of str, not ${typeName(option)}`,
        );
      }
      const text = typeof option === 'string' ? option : option.text;
      found ||= part !== null && (name === 'startswith' ? part.text.startsWith(text) : part.text.endsWith(text));
    }
    return found;
  });
}

/** `find`, `index` and those from the right. */
function finder(name: string, fromRight: boolean, mustFind: boolean): [string, StringMethod] {
  return method(name, 1, 3, (rt, self, args) => {
    if (!isString(args[0])) throw typeError(`must be str, not ${typeName(args[0])}`);
    const wanted = textArgument(name, args[0]);
    const part = window(rt, self, args);
    rt.scan(self.length);
    const at = part === null ? -1 : fromRight ? part.text.lastIndexOf(wanted) : part.text.indexOf(wanted);
    if (part === null || at < 0) {
      if (mustFind) throw valueError('substring not found');
      return -1;
    }
    return part.start + (isWide(part.text) ? textLength(rt, part.text.slice(0, at)) : at);
  });
}

function justified(name: string, before: (missing: number, width: number) => number): [string, StringMethod] {
  return method(name, 1, 2, (rt, self, args) => {
    const width = integerOf(rt, args[0]);
    const fill = args[1] === undefined ? ' ' : textArgument(name, args[1]);
    if (textLength(rt, fill) !== 1) throw typeError('The fill character must be exactly one character long');
    const missing = width - textLength(rt, self);
    if (missing <= 0) return self;
    const left = before(missing, width);
    rt.room(width * fill.length + self.length);
    return repeatText(rt, fill, left) + self + repeatText(rt, fill, missing - left);
  });
}

/** Python puts the odd space to the left when the width is odd. */
export function centerLeft(missing: number, width: number): number {
  return (missing >> 1) + (missing & width & 1);
}

function countText(rt: Runtime, self: string, args: Value[]): Value {
  if (!isString(args[0])) throw typeError(`must be str, not ${typeName(args[0])}`);
  const wanted = textArgument('count', args[0]);
  const part = window(rt, self, args);
  rt.scan(self.length);
  if (part === null) return 0;
  if (wanted === '') return textLength(rt, part.text) + 1;
  let found = 0;
  for (let at = part.text.indexOf(wanted); at >= 0; at = part.text.indexOf(wanted, at + wanted.length)) {
    rt.step();
    found++;
  }
  return found;
}

function replace(rt: Runtime, self: string, args: Value[]): Value {
  const [old, replacement] = [0, 1].map((i) => {
    if (!isString(args[i])) throw typeError(`replace() argument ${i + 1} must be str, not ${typeName(args[i])}`);
    return textArgument('replace', args[i]);
  });
  return replaceText(rt, self, old, replacement, args[2] === undefined ? -1 : integerOf(rt, args[2]));
}

function expandTabs(rt: Runtime, self: string, args: Value[], kwargs: Kwargs): Value {
  const [given] = bind('expandtabs', ['tabsize'], args, kwargs);
  const size = given === undefined ? 8 : integerOf(rt, given);
  let column = 0;
  let expanded = '';
  for (const character of codePoints(rt, self)) {
    const width = character === '\t' ? (size > 0 ? size - (column % size) : 0) : 1;
    if (width > 1) rt.room(expanded.length + width);
    expanded += character === '\t' ? ' '.repeat(width) : character;
    column = character === '\n' || character === '\r' ? 0 : column + width;
  }
  rt.room(expanded.length);
  return expanded;
}

function zeroFilled(rt: Runtime, self: string, args: Value[]): Value {
  const missing = integerOf(rt, args[0]) - textLength(rt, self);
  if (missing <= 0) return self;
  const sign = self.startsWith('+') || self.startsWith('-') ? self[0] : '';
  return sign + repeatText(rt, '0', missing) + self.slice(sign.length);
}

/** `isdigit` and kin: every character is of the kind, and there is one. */
function every(name: string, pattern: RegExp): [string, StringMethod] {
  return method(name, 0, 0, (rt, self) => {
    rt.scan(self.length * 4);
    return pattern.test(self);
  });
}

export const stringMethods: ReadonlyMap<string, StringMethod> = new Map<string, StringMethod>([
  ...caseMethods,
  ...splitMethods,
  joinMethod,
  method('strip', 0, 1, (rt, self, args) => strip(rt, self, args[0], 'both')),
  method('lstrip', 0, 1, (rt, self, args) => strip(rt, self, args[0], 'left')),
  method('rstrip', 0, 1, (rt, self, args) => strip(rt, self, args[0], 'right')),
  edgeTest('startswith'),
  edgeTest('endswith'),
  finder('find', false, false),
  finder('rfind', true, false),
  finder('index', false, true),
  finder('rindex', true, true),
  justified('center', centerLeft),
  justified('ljust', () => 0),
  justified('rjust', (missing) => missing),
  method('zfill', 1, 1, zeroFilled),
  method('count', 1, 3, countText),
  method('replace', 2, 3, replace),
  method('removeprefix', 1, 1, (_, self, args) => {
    const prefix = textArgument('removeprefix', args[0]);
    return self.startsWith(prefix) ? self.slice(prefix.length) : self;
  }),
  method('removesuffix', 1, 1, (_, self, args) => {
    const suffix = textArgument('removesuffix', args[0]);
    return suffix !== '' && self.endsWith(suffix) ? self.slice(0, -suffix.length) : self;
  }),
  ['expandtabs', expandTabs],
  ['splitlines', (rt, self, args, kwargs) => splitLines(rt, self, truthy(bind('splitlines', ['keepends'], args, kwargs)[0] ?? false))],
  every('isalnum', /^[\p{L}\p{N}]+$/u),
  every('isalpha', /^\p{L}+$/u),
  every('isascii', /^[\0-\x7f]*$/),
  every('isdecimal', /^\p{Nd}+$/u),
  every('isdigit', /^[\p{Nd}\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089\u2460-\u2468]+$/u),
  every('isnumeric', /^\p{N}+$/u),
  every('isidentifier', /^[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*$/u),
  every('isprintable', /^(?: |[^\p{C}\p{Z}])*$/u),
  method('isspace', 0, 0, (rt, self) => {
    rt.scan(self.length);
    return self.length > 0 && Array.from({ length: self.length }, (_, i) => self.charCodeAt(i)).every(isSpace);
  }),
]);
