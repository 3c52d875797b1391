/** Calls written as a JSON object: `{"name": ..., "arguments": {...}}`. */
import type { Parsing } from '../output-reader.ts';
import { argumentsSchema, either, json, type Syntax, type SyntaxWriter, sequence } from '../output-syntax.ts';
import type { CallContext, ToolDefinition } from './format.ts';

/** One object that calls one of these tools. @param key what holds the arguments */
export function callObjects(
  write: SyntaxWriter,
  tools: readonly ToolDefinition[],
  { before = '', after = '', key = 'arguments' }: { readonly before?: string; readonly after?: string; readonly key?: string },
): Syntax {
  const one = (tool: ToolDefinition) =>
    sequence(write.text(`${before}{"name": ${JSON.stringify(tool.name)}, "${key}": `), json(argumentsSchema(tool)), write.text(`}${after}`));
  return either(...tools.map(one));
}

export interface CallObjectRules {
  /** Take nothing for a call that is not one for certain: only tools of the request, only keys of a call. */
  readonly isStrict?: boolean;
}

const keysOfCalls = new Set(['name', 'arguments', 'parameters', 'type', 'id']);

/**
 * Reads one object. Arguments that come before the name wait for it; arguments written as a string of JSON are taken out of the string.
 * @returns false when it was not a whole call; whether the sink has seen its start is for the caller to know
 */
export function* parseCallObject(
  { reader, sink, tools }: CallContext,
  { isStrict = false }: CallObjectRules = {},
): Parsing<'called' | 'cut' | 'none'> {
  let name: string | null = null;
  let waiting: string | null = null;
  let hasArguments = false;
  if (!(yield* reader.accept('{'))) return 'none';
  const failed = () => (name !== null && hasArguments && waiting === null ? 'cut' : 'none');
  for (;;) {
    const key = parsed(yield* reader.jsonText());
    if (typeof key !== 'string' || !(yield* reader.accept(':'))) return failed();
    if (isStrict && !keysOfCalls.has(key)) return failed();
    if (key === 'name' && name === null) {
      const value = parsed(yield* reader.jsonText());
      if (typeof value !== 'string' || (isStrict && !tools.has(value))) return 'none';
      name = value;
      if (waiting !== null) {
        sink.start(name);
        sink.arguments(waiting);
        waiting = null;
      }
    } else if ((key === 'arguments' || key === 'parameters') && !hasArguments) {
      hasArguments = true;
      if (name !== null && (yield* reader.peekPastSpace()) === '{') {
        sink.start(name);
        if (!(yield* reader.json((text) => sink.arguments(text)))) return 'cut';
      } else {
        const value = yield* reader.jsonText();
        if (value === null) return 'none';
        if (name !== null) {
          sink.start(name);
          sink.arguments(plainArguments(value));
        } else waiting = plainArguments(value);
      }
    } else if ((yield* reader.jsonText()) === null) return failed();
    if (yield* reader.accept(',')) continue;
    if (!(yield* reader.accept('}'))) return failed();
    if (name === null) return 'none';
    if (!hasArguments) {
      sink.start(name);
      sink.arguments('{}');
    }
    sink.end();
    return 'called';
  }
}

/** Arguments that are not an object: JSON inside a string, or nothing at all. */
function plainArguments(value: string): string {
  const outer = parsed(value);
  if (outer === null || outer === undefined || outer === '') return '{}';
  if (typeof outer !== 'string') return value;
  const inner = parsed(outer);
  return typeof inner === 'object' && inner !== null ? outer : value;
}

function parsed(text: string | null): unknown {
  if (text === null) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
