/** The beginning of a JSON text as the value that it is so far. */

/**
 * @param text the beginning of a JSON value, as a grammar of JSON Schemas writes it
 * @returns the value without what is not there yet: strings may be longer later, lists and objects grow, and a number, a name or a word that may
 *   go on is left out; undefined while there is nothing
 */
export function parsePartialJson(text: string): unknown {
  return new PartialReader(text).read();
}

class PartialReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): unknown {
    this.#skip();
    const character = this.#text[this.#at];
    if (character === '{') return this.#object();
    if (character === '[') return this.#array();
    if (character === '"') return this.#string().value;
    return this.#scalar();
  }

  #skip(): void {
    while (this.#at < this.#text.length && ' \n\r\t'.includes(this.#text[this.#at])) this.#at++;
  }

  /** Consumes the character when it comes next. */
  #take(character: string): boolean {
    this.#skip();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #object(): Record<string, unknown> {
    const entries: [string, unknown][] = [];
    this.#at++;
    while (!this.#take('}') && this.#at < this.#text.length) {
      const { value: name, isWhole } = this.#string();
      if (!isWhole || !this.#take(':')) break;
      const value = this.read();
      if (value === undefined) break;
      entries.push([name, value]);
      if (!this.#take(',') && this.#text[this.#at] !== '}') break;
      this.#skip();
    }
    return Object.fromEntries(entries);
  }

  #array(): unknown[] {
    const items: unknown[] = [];
    this.#at++;
    while (!this.#take(']') && this.#at < this.#text.length) {
      const value = this.read();
      if (value === undefined) break;
      items.push(value);
      if (!this.#take(',') && this.#text[this.#at] !== ']') break;
    }
    return items;
  }

  #string(): { value: string; isWhole: boolean } {
    const start = this.#at++;
    for (; this.#at < this.#text.length; this.#at++) {
      if (this.#text[this.#at] === '\\') {
        // half an escape, or half of a pair of them, waits for its rest
        const found = /^\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?![dD][89abAB])[0-9a-fA-F]{4}|[^u])/.exec(
          this.#text.slice(this.#at, this.#at + 12),
        );
        if (found === null) break;
        this.#at += found[0].length - 1;
      } else if (this.#text[this.#at] === '"') {
        this.#at++;
        return { value: JSON.parse(this.#text.slice(start, this.#at)) as string, isWhole: true };
      }
    }
    const value = JSON.parse(`${this.#text.slice(start, this.#at)}"`) as string;
    this.#at = this.#text.length;
    return { value, isWhole: false };
  }

  /** Whole only when something follows it. */
  #scalar(): unknown {
    const start = this.#at;
    while (this.#at < this.#text.length && /[\w+\-.]/.test(this.#text[this.#at])) this.#at++;
    const word = this.#text.slice(start, this.#at);
    const isWord = word === 'true' || word === 'false' || word === 'null';
    if (this.#at === this.#text.length && !isWord) return undefined;
    return JSON.parse(word) as unknown;
  }
}
