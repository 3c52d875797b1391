/** Follows one JSON value (RFC 8259) through pieces of text and finds where it ends. It does not check the grammar, only what could not be JSON at all. */
export class JsonScanner {
  /** `whole`: the value has ended; `broken`: what follows cannot belong to one. */
  state: 'open' | 'whole' | 'broken' = 'open';
  /** Characters of the last piece that belong to the value. */
  numUsed = 0;
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  #isScalar = false;

  get isInString(): boolean {
    return this.#isInString;
  }

  /** @returns the text of the value in this piece; control characters in strings, which JSON forbids and models write, are escaped */
  push(piece: string): string {
    let text = '';
    let copied = 0;
    let at = 0;
    for (; at < piece.length && this.state === 'open'; at++) {
      const code = piece.charCodeAt(at);
      if (this.#isInString) {
        if (code < 0x20) {
          text += piece.slice(copied, at) + JSON.stringify(piece[at]).slice(this.#isEscaped ? 2 : 1, -1);
          copied = at + 1;
        }
        this.#inString(code);
      } else if (!this.#outsideString(piece[at] ?? '')) break;
    }
    this.numUsed = at;
    return text + piece.slice(copied, at);
  }

  /** The output is over. @returns true when the value is whole */
  end(): boolean {
    if (this.state === 'open') this.state = this.#isScalar && this.#depth === 0 ? 'whole' : 'broken';
    return this.state === 'whole';
  }

  #inString(code: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (code === 0x5c) this.#isEscaped = true;
    else if (code === 0x22) {
      this.#isInString = false;
      if (this.#depth === 0) this.state = 'whole';
    }
  }

  /** @returns false when the character is not a part of the value */
  #outsideString(character: string): boolean {
    if (this.#depth === 0 && this.#isScalar && !/[\w+\-.]/.test(character)) {
      this.state = 'whole';
      return false;
    }
    if (character === '"') this.#isInString = true;
    else if (character === '{' || character === '[') this.#depth++;
    else if (character === '}' || character === ']') {
      if (--this.#depth === 0) this.state = 'whole';
      else if (this.#depth < 0) return this.#break();
    } else if (/[\w+\-.]/.test(character)) this.#isScalar = this.#depth === 0;
    else if (this.#depth === 0 || !/[\s,:]/.test(character)) return this.#break();
    return true;
  }

  #break(): false {
    this.state = 'broken';
    return false;
  }
}
