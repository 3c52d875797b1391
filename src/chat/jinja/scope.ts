/** Variables: a chain of scopes, the innermost first. Jinja's scopes are lexical: a macro sees those around its definition. */
import type { Value } from './values.ts';

export class Scope {
  readonly #variables: Map<string, Value>;
  readonly parent: Scope | null;

  constructor(parent: Scope | null, variables: Map<string, Value> = new Map()) {
    this.parent = parent;
    this.#variables = variables;
  }

  get(name: string): Value | undefined {
    let scope: Scope | null = this;
    while (scope !== null) {
      const value = scope.#variables.get(name);
      if (value !== undefined) return value;
      scope = scope.parent;
    }
    return undefined;
  }

  set(name: string, value: Value): void {
    this.#variables.set(name, value);
  }
}
