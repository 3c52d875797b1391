/** Text to ids and back. Implementations: `hf-tokenizer.ts` (tokenizer.json), built from GGUF or tokenizer.model by converters beside it. */
export interface Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  /** Ids that end a generation: tokenizer's EOS and all of generation_config.json. */
  readonly eosTokenIds: readonly number[];
  readonly specialTokenIds: ReadonlySet<number>;
  /**
   * Ids of `text`. `addSpecialTokens` adds BOS and kin as the model's post-processor says.
   * `parseSpecial: false` treats the spelling of special tokens as plain text (user content); true recognises them (rendered templates).
   */
  encode(text: string, options: EncodeOptions): Int32Array;
  /** As `encode`, without blocking the event loop for over 20 ms on any length. */
  encodeAsync(text: string, options: EncodeOptions): Promise<Int32Array>;
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean }): string;
  /** Exact bytes that the token stands for in the middle of a text (a byte-fallback token is one byte, `▁` is a space). */
  tokenBytes(id: number): Uint8Array;
  /** Spelling in the vocabulary, such as `Ġthe` or `<0x0A>`. */
  tokenText(id: number): string;
  /** @returns the id of a vocabulary entry by its spelling, or undefined */
  tokenId(spelling: string): number | undefined;
  /** True when the decoder drops the first space of a text (SentencePiece with a dummy prefix). */
  readonly stripsLeadingSpace: boolean;
  close(): Promise<void>;
}

export interface EncodeOptions {
  addSpecialTokens: boolean;
  parseSpecial: boolean;
  /**
   * With `parseSpecial`: places of the text (UTF-16 positions, ascending, not overlapping) where the spelling of a special token
   * is plain text all the same, as in what a user wrote into a rendered template.
   */
  literalRanges?: readonly (readonly [start: number, end: number])[];
}

/** Turns a growing list of ids into text, never half a character and never a lost one. One a request and choice. */
export interface Detokenizer {
  /** Text completed by this token; may be empty while a character is unfinished. */
  push(id: number): string;
  /** What remains at the end: an unfinished character becomes U+FFFD. */
  flush(): string;
}
