/** A list of calls with keyword arguments as Python writes them: literals only, nothing is run. */

export interface PythonCall {
  readonly name: string;
  readonly arguments: Record<string, unknown>;
}

/** @returns null when the text is not such a list from end to end */
export function readPythonCalls(text: string): PythonCall[] | null {
  try {
    return new PythonReader(text).calls();
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return null;
    throw thrown;
  }
}

/** @returns undefined when the text is not one literal from end to end */
export function readPythonValue(text: string): unknown {
  try {
    return new PythonReader(text).literal();
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
}

const MAX_DEPTH = 100;
const escapes: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  b: '\b',
  f: '\f',
  v: '\v',
  a: '\x07',
  '0': '\0',
  '/': '/',
  '\\': '\\',
  '"': '"',
  "'": "'",
};
const words: Readonly<Record<string, unknown>> = { True: true, False: false, None: null, true: true, false: false, null: null };

class PythonReader {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  calls(): PythonCall[] {
    this.#expect('[');
    const calls = this.#list(']', () => this.#call());
    this.#skip();
    if (this.#at < this.#text.length) throw new SyntaxError('more text');
    return calls;
  }

  literal(): unknown {
    const value = this.#value();
    this.#skip();
    if (this.#at < this.#text.length) throw new SyntaxError('more text');
    return value;
  }

  #call(): PythonCall {
    const name = this.#match(/[^\s()[\]{},="']+/y);
    this.#expect('(');
    const entries = this.#list(')', (): [string, unknown] => {
      const key = this.#match(/[^\s()[\]{},="']+/y);
      this.#expect('=');
      return [key, this.#value()];
    });
    return { name, arguments: Object.fromEntries(entries) };
  }

  /** Items with commas between, one behind the last allowed. */
  #list<T>(close: string, item: () => T): T[] {
    const items: T[] = [];
    while (!this.#take(close)) {
      items.push(item());
      if (this.#take(',')) continue;
      this.#expect(close);
      break;
    }
    return items;
  }

  #value(): unknown {
    if (++this.#depth > MAX_DEPTH) throw new SyntaxError('too deep');
    this.#skip();
    const value = this.#atom();
    this.#depth--;
    return value;
  }

  #atom(): unknown {
    const character = this.#text[this.#at];
    if (character === '"' || character === "'") return this.#string(character);
    if (this.#take('[')) return this.#list(']', () => this.#value());
    if (this.#take('(')) return this.#list(')', () => this.#value());
    if (this.#take('{')) return Object.fromEntries(this.#list('}', () => this.#entry()));
    const word = this.#match(/[\w+\-.]+/y);
    if (Object.hasOwn(words, word)) return words[word];
    const number = Number(word);
    if (!Number.isFinite(number)) throw new SyntaxError('neither a literal nor a number');
    return number;
  }

  #entry(): [string, unknown] {
    const key = this.#value();
    this.#expect(':');
    return [String(key), this.#value()];
  }

  #string(quote: string): string {
    let text = '';
    for (this.#at++; this.#text[this.#at] !== quote; this.#at++) {
      const character = this.#text[this.#at];
      if (character === undefined) throw new SyntaxError('a string that is not closed');
      text += character === '\\' ? this.#escape() : character;
    }
    this.#at++;
    return text;
  }

  #escape(): string {
    const name = this.#text[++this.#at];
    const length = { x: 2, u: 4, U: 8 }[name ?? ''];
    if (length === undefined) return escapes[name ?? ''] ?? `\\${name ?? ''}`; // what Python does not know stays as it is
    const digits = this.#text.slice(this.#at + 1, this.#at + 1 + length);
    const code = /^[0-9a-fA-F]+$/.test(digits) && digits.length === length ? Number.parseInt(digits, 16) : Number.POSITIVE_INFINITY;
    if (code > 0x10ffff) throw new SyntaxError('a malformed escape');
    this.#at += length;
    // halves of a pair stand one after the other, and make one character together
    return length === 4 ? String.fromCharCode(code) : String.fromCodePoint(code);
  }

  #skip(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
  }

  #take(character: string): boolean {
    this.#skip();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #expect(character: string): void {
    if (!this.#take(character)) throw new SyntaxError(`no ${character}`);
  }

  #match(pattern: RegExp): string {
    this.#skip();
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) throw new SyntaxError('something else');
    this.#at += found.length;
    return found;
  }
}
