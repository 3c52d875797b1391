/** The filter `tojson`: Python's `json.dumps` as transformers calls it, without escapes for HTML and with non-ASCII text as it is. */
import { bind } from './arguments.ts';
import { integerOf } from './arithmetic.ts';
import { TemplateTooLarge, typeError, valueError } from './errors.ts';
import { itemsOf, truthy } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { sortedBy } from './sorting.ts';
import { floatText } from './text.ts';
import { TextBuilder } from './text-builder.ts';
import { isFloat, isString, type Kwargs, type Markup, numberOf, PyDict, PyTuple, typeName, type Value } from './values.ts';

const maxDepth = 200;

export function toJson(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): string {
  const [ascii = false, indent = null, separators = null, sortKeys = false] = bind(
    'tojson',
    ['ensure_ascii', 'indent', 'separators', 'sort_keys'],
    args,
    kwargs,
  );
  const [between, afterKey] = separators === null ? [indent === null ? ', ' : ',', ': '] : separatorPair(rt, separators);
  const writer = new JsonWriter(rt, { ascii: truthy(ascii), indent: indentText(rt, indent), between, afterKey, sortKeys: truthy(sortKeys) });
  writer.add(value, 0);
  return writer.text();
}

interface JsonForm {
  readonly ascii: boolean;
  readonly indent: string | null;
  readonly between: string;
  readonly afterKey: string;
  readonly sortKeys: boolean;
}

function separatorPair(rt: Runtime, separators: Value): [string, string] {
  const items = itemsOf(rt, separators);
  const [between, afterKey] = items;
  if (items.length !== 2 || !isString(between) || !isString(afterKey)) throw valueError('separators must be a pair of strings');
  return [textOf(between), textOf(afterKey)];
}

function textOf(value: string | Markup): string {
  return typeof value === 'string' ? value : value.text;
}

function indentText(rt: Runtime, indent: Value): string | null {
  if (indent === null) return null;
  if (isString(indent)) return textOf(indent);
  const width = Math.max(0, integerOf(rt, indent));
  rt.room(width);
  return ' '.repeat(width);
}

class JsonWriter {
  readonly #rt: Runtime;
  readonly #form: JsonForm;
  readonly #builder: TextBuilder;

  constructor(rt: Runtime, form: JsonForm) {
    this.#rt = rt;
    this.#form = form;
    this.#builder = new TextBuilder(rt);
  }

  text(): string {
    return this.#builder.text();
  }

  #put(text: string): void {
    this.#builder.add(text);
  }

  add(value: Value, depth: number): void {
    if (depth > maxDepth) throw new TemplateTooLarge(`it writes JSON nested deeper than ${maxDepth} levels`);
    if (isString(value)) this.#put(this.#string(textOf(value)));
    else if (Array.isArray(value)) this.#array(value, depth);
    else if (value instanceof PyTuple) this.#array(value.items, depth);
    else if (value instanceof PyDict) this.#object(value, depth);
    else this.#put(scalarText(value));
  }

  #string(text: string): string {
    this.#rt.room(text.length + 2);
    const quoted = `"${text.replace(special, escaped)}"`;
    return this.#form.ascii ? quoted.replace(/[\x80-\uffff]/g, hexEscape) : quoted;
  }

  #newLine(depth: number): string {
    if (this.#form.indent === null) return '';
    this.#rt.room(this.#form.indent.length * depth);
    return `\n${this.#form.indent.repeat(depth)}`;
  }

  #array(items: readonly Value[], depth: number): void {
    if (items.length === 0) {
      this.#put('[]');
      return;
    }
    const line = this.#newLine(depth + 1);
    this.#put(`[${line}`);
    items.forEach((item, i) => {
      if (i > 0) this.#put(this.#form.between + line);
      this.add(item, depth + 1);
    });
    this.#put(`${this.#newLine(depth)}]`);
  }

  #object(dict: PyDict, depth: number): void {
    if (dict.size === 0) {
      this.#put('{}');
      return;
    }
    const line = this.#newLine(depth + 1);
    this.#put(`{${line}`);
    let first = true;
    const entries = this.#form.sortKeys ? sortedBy(this.#rt, [...dict.entries()], ([key]) => key, false) : dict.entries();
    for (const [key, item] of entries) {
      if (!first) this.#put(this.#form.between + line);
      first = false;
      this.#put(this.#string(keyText(key)) + this.#form.afterKey);
      this.add(item, depth + 1);
    }
    this.#put(`${this.#newLine(depth)}}`);
  }
}

/** None, a bool or a number. */
function scalarText(value: Value): string {
  if (value === null) return 'null';
  if (typeof value === 'boolean') return String(value);
  const number = numberOf(value);
  if (number === undefined) throw typeError(`Object of type ${typeName(value)} is not JSON serializable`);
  if (!isFloat(value)) return String(number);
  if (Number.isNaN(number)) return 'NaN';
  return Number.isFinite(Number(number)) ? floatText(Number(number)) : number > 0 ? 'Infinity' : '-Infinity';
}

function keyText(key: Value): string {
  if (isString(key)) return textOf(key);
  if (key !== null && numberOf(key) === undefined) throw typeError(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
  return scalarText(key);
}

const shortEscapes: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
  ['\b', '\\b'],
  ['\f', '\\f'],
]);

/** Quotes and control characters; those from U+007F on stay as they are. */
const special = /["\\]|(?![\x7f-\x9f])\p{Cc}/gu;

function escaped(character: string): string {
  return shortEscapes.get(character) ?? hexEscape(character);
}

function hexEscape(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
