/** Statements: a template's tags and the text between them. */
import { tokenize } from './lexer.ts';
import { ExpressionParser } from './parse-expression.ts';
import type { Expression, Signature, Statement, Target } from './syntax.ts';
import { TokenStream } from './token-stream.ts';

/** @throws JinjaError of kind TemplateSyntaxError */
export function parse(template: string): Statement[] {
  return new Parser(new TokenStream(tokenize(template))).template();
}

class Parser extends ExpressionParser {
  /** End tags that are waited for, the innermost last. */
  readonly #awaited: (readonly string[])[] = [];
  #loops = 0;

  template(): Statement[] {
    return this.#statements([]);
  }

  /** Up to one of the end tags, of which the name is current then; or to the end of the template. */
  #statements(ends: readonly string[]): Statement[] {
    const statements: Statement[] = [];
    for (;;) {
      const token = this.stream.current;
      if (token.type === 'eof') {
        if (ends.length > 0) throw this.#unexpectedEnd(ends);
        return statements;
      }
      this.stream.next();
      if (token.type === 'data') statements.push({ kind: 'text', text: token.value });
      else if (token.type === 'variable_begin') {
        statements.push({ kind: 'print', value: this.tuple() });
        this.stream.expect('variable_end');
      } else {
        const { current } = this.stream;
        if (current.type === 'name' && ends.includes(current.value)) return statements;
        this.#awaited.push(ends);
        statements.push(...this.stream.nested(() => this.#statement()));
        this.#awaited.pop();
        this.stream.expect('block_end');
      }
    }
  }

  #unexpectedEnd(ends: readonly string[]): Error {
    return this.stream.fail(`Unexpected end of template. Jinja was looking for the following tags: ${quotedList(ends)}.`);
  }

