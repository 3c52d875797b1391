import type { EncodeOptions, Tokenizer } from './tokenizer.ts';

/**
 * A stand-in for models that come without a tokenizer (random weights from a bare config): UTF-8 bytes are ids 0 to 255, and each further id
 * reads as a word of its own number.
 */
export class ByteTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId = null;
  readonly eosTokenIds: readonly number[] = [];
  readonly specialTokenIds: ReadonlySet<number> = new Set();
  readonly stripsLeadingSpace = false;
  readonly #encoder = new TextEncoder();

  constructor(vocabSize: number) {
    this.vocabSize = vocabSize;
  }

  encode(text: string, _options: EncodeOptions): Int32Array {
    return Int32Array.from(this.#encoder.encode(text), (byte) => byte % this.vocabSize);
  }

  async encodeAsync(text: string, options: EncodeOptions): Promise<Int32Array> {
    return this.encode(text, options);
  }

  decode(ids: ArrayLike<number>): string {
    const bytes = Array.from(ids, (id) => [...this.tokenBytes(id)]).flat();
    return new TextDecoder().decode(Uint8Array.from(bytes));
  }

  tokenBytes(id: number): Uint8Array {
    return id < 256 ? Uint8Array.of(id) : this.#encoder.encode(` ${id}`);
  }

  tokenText(id: number): string {
    return id < 256 ? `<0x${id.toString(16).padStart(2, '0').toUpperCase()}>` : ` ${id}`;
  }

  tokenId(spelling: string): number | undefined {
    const byte = /^<0x([0-9A-F]{2})>$/.exec(spelling);
    const id = byte === null ? Number(spelling) : Number.parseInt(byte[1], 16);
    return Number.isInteger(id) && id >= 0 && id < this.vocabSize ? id : undefined;
  }

  async close(): Promise<void> {}
}
