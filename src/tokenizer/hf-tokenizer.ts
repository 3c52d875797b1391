/** The one tokenizer: byte pair encoding over tables, made from the files that the readers beside it know. */
import { IncrementalDetokenizer } from './detokenizer.ts';
import { checkTextLength, Encoder } from './encoder.ts';
import type { TokenBytesTable } from './token-bytes.ts';
import type { EncodeOptions, Tokenizer } from './tokenizer.ts';
import type { TokenizerData } from './tokenizer-data.ts';
import { Vocabulary } from './vocabulary.ts';
import { WorkerEncoder } from './worker-encoder.ts';

/** Longer texts are encoded in the worker: this many UTF-16 units take a few milliseconds at most, whatever they are. */
export const maxInlineTextLength = 4096;

const noBytes = new Uint8Array(0);

export class HfTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly specialTokenIds: ReadonlySet<number>;
  readonly stripsLeadingSpace: boolean;
  readonly #vocabulary: Vocabulary;
  readonly #encoder: Encoder;
  readonly #worker: WorkerEncoder;
  readonly #tokenBytes: TokenBytesTable;

  constructor({ encoder, tokenBytes, stripsLeadingSpace, bosTokenId, eosTokenIds }: TokenizerData) {
    this.#vocabulary = new Vocabulary(encoder.vocabulary);
    this.#encoder = new Encoder(encoder, this.#vocabulary);
    this.#worker = new WorkerEncoder(encoder);
    this.#tokenBytes = tokenBytes;
    this.vocabSize = this.#vocabulary.size;
    this.bosTokenId = bosTokenId;
    this.eosTokenIds = eosTokenIds;
    this.specialTokenIds = new Set(encoder.addedTokens.filter((token) => token.special).map((token) => token.id));
    this.stripsLeadingSpace = stripsLeadingSpace;
  }

  encode(text: string, options: EncodeOptions): Int32Array {
    return this.#encoder.encode(text, options);
  }

  async encodeAsync(text: string, options: EncodeOptions): Promise<Int32Array> {
    if (text.length <= maxInlineTextLength) return this.encode(text, options);
    checkTextLength(text);
    return this.#worker.encode(text, options);
  }

  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    const detokenizer = new IncrementalDetokenizer(this, { skipSpecialTokens: options.skipSpecialTokens ?? true });
    let text = '';
    for (let i = 0; i < ids.length; i++) text += detokenizer.push(ids[i]);
    return text + detokenizer.flush();
  }

  tokenBytes(id: number): Uint8Array {
    if (!(id >= 0 && id < this.vocabSize)) return noBytes;
    const { bytes, offsets } = this.#tokenBytes;
    return bytes.subarray(offsets[id], offsets[id + 1]);
  }

  tokenText(id: number): string {
    return this.#vocabulary.spelling(id);
  }

  tokenId(spelling: string): number | undefined {
    const id = this.#vocabulary.id(spelling);
    return id < 0 ? undefined : id;
  }

  close(): Promise<void> {
    return this.#worker.close();
  }
}
