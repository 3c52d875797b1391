/** Expressions, by recursive descent; the order of precedence is Jinja's. */
import type { Arithmetic } from './arithmetic.ts';
import type { CallArguments, Comparison, Expression, Target } from './syntax.ts';
import { describe, type TokenStream } from './token-stream.ts';
import { makeFloat, makeInt } from './values.ts';

const comparisons: ReadonlySet<string> = new Set(['==', '!=', '<', '<=', '>', '>=']);
const noArguments: CallArguments = { args: [], kwargs: [], moreArgs: null, moreKwargs: null };
/** Longest chain of operators, filters or calls on one value; each is a level of nesting when it is evaluated. */
const maxChain = 400;

interface TupleOptions {
  /** Names and literals only: what is assigned to. */
  readonly simple?: boolean;
  readonly namespaces?: boolean;
  readonly conditions?: boolean;
  readonly end?: string;
  readonly inParentheses?: boolean;
}

export class ExpressionParser {
  protected readonly stream: TokenStream;
  /** Names that were read, for the macros around. */
  protected readonly scopes: Set<string>[] = [];

  constructor(stream: TokenStream) {
    this.stream = stream;
  }

  expression(conditions = true): Expression {
    return this.stream.nested(() => (conditions ? this.#condition() : this.#or()));
  }

  /** One expression, or several as a tuple. */
  tuple(options: TupleOptions = {}): Expression {
    const items: Expression[] = [];
    let isTuple = false;
    for (;;) {
      if (items.length > 0) this.stream.expect('operator', ',');
      if (this.#isTupleEnd(options.end)) break;
      items.push(options.simple === true ? this.#primary(options.namespaces === true) : this.expression(options.conditions ?? true));
      if (!this.stream.is('operator', ',')) break;
      isTuple = true;
    }
    if (!isTuple) {
      if (items.length > 0) return items[0];
      if (options.inParentheses !== true) throw this.stream.fail(`Expected an expression, got '${describe(this.stream.current)}'`);
    }
    return { kind: 'tuple', items };
  }

  #isTupleEnd(end: string | undefined): boolean {
    const { type } = this.stream.current;
    return type === 'variable_end' || type === 'block_end' || this.stream.is('operator', ')') || (end !== undefined && this.stream.is('name', end));
  }

  /** @throws TemplateSyntaxError for what cannot be assigned to */
  target(options: { namespaces?: boolean; end?: string } = {}): Target {
    const { line } = this.stream.current;
    return this.#assignable(this.tuple({ simple: true, ...options }), line);
  }

  #assignable(expression: Expression, line: number): Target {
    if (expression.kind === 'namespace' || expression.kind === 'name') return expression;
    if (expression.kind === 'tuple') {
      for (const item of expression.items) this.#assignable(item, line);
      return expression;
    }
    throw this.stream.fail(`can't assign to '${expression.kind}'`, line);
  }

  name(): string {
    const token = this.stream.expect('name');
    if (['true', 'false', 'none', 'True', 'False', 'None'].includes(token.value)) throw this.stream.fail("can't assign to 'const'", token.line);
    return token.value;
  }

  #condition(): Expression {
    let value = this.#or();
    while (this.stream.is('name', 'if')) {
      const { line } = this.stream.next();
      const test = this.#or();
      const otherwise = this.stream.skipIf('name', 'else') ? this.stream.nested(() => this.#condition()) : null;
      value = { kind: 'if', test, value, otherwise, line };
    }
    return value;
  }

  /** `operand operator operand operator ...`, taken from the left. */
  #chain(operand: () => Expression, join: (left: Expression) => Expression | null): Expression {
    let left = operand();
    for (let length = 0; ; length++) {
      const joined = join(left);
      if (joined === null) return left;
      if (length > maxChain) throw this.stream.fail(`an expression has more than ${maxChain} parts`);
      left = joined;
    }
  }

  #or(): Expression {
    return this.#chain(
      () => this.#and(),
      (left) => (this.stream.skipIf('name', 'or') ? { kind: 'or', left, right: this.#and() } : null),
    );
  }

  #and(): Expression {
    return this.#chain(
      () => this.#not(),
      (left) => (this.stream.skipIf('name', 'and') ? { kind: 'and', left, right: this.#not() } : null),
    );
  }

  #not(): Expression {
    if (!this.stream.skipIf('name', 'not')) return this.#comparison();
    return { kind: 'not', operand: this.stream.nested(() => this.#not()) };
  }

  #comparison(): Expression {
    const first = this.#sum();
    const rest: [Comparison, Expression][] = [];
    for (let operator = this.#comparisonOperator(); operator !== null; operator = this.#comparisonOperator()) rest.push([operator, this.#sum()]);
    return rest.length === 0 ? first : { kind: 'compare', first, rest };
  }

  #comparisonOperator(): Comparison | null {
    const { current, following } = this.stream;
    if (current.type === 'operator' && comparisons.has(current.value)) return this.stream.next().value as Comparison;
    if (this.stream.skipIf('name', 'in')) return 'in';
    if (!this.stream.is('name', 'not') || following.type !== 'name' || following.value !== 'in') return null;
    this.stream.next();
    this.stream.next();
    return 'not in';
  }

  #arithmetic(operators: readonly Arithmetic[], operand: () => Expression): Expression {
    return this.#chain(operand, (left) => {
      const operator = operators.find((each) => this.stream.skipIf('operator', each));
      return operator === undefined ? null : { kind: 'arithmetic', operator, left, right: operand() };
    });
  }

  #sum(): Expression {
    return this.#arithmetic(['+', '-'], () => this.#concat());
  }

  #concat(): Expression {
    const items = [this.#product()];
    while (this.stream.skipIf('operator', '~')) items.push(this.#product());
    return items.length === 1 ? items[0] : { kind: 'concat', items };
  }

  #product(): Expression {
    return this.#arithmetic(['*', '/', '//', '%'], () => this.#power());
  }

  /** From the left, other than in Python. */
  #power(): Expression {
    return this.#arithmetic(['**'], () => this.#unary(true));
  }

  #unary(withFilters: boolean): Expression {
    const sign = this.stream.is('operator', '-') ? '-' : this.stream.is('operator', '+') ? '+' : null;
    let value: Expression;
    if (sign === null) value = this.#primary(false);
    else {
      this.stream.next();
      value = { kind: 'sign', operator: sign, operand: this.stream.nested(() => this.#unary(false)) };
    }
    value = this.#postfix(value);
    return withFilters ? this.#filters(value) : value;
  }

  #primary(namespaces: boolean): Expression {
    const token = this.stream.current;
    switch (token.type) {
      case 'name':
        this.stream.next();
        return this.#named(token.value, namespaces);
      case 'string': {
        let text = '';
        while (this.stream.current.type === 'string') text += this.stream.next().value;
        return { kind: 'constant', value: text };
      }
      case 'integer':
        this.stream.next();
        if (token.value.length > 4300) throw this.stream.fail('an integer has more than 4300 digits', token.line);
        return { kind: 'constant', value: makeInt(BigInt(token.value.replaceAll('_', '').toLowerCase())) };
      case 'float':
        this.stream.next();
        return { kind: 'constant', value: makeFloat(Number(token.value.replaceAll('_', ''))) };
      default:
    }
    if (this.stream.skipIf('operator', '(')) {
      const inner = this.stream.nested(() => this.tuple({ inParentheses: true }));
      this.stream.expect('operator', ')');
      return inner;
    }
    if (this.stream.is('operator', '[')) return this.#list();
    if (this.stream.is('operator', '{')) return this.#dict();
    throw this.stream.fail(`unexpected '${describe(token)}'`, token.line);
  }

  #named(name: string, namespaces: boolean): Expression {
    if (name === 'true' || name === 'True') return { kind: 'constant', value: true };
    if (name === 'false' || name === 'False') return { kind: 'constant', value: false };
    if (name === 'none' || name === 'None') return { kind: 'constant', value: null };
    if (namespaces && this.stream.skipIf('operator', '.')) return { kind: 'namespace', name, attribute: this.stream.expect('name').value };
    for (const scope of this.scopes) scope.add(name);
    return { kind: 'name', name };
  }

  #list(): Expression {
    this.stream.next();
    const items: Expression[] = [];
    while (!this.stream.is('operator', ']')) {
      if (items.length > 0) this.stream.expect('operator', ',');
      if (this.stream.is('operator', ']')) break;
      items.push(this.expression());
    }
    this.stream.expect('operator', ']');
    return { kind: 'list', items };
  }

  #dict(): Expression {
    this.stream.next();
    const pairs: [Expression, Expression][] = [];
    while (!this.stream.is('operator', '}')) {
      if (pairs.length > 0) this.stream.expect('operator', ',');
      if (this.stream.is('operator', '}')) break;
      const key = this.expression();
      this.stream.expect('operator', ':');
      pairs.push([key, this.expression()]);
    }
    this.stream.expect('operator', '}');
    return { kind: 'dict', pairs };
  }

  #postfix(start: Expression): Expression {
    return this.#chain(
      () => start,
      (object) => {
        if (this.stream.skipIf('operator', '.')) return this.#dotted(object);
        if (this.stream.skipIf('operator', '[')) return this.#subscript(object);
        return this.stream.is('operator', '(') ? { kind: 'call', callee: object, call: this.callArguments() } : null;
      },
    );
  }

  #dotted(object: Expression): Expression {
    const token = this.stream.next();
    if (token.type === 'name') return { kind: 'attribute', object, name: token.value };
    if (token.type !== 'integer') throw this.stream.fail('expected name or number', token.line);
    return { kind: 'item', object, key: { kind: 'constant', value: makeInt(BigInt(token.value.replaceAll('_', ''))) } };
  }

  #subscript(object: Expression): Expression {
    const bounds: (Expression | null)[] = [null];
    if (!this.stream.is('operator', ':')) bounds[0] = this.expression();
    if (this.stream.is('operator', ':')) {
      while (bounds.length < 3 && this.stream.skipIf('operator', ':'))
        bounds.push(this.stream.is('operator', ']') || this.stream.is('operator', ':') ? null : this.expression());
      this.stream.expect('operator', ']');
      return { kind: 'slice', object, bounds: [bounds[0], bounds[1], bounds[2] ?? null] };
    }
    const keys = bounds[0] === null ? [] : [bounds[0]];
    while (this.stream.skipIf('operator', ',')) keys.push(this.expression());
    this.stream.expect('operator', ']');
    return { kind: 'item', object, key: keys.length === 1 ? keys[0] : { kind: 'tuple', items: keys } };
  }

  #filters(start: Expression): Expression {
    return this.#chain(
      () => start,
      (subject) => {
        if (this.stream.skipIf('operator', '|')) return this.filter(subject);
        if (this.stream.skipIf('name', 'is')) return this.#test(subject);
        return this.stream.is('operator', '(') ? { kind: 'call', callee: subject, call: this.callArguments() } : null;
      },
    );
  }

  /** A filter's name and arguments, behind the `|`. */
  filter(subject: Expression | null): Expression & { kind: 'filter' } {
    const name = this.#dottedName();
    return { kind: 'filter', subject, name, call: this.stream.is('operator', '(') ? this.callArguments() : noArguments };
  }

  #dottedName(): string {
    let name = this.stream.expect('name').value;
    while (this.stream.skipIf('operator', '.')) name += `.${this.stream.expect('name').value}`;
    return name;
  }

  #test(subject: Expression): Expression {
    const negated = this.stream.skipIf('name', 'not');
    const name = this.#dottedName();
    let call = noArguments;
    if (this.stream.is('operator', '(')) call = this.callArguments();
    else if (this.#startsArgument()) {
      if (this.stream.is('name', 'is')) throw this.stream.fail('You cannot chain multiple tests with is');
      call = { ...noArguments, args: [this.#postfix(this.#primary(false))] };
    }
    const test: Expression = { kind: 'test', subject, name, call };
    return negated ? { kind: 'not', operand: test } : test;
  }

  /** A test may take one argument without parentheses. */
  #startsArgument(): boolean {
    const { type, value } = this.stream.current;
    if (type === 'name') return value !== 'else' && value !== 'or' && value !== 'and';
    return type === 'string' || type === 'integer' || type === 'float' || (type === 'operator' && (value === '[' || value === '{'));
  }

  callArguments(): CallArguments {
    const { line } = this.stream.expect('operator', '(');
    const args: Expression[] = [];
    const kwargs: [string, Expression][] = [];
    let moreArgs: Expression | null = null;
    let moreKwargs: Expression | null = null;
    const ensure = (valid: boolean): void => {
      if (!valid) throw this.stream.fail('invalid syntax for function call expression', line);
    };
    for (let first = true; !this.stream.is('operator', ')'); first = false) {
      if (!first) this.stream.expect('operator', ',');
      if (this.stream.is('operator', ')')) break;
      if (this.stream.skipIf('operator', '*')) {
        ensure(moreArgs === null && moreKwargs === null);
        moreArgs = this.expression();
      } else if (this.stream.skipIf('operator', '**')) {
        ensure(moreKwargs === null);
        moreKwargs = this.expression();
      } else if (this.stream.current.type === 'name' && this.stream.following.type === 'operator' && this.stream.following.value === '=') {
        ensure(moreKwargs === null);
        const key = this.stream.next().value;
        this.stream.next();
        kwargs.push([key, this.expression()]);
      } else {
        ensure(moreArgs === null && moreKwargs === null && kwargs.length === 0);
        args.push(this.expression());
      }
    }
    this.stream.expect('operator', ')');
    return { args, kwargs, moreArgs, moreKwargs };
  }
}
