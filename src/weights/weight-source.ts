/** Where a backend gets the bytes of weights: lazily, by name, one checkpoint a source. */
import type { Activation, WeightFormat } from '../plan/plan.ts';

/** A tensor lying in a file. */
export interface StoredTensor {
  /** Hugging Face spelling, whatever the file calls it. */
  readonly name: string;
  readonly format: WeightFormat;
  /** Row-major, slowest first. */
  readonly shape: readonly number[];
  readonly file: string;
  readonly offset: number;
  readonly sizeBytes: number;
  /**
   * Row order differs from Hugging Face's: GGUF files of the Llama family store q and k with rotary pairs interleaved. The reader of bytes
   * must put row `headDim * h + 2 * i + j` of the file at row `headDim * h + i + j * headDim / 2`.
   */
  readonly rowOrder?: { readonly kind: 'rope-interleaved'; readonly headDim: number };
  /** Value added to each element when read: -1 for GGUF norms of the Gemma families, which store `weight + 1`. */
  readonly shift?: number;
  /** The bytes are put together when they are read, from several tensors of the file or from numbers of another format: only `read` gives them. */
  readonly assembled?: true;
  /** What the checkpoint asks linears over it to multiply with; the user's choice goes before it. */
  readonly activation?: Activation;
  /** Column `i` as stored is column `columnOrder[i]` of the model: columns lie in the order in which they were quantised. Matrices only. */
  readonly columnOrder?: Uint32Array;
}

export interface WeightSource {
  /** Files in load order, with sizes: for mapping, progress and the memory check. */
  readonly files: readonly { readonly path: string; readonly sizeBytes: number }[];
  /**
   * @returns the tensor, or undefined when the checkpoint does not hold it
   * @throws WEIGHTS_FORMAT_UNSUPPORTED when it is in a number format that is not read
   */
  find(name: string): StoredTensor | undefined;
  /** All tensors, those in formats that `find` refuses included: which a model has decides its shape. */
  names(): Iterable<string>;
  /**
   * Bytes of a tensor as stored, read without the addon: for the reference backend and for vectors.
   * Random sources (`--load-format dummy`) make them up, the same for the same name and shape.
   */
  read(tensor: StoredTensor): Uint8Array;
  /** `file` of every tensor is a path that may be memory-mapped; false for dummy weights, which only `read` gives. */
  readonly mappable: boolean;
  close(): void;
}
