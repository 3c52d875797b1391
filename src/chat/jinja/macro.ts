/** Macros, and the body of a call block, which is one. */
import { typeError } from './errors.ts';
import type { Runtime } from './runtime.ts';
import { Scope } from './scope.ts';
import type { MacroBody } from './syntax.ts';
import { type Kwargs, PyCallable, PyDict, PyTuple, Undefined, type Value } from './values.ts';

export interface CompiledMacro {
  readonly syntax: MacroBody;
  readonly defaults: readonly ((rt: Runtime, scope: Scope) => Value)[];
  readonly body: (rt: Runtime, scope: Scope) => unknown;
}

export class Macro extends PyCallable {
  readonly typeName = 'Macro';
  readonly #name: string | null;
  readonly #macro: CompiledMacro;
  readonly #scope: Scope;

  /** @param scope around the definition */
  constructor(name: string | null, macro: CompiledMacro, scope: Scope) {
    super();
    this.#name = name;
    this.#macro = macro;
    this.#scope = scope;
  }

  override attribute(name: string): Value | undefined {
    if (name === 'name') return this.#name;
    return name === 'arguments' ? new PyTuple([...this.#macro.syntax.parameters]) : undefined;
  }

  override call(rt: Runtime, args: Value[], kwargs: Kwargs): Value {
    const scope = new Scope(this.#scope);
    this.#bind(rt, scope, args, new Map(kwargs));
    return rt.nested(() => rt.capture(() => this.#macro.body(rt, scope)));
  }

  /** @param kwargs what is left of them shrinks */
  #bind(rt: Runtime, scope: Scope, args: Value[], kwargs: Map<string, Value>): void {
    const { parameters, names } = this.#macro.syntax;
    const shown = this.#name === null ? 'None' : `'${this.#name}'`;
    const missing: number[] = [];
    parameters.forEach((parameter, i) => {
      const value = i < args.length ? args[i] : kwargs.get(parameter);
      if (i >= args.length) kwargs.delete(parameter);
      if (value === undefined) missing.push(i);
      else scope.set(parameter, value);
    });
    if (names.has('caller') && !parameters.includes('caller')) {
      scope.set('caller', kwargs.get('caller') ?? new Undefined('No caller defined'));
      kwargs.delete('caller');
    }
    if (names.has('kwargs') && !parameters.includes('kwargs')) scope.set('kwargs', dictOf(kwargs));
    else if (kwargs.size > 0) throw typeError(unexpected(shown, kwargs));
    if (names.has('varargs') && !parameters.includes('varargs')) scope.set('varargs', new PyTuple(args.slice(parameters.length)));
    else if (args.length > parameters.length) throw typeError(`macro ${shown} takes not more than ${parameters.length} argument(s)`);
    // Defaults see the other arguments.
    for (const i of missing) scope.set(parameters[i], this.#default(rt, scope, i));
  }

  #default(rt: Runtime, scope: Scope, i: number): Value {
    const { parameters } = this.#macro.syntax;
    const { defaults } = this.#macro;
    const at = i - (parameters.length - defaults.length);
    return at < 0 ? new Undefined(`parameter '${parameters[i]}' was not provided`) : defaults[at](rt, scope);
  }
}

function unexpected(shown: string, kwargs: ReadonlyMap<string, Value>): string {
  if (kwargs.has('caller')) return `macro ${shown} was invoked with two values for the special caller argument. This is most likely a bug.`;
  return `macro ${shown} takes no keyword argument '${[...kwargs.keys()][0]}'`;
}

function dictOf(kwargs: ReadonlyMap<string, Value>): PyDict {
  const dict = new PyDict();
  for (const [name, value] of kwargs) dict.set(name, value);
  return dict;
}
