/**
 * A Jinja template as Python's jinja2 runs it for transformers: immutable sandbox, `trim_blocks`, `lstrip_blocks`, loop controls, and
 * `tojson`, `raise_exception` and `strftime_now` of transformers' own. Parsed once, rendered many times, within the bounds of `Runtime`.
 *
 * Other than in Python: there are no other templates to include or extend; `random`, `pprint`, `urlize`, `xmlattr` and `lipsum` are missing;
 * a filter or test that does not exist fails when it is reached, not when the template is parsed.
 */
import { compileStatements, type Execute } from './compile-statement.ts';
import { TemplateTooLarge } from './errors.ts';
import { globals } from './globals.ts';
import { parse } from './parser.ts';
import { Runtime } from './runtime.ts';
import { Scope } from './scope.ts';
import { str } from './text.ts';
import { PyFunction, type Value, valueFromData } from './values.ts';

export class JinjaTemplate {
  readonly #body: Execute;

  /** @throws JinjaError of kind TemplateSyntaxError */
  constructor(source: string) {
    this.#body = compileStatements(parse(source));
  }

  /**
   * @param variables plain data, and functions made by `textFunction`; one that is named like a global takes its place
   * @throws JinjaError as Python raises it; TemplateTooLarge at a bound
   */
  render(variables: ReadonlyMap<string, unknown>, rt: Runtime = new Runtime()): string {
    const scope = new Map<string, Value>(globals);
    for (const [name, data] of variables) scope.set(name, valueFromData(data));
    // What the template sets is apart from what it is given, as in Python.
    try {
      this.#body(rt, new Scope(new Scope(null, scope)));
    } catch (thrown) {
      // Data or lazy filters nested without end, where no depth is counted.
      if (thrown instanceof RangeError) throw new TemplateTooLarge(`it nests too deep (${thrown.message})`);
      throw thrown;
    }
    return rt.out;
  }
}

/** A function of one text for templates. */
export function textFunction(name: string, run: (text: string) => string): Value {
  return new PyFunction(name, (rt, args) => {
    const given = str(rt, args[0] ?? '');
    // A directive is a few letters, what it stands for is not much longer.
    rt.room(given.length * 16);
    const text = run(given);
    rt.room(text.length);
    return text;
  });
}
