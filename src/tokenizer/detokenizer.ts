/** Ids to text as they come: on bytes, so that a character is given out when its last byte is there and not before. */
import type { Detokenizer, Tokenizer } from './tokenizer.ts';
import { Utf8Decoder } from './utf8-decoder.ts';

export interface DetokenizerOptions {
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean;
  /**
   * Ids in front of the first pushed one. They decide whether a leading space is dropped (only at the start of a text) and
   * may hold the first bytes of a character that the first pushed tokens complete. Their text is not given out.
   */
  readonly promptTokenIds?: ArrayLike<number>;
}

/**
 * The parts given out add up to `Tokenizer.decode` of all ids. Invalid bytes become U+FFFD where the WHATWG decoder puts
 * one; a run of byte tokens that is not UTF-8 is decoded as far as it goes, while Hugging Face replaces the whole run.
 */
export class IncrementalDetokenizer implements Detokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #skipSpecialTokens: boolean;
  readonly #decoder = new Utf8Decoder();
  #dropsSpace: boolean;

  constructor(tokenizer: Tokenizer, options: DetokenizerOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecialTokens = options.skipSpecialTokens ?? true;
    this.#dropsSpace = tokenizer.stripsLeadingSpace;
    if (options.promptTokenIds !== undefined) this.#readPrompt(options.promptTokenIds);
  }

  push(id: number): string {
    if (this.#skipSpecialTokens && this.#tokenizer.specialTokenIds.has(id)) return '';
    const bytes = this.#tokenizer.tokenBytes(id);
    if (bytes.length === 0) return '';
    const start = this.#dropsSpace && bytes[0] === 0x20 ? 1 : 0;
    this.#dropsSpace = false;
    return this.#decoder.push(bytes, start);
  }

  flush(): string {
    return this.#decoder.flush();
  }

  /** An unfinished character is at most three bytes, so the last three tokens with bytes tell it; their text is dropped. */
  #readPrompt(ids: ArrayLike<number>): void {
    const tail: Uint8Array[] = [];
    for (let i = ids.length - 1; i >= 0 && tail.length < 3; i--) {
      if (this.#skipSpecialTokens && this.#tokenizer.specialTokenIds.has(ids[i])) continue;
      const bytes = this.#tokenizer.tokenBytes(ids[i]);
      if (bytes.length > 0) tail.push(bytes);
    }
    if (tail.length > 0) this.#dropsSpace = false;
    for (const bytes of tail.reverse()) this.#decoder.push(bytes);
  }
}