  /** The rest of the tag's line and its body. The name of the end tag is current then, or behind when there is one only. */
  #body(...ends: string[]): Statement[] {
    this.stream.skipIf('operator', ':');
    this.stream.expect('block_end');
    const statements = this.#statements(ends);
    if (ends.length === 1) this.stream.next();
    return statements;
  }

  #statement(): Statement[] {
    const token = this.stream.expect('name');
    switch (token.value) {
      case 'set':
        return [this.#set()];
      case 'if':
        return [this.#if()];
      case 'for':
        return [this.#for()];
      case 'macro':
        return [this.#macro()];
      case 'call':
        return [this.#callBlock(token.line)];
      case 'filter':
        return [this.#filterBlock()];
      case 'with':
        return [this.#with()];
      case 'print':
        return this.#print();
      case 'break':
      case 'continue':
        if (this.#loops === 0) throw this.stream.fail(`'${token.value}' outside loop`, token.line);
        return [{ kind: token.value }];
      case 'generation':
        // Marks what the assistant said, for training; a scope of its own like the body of a call.
        return [{ kind: 'with', targets: [], values: [], body: this.#outsideLoops(() => this.#body('endgeneration')) }];
      case 'autoescape':
        this.expression();
        return [{ kind: 'with', targets: [], values: [], body: this.#body('endautoescape') }];
      case 'block':
        return [this.#block()];
      case 'extends':
      case 'include':
      case 'import':
      case 'from':
        return [this.#unloadable()];
      default:
        throw this.#unknownTag(token.value, token.line);
    }
  }

  #unknownTag(name: string, line: number): Error {
    const awaited = this.#awaited.at(-1) ?? [];
    const looking = awaited.length > 0 ? ` Jinja was looking for the following tags: ${quotedList(awaited)}.` : '';
    return this.stream.fail(`Encountered unknown tag '${name}'.${looking}`, line);
  }

  #set(): Statement {
    const target = this.target({ namespaces: true });
    if (this.stream.skipIf('operator', '=')) return { kind: 'set', target, value: this.tuple() };
    let filter: Expression | null = null;
    while (this.stream.skipIf('operator', '|')) filter = this.filter(filter);
    return { kind: 'capture', target, filter, body: this.#body('endset') };
  }

  #if(): Statement {
    const branches: [Expression, Statement[]][] = [];
    for (;;) {
      branches.push([this.tuple({ conditions: false }), this.#body('elif', 'else', 'endif')]);
      const tag = this.stream.next().value;
      if (tag === 'elif') continue;
      return { kind: 'if', branches, otherwise: tag === 'else' ? this.#body('endif') : [] };
    }
  }

  #for(): Statement {
    const target = this.target({ end: 'in' });
    this.stream.expect('name', 'in');
    const items = this.tuple({ conditions: false, end: 'recursive' });
    const test = this.stream.skipIf('name', 'if') ? this.expression() : null;
    const recursive = this.stream.skipIf('name', 'recursive');
    this.#loops++;
    const body = this.#body('endfor', 'else');
    this.#loops--;
    const otherwise = this.stream.next().value === 'else' ? this.#body('endfor') : [];
    return { kind: 'for', target, items, test, recursive, body, otherwise };
  }

  /** A body of its own: what stands in it cannot leave a loop around it. */
  #outsideLoops<T>(parse: () => T): T {
    const loops = this.#loops;
    this.#loops = 0;
    const result = parse();
    this.#loops = loops;
    return result;
  }

  #signature(): Signature {
    const parameters: string[] = [];
    const defaults: Expression[] = [];
    this.stream.expect('operator', '(');
    while (!this.stream.is('operator', ')')) {
      if (parameters.length > 0) this.stream.expect('operator', ',');
      parameters.push(this.name());
      if (this.stream.skipIf('operator', '=')) defaults.push(this.expression());
      else if (defaults.length > 0) throw this.stream.fail('non-default argument follows default argument');
    }
    this.stream.expect('operator', ')');
    return { parameters, defaults };
  }

  /** A body with the names that are read in it. */
  #named(end: string): { body: Statement[]; names: ReadonlySet<string> } {
    const names = new Set<string>();
    this.scopes.push(names);
    const body = this.#outsideLoops(() => this.#body(end));
    this.scopes.pop();
    return { body, names };
  }

  #macro(): Statement {
    const name = this.name();
    const signature = this.#signature();
    return { kind: 'macro', name, macro: { ...signature, ...this.#named('endmacro') } };
  }

  #callBlock(line: number): Statement {
    const signature = this.stream.is('operator', '(') ? this.#signature() : { parameters: [], defaults: [] };
    const call = this.expression();
    if (call.kind !== 'call') throw this.stream.fail('expected call', line);
    return { kind: 'call', call, macro: { ...signature, ...this.#named('endcall') } };
  }

  #filterBlock(): Statement {
    let filter = this.filter(null);
    while (this.stream.skipIf('operator', '|')) filter = this.filter(filter);
    return { kind: 'filter', filter, body: this.#outsideLoops(() => this.#body('endfilter')) };
  }

  #with(): Statement {
    const targets: Target[] = [];
    const values: Expression[] = [];
    while (this.stream.current.type !== 'block_end') {
      if (targets.length > 0) this.stream.expect('operator', ',');
      targets.push({ kind: 'name', name: this.name() });
      this.stream.expect('operator', '=');
      values.push(this.expression());
    }
    return { kind: 'with', targets, values, body: this.#body('endwith') };
  }

  #print(): Statement[] {
    const printed: Statement[] = [];
    while (this.stream.current.type !== 'block_end') {
      if (printed.length > 0) this.stream.expect('operator', ',');
      printed.push({ kind: 'print', value: this.expression() });
    }
    return printed;
  }

  #block(): Statement {
    const { value } = this.stream.expect('name');
    while (this.stream.skipIf('name', 'scoped') || this.stream.skipIf('name', 'required'));
    const body = this.#outsideLoops(() => this.#body('endblock'));
    this.stream.skipIf('name', value);
    return { kind: 'block', name: value, body };
  }

  #unloadable(): Statement {
    while (this.stream.current.type !== 'block_end' && this.stream.current.type !== 'eof') this.stream.next();
    return { kind: 'unloadable' };
  }
}

function quotedList(names: readonly string[]): string {
  const quoted = names.map((name) => `'${name}'`);
  return quoted.length === 1 ? quoted[0] : `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
}
