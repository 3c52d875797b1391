/** `str.format`: replacement fields with attributes and items looked up as the sandbox allows, and format specifications. */
import { getAttribute, getItem } from './attributes.ts';
import { JinjaError, typeError, valueError } from './errors.ts';
import { floatAs, integerAs } from './numbers.ts';
import { signOf } from './percent-format.ts';
import type { Runtime } from './runtime.ts';
import { codePoints, floatText, joinTexts, repr, str, stringRepr, textLength } from './text.ts';
import { isFloat, isString, type Kwargs, numberOf, typeName, Undefined, type Value } from './values.ts';

/** @throws ValueError, IndexError, KeyError, TypeError */
export function formatBraces(rt: Runtime, format: string, args: readonly Value[], kwargs: Kwargs): string {
  return new BraceFormat(rt, args, kwargs).format(format, 2);
}

class BraceFormat {
  readonly #rt: Runtime;
  readonly #args: readonly Value[];
  readonly #kwargs: Kwargs;
  /** Next automatic position; null once a field was numbered by hand. */
  #auto: number | null = 0;

  constructor(rt: Runtime, args: readonly Value[], kwargs: Kwargs) {
    this.#rt = rt;
    this.#args = args;
    this.#kwargs = kwargs;
  }

  /** @param levels of nesting that are left: a specification may hold fields itself, once */
  format(format: string, levels: number): string {
    if (levels <= 0) throw valueError('Max string recursion exceeded');
    this.#rt.scan(format.length);
    const parts: string[] = [];
    let at = 0;
    while (at < format.length) {
      const brace = nextBrace(format, at);
      parts.push(format.slice(at, brace));
      if (brace >= format.length) break;
      if (format[brace + 1] === format[brace]) {
        parts.push(format[brace]);
        at = brace + 2;
        continue;
      }
      if (format[brace] === '}') throw valueError("Single '}' encountered in format string");
      const end = fieldEnd(format, brace + 1);
      parts.push(this.#field(format.slice(brace + 1, end), levels));
      at = end + 1;
    }
    return joinTexts(this.#rt, parts, '');
  }

  #field(field: string, levels: number): string {
    this.#rt.step();
    const match = /^([^!:[]*(?:\[[^\]]*\][^!:[]*)*)(?:!([\s\S]?))?(?::([\s\S]*))?$/.exec(field);
    if (match === null) throw valueError("expected ':' after conversion specifier");
    const [, name, conversion, specification = ''] = match;
    const value = this.#lookUp(name);
    const spec = specification.includes('{') ? this.format(specification, levels - 1) : specification;
    if (conversion === undefined) return formatValue(this.#rt, value, spec);
    if (conversion === 's') return formatValue(this.#rt, str(this.#rt, value), spec);
    if (conversion === 'r' || conversion === 'a') return formatValue(this.#rt, repr(this.#rt, value), spec);
    throw valueError(`Unknown conversion specifier ${conversion}`);
  }

  #lookUp(name: string): Value {
    const first = /^[^.[]*/.exec(name)?.[0] ?? '';
    let value = this.#first(first);
    const rest = name.slice(first.length);
    let end = 0;
    for (const match of rest.matchAll(/\.([^.[]+)|\[([^\]]+)\]/g)) {
      if (match.index !== end) break;
      end = match.index + match[0].length;
      if (match[1] !== undefined) value = getAttribute(this.#rt, value, match[1]);
      else value = getItem(this.#rt, value, /^\d{1,15}$/.test(match[2]) ? Number(match[2]) : match[2]);
    }
    if (end !== rest.length) throw valueError('Empty attribute in format string');
    return value;
  }

  #first(name: string): Value {
    if (name !== '' && !/^\d+$/.test(name)) {
      const value = this.#kwargs.get(name);
      if (value === undefined) throw new JinjaError('KeyError', stringRepr(this.#rt, name));
      return value;
    }
    if (name === '' ? this.#auto === null : (this.#auto ?? 0) > 0)
      throw valueError(
        name === ''
          ? 'cannot switch from manual field specification to automatic field numbering'
          : 'cannot switch from automatic field numbering to manual field specification',
      );
    const index = name === '' ? (this.#auto ?? 0) : Number(name);
    this.#auto = name === '' ? index + 1 : null;
    if (index >= this.#args.length) throw new JinjaError('IndexError', 'tuple index out of range');
    return this.#args[index];
  }
}

function nextBrace(format: string, from: number): number {
  for (let i = from; i < format.length; i++) if (format[i] === '{' || format[i] === '}') return i;
  return format.length;
}

function fieldEnd(format: string, from: number): number {
  let depth = 1;
  for (let i = from; i < format.length; i++) {
    if (format[i] === '{') depth++;
    else if (format[i] === '}' && --depth === 0) return i;
  }
  throw valueError(from === format.length ? "Single '{' encountered in format string" : "expected '}' before end of string");
}

interface Specification {
  readonly fill: string;
  readonly align: string;
  readonly sign: string;
  readonly alternate: boolean;
  readonly width: number;
  readonly grouping: string;
  readonly precision: number | undefined;
  readonly type: string;
}

const specificationPattern = /^(?:([\s\S])?([<>=^]))?([ +-])?(z)?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([a-zA-Z%])?$/u;

/** `format(value, specification)` */
export function formatValue(rt: Runtime, value: Value, specification: string): string {
  if (value instanceof Undefined && specification !== '') throw typeError('unsupported format string passed to Undefined.__format__');
  if (specification === '') return str(rt, value);
  const match = specificationPattern.exec(specification);
  if (match === null) throw valueError(`Invalid format specifier`);
  const number = numberOf(value);
  const isText = isString(value);
  if (!isText && number === undefined) throw typeError(`unsupported format string passed to ${typeName(value)}.__format__`);
  const zero = match[6] !== undefined;
  const spec: Specification = {
    fill: match[1] ?? (zero && match[2] === undefined ? '0' : ' '),
    align: match[2] ?? (isText ? '<' : zero ? '=' : '>'),
    sign: match[3] ?? '-',
    alternate: match[5] !== undefined,
    width: Number(match[7] ?? 0),
    grouping: match[8] ?? '',
    precision: match[9] === undefined ? undefined : Number(match[9]),
    type: match[10] ?? '',
  };
  if (isText || number === undefined) return formatText(rt, str(rt, value), spec);
  return formatNumber(rt, value, number, spec);
}

function formatText(rt: Runtime, text: string, spec: Specification): string {
  if (spec.type !== '' && spec.type !== 's') throw valueError(`Unknown format code '${spec.type}' for object of type 'str'`);
  if (spec.align === '=') throw valueError("'=' alignment not allowed in string format specifier");
  return pad(rt, spec, '', spec.precision === undefined ? text : codePoints(rt, text).slice(0, spec.precision).join(''));
}

function formatNumber(rt: Runtime, value: Value, number: number | bigint, spec: Specification): string {
  const size = number < 0 ? -number : Object.is(number, -0) ? 0 : number;
  const sign = signOf(spec.sign, number);
  const integral = !isFloat(value);
  if (integral && ['', 'd', 'n', 'x', 'X', 'o', 'b', 'c'].includes(spec.type)) {
    if (spec.precision !== undefined) throw valueError('Precision not allowed in integer format specifier');
    if (spec.type === '' && typeof value === 'boolean')
      return pad(rt, { ...spec, align: spec.align === '>' ? '<' : spec.align }, '', String(Number(value)));
    if (spec.type === 'c') return pad(rt, spec, '', String.fromCodePoint(Math.min(0x10ffff, Number(size))));
    const prefix = spec.alternate && 'xXob'.includes(spec.type) && spec.type !== '' ? `0${spec.type}` : '';
    return pad(rt, spec, sign + prefix, grouped(integerAs(spec.type, size), spec.grouping, spec.type));
  }
  if (!['', 'e', 'E', 'f', 'F', 'g', 'G', 'n', '%'].includes(spec.type))
    throw valueError(`Unknown format code '${spec.type}' for object of type '${typeName(value)}'`);
  return pad(rt, spec, sign, grouped(floatDigits(Number(size), spec), spec.grouping, 'f'));
}

function floatDigits(size: number, spec: Specification): string {
  if (spec.type !== '') return floatAs(spec.type === 'n' ? 'g' : spec.type, size, spec.precision ?? 6, spec.alternate);
  if (spec.precision === undefined) return floatText(size);
  const text = floatAs('g', size, spec.precision, spec.alternate);
  return /^\d+$/.test(text) ? `${text}.0` : text;
}

function grouped(digits: string, separator: string, type: string): string {
  if (separator === '') return digits;
  const every = 'xXob'.includes(type) && type !== '' ? 4 : 3;
  const whole = /^[0-9a-fA-F]+/.exec(digits)?.[0] ?? '';
  const groups: string[] = [];
  for (let end = whole.length; end > 0; end -= every) groups.unshift(whole.slice(Math.max(0, end - every), end));
  return groups.join(separator) + digits.slice(whole.length);
}

function pad(rt: Runtime, spec: Specification, sign: string, text: string): string {
  const missing = spec.width - sign.length - textLength(rt, text);
  if (missing <= 0) return sign + text;
  rt.room(spec.width);
  if (spec.align === '=') return sign + spec.fill.repeat(missing) + text;
  const before = spec.align === '<' ? 0 : spec.align === '>' ? missing : missing >> 1;
  return spec.fill.repeat(before) + sign + text + spec.fill.repeat(missing - before);
}
