/** Puts a long text together from small pieces, within the bound on its length as it grows. */
import { maxTextLength, type Runtime } from './runtime.ts';

const chunkLength = 4096;

export class TextBuilder {
  readonly #rt: Runtime;
  readonly #chunks: string[] = [];
  #chunk = '';
  #length = 0;

  constructor(rt: Runtime) {
    this.#rt = rt;
  }

  /** @throws TemplateTooLarge */
  add(text: string): void {
    this.#rt.step();
    this.#length += text.length;
    if (this.#length > maxTextLength) this.#rt.room(this.#length);
    this.#chunk += text;
    if (this.#chunk.length < chunkLength) return;
    this.#chunks.push(this.#chunk);
    this.#chunk = '';
  }

  text(): string {
    this.#rt.room(this.#length);
    return this.#chunks.join('') + this.#chunk;
  }
}
