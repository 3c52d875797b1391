/** Tokens one after the other, with Jinja's errors when they are not what is expected. */
import { syntaxError } from './errors.ts';
import type { Token, TokenType } from './lexer.ts';

const descriptions: Readonly<Partial<Record<TokenType, string>>> = {
  block_begin: 'begin of statement block',
  block_end: 'end of statement block',
  variable_begin: 'begin of print statement',
  variable_end: 'end of print statement',
  data: 'template data / text',
  eof: 'end of template',
};

/** Deepest nesting of expressions and blocks. */
const maxNesting = 100;

export class TokenStream {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  get current(): Token {
    return this.#tokens[this.#at];
  }

  get following(): Token {
    return this.#tokens[Math.min(this.#at + 1, this.#tokens.length - 1)];
  }

  next(): Token {
    const token = this.current;
    if (token.type !== 'eof') this.#at++;
    return token;
  }

  /** Whether the current token is that name or operator. */
  is(type: 'name' | 'operator', value: string): boolean {
    return this.current.type === type && this.current.value === value;
  }

  skipIf(type: 'name' | 'operator', value: string): boolean {
    const found = this.is(type, value);
    if (found) this.next();
    return found;
  }

  /** @throws TemplateSyntaxError */
  expect(type: TokenType, value?: string): Token {
    const { current } = this;
    if (current.type === type && (value === undefined || current.value === value)) return this.next();
    const expected = value ?? descriptions[type] ?? type;
    if (current.type === 'eof') throw this.fail(`unexpected end of template, expected '${expected}'.`);
    throw this.fail(`expected token '${expected}', got '${describe(current)}'`);
  }

  fail(message: string, line = this.current.line): Error {
    return syntaxError(message, line);
  }

  /** Runs a part of the parser that may run itself again. */
  nested<T>(parse: () => T): T {
    if (++this.#depth > maxNesting) throw this.fail(`the template nests deeper than ${maxNesting} levels`);
    const result = parse();
    this.#depth--;
    return result;
  }
}

export function describe(token: Token): string {
  if (token.type === 'name' || token.type === 'operator') return token.value;
  return descriptions[token.type] ?? token.type;
}
