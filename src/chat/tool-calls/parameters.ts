/** Arguments that a format writes as one text a parameter: back to JSON by the tool's schema. */
import type { OutputReader, Parsing } from '../output-reader.ts';
import type { CallContext } from './format.ts';
import { readPythonValue } from './python-calls.ts';

/**
 * A value and the tag behind it. Where it is no text it is read as JSON, in whose strings the tag is text.
 * @returns null when the output ends before
 */
export function* readValue(reader: OutputReader, close: string, isText: boolean): Parsing<string | null> {
  let value = '';
  if (!isText) {
    const first = yield* reader.peekPastSpace();
    if (first === '{' || first === '[' || first === '"') {
      reader.record();
      yield* reader.json(() => undefined);
      value = reader.recorded();
    }
  }
  const rest = yield* reader.textUntil([close]);
  return rest === null ? null : value + rest.text;
}

/** Writes the arguments object of one call, parameter by parameter. */
export class ParameterWriter {
  readonly #sink: CallContext['sink'];
  readonly #properties: Readonly<Record<string, unknown>>;
  #count = 0;

  constructor({ sink, tools }: CallContext, toolName: string) {
    const properties = tools.get(toolName)?.parameters?.properties;
    this.#sink = sink;
    this.#properties = typeof properties === 'object' && properties !== null ? (properties as Record<string, unknown>) : {};
    sink.start(toolName);
  }

  /** Whether a value of the parameter may be plain text. */
  takesText(name: string): boolean {
    const types = typesOf(Object.hasOwn(this.#properties, name) ? this.#properties[name] : undefined);
    return types === null || types.has('string');
  }

  /** @param text as the model wrote it */
  write(name: string, text: string): void {
    const schema = Object.hasOwn(this.#properties, name) ? this.#properties[name] : undefined;
    this.#sink.arguments(`${this.#count++ === 0 ? '{' : ', '}${JSON.stringify(name)}: ${jsonOf(text, schema)}`);
  }

  end(): void {
    this.#sink.arguments(this.#count === 0 ? '{}' : '}');
    this.#sink.end();
  }
}

/** JSON of a value: a string where the schema wants one, else what the text says when read as JSON, or as Python prints it. */
function jsonOf(text: string, schema: unknown): string {
  const types = typesOf(schema);
  const takes = (type: string) => types === null || types.has(type);
  if (types?.size === 1 && types.has('string')) return JSON.stringify(text);
  const trimmed = text.trim();
  const python = pythonNames[trimmed];
  if (python !== undefined && types !== null && takes(python === 'null' ? 'null' : 'boolean')) return python;
  try {
    const value: unknown = JSON.parse(trimmed);
    if (typeof value !== 'string' && types?.has('string') && !types.has(typeName(value))) return JSON.stringify(text);
    return trimmed;
  } catch {
    // dictionaries and lists as Python prints them, where nothing else can be meant
    const value = types !== null && !types.has('string') ? readPythonValue(trimmed) : undefined;
    return JSON.stringify(typeof value === 'object' && value !== null && types?.has(typeName(value)) ? value : text);
  }
}

const pythonNames: Readonly<Record<string, string>> = { True: 'true', False: 'false', None: 'null' };

function typeName(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}

/** The types that a schema names; null when it leaves them open. */
function typesOf(schema: unknown): ReadonlySet<string> | null {
  if (typeof schema !== 'object' || schema === null || !('type' in schema)) return null;
  const { type } = schema;
  const names = (Array.isArray(type) ? type : [type]) as unknown[];
  return new Set(names.map((name) => (name === 'integer' ? 'number' : String(name))));
}
