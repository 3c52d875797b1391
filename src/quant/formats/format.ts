/** What a storage format of weights is: blocks of a fixed number of elements in a fixed number of bytes. */
export interface WeightFormatDefinition {
  /** Elements in one block; a row of a matrix is a whole number of blocks. */
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Bits a weight as kernels hold them, where that is less than in blocks: what belongs to a row is held once. */
  readonly heldBits?: number;
  /** Expands whole blocks. `out` has as many elements as `bytes` holds. `bytes` may start at any address. */
  dequantize(bytes: Uint8Array, out: Float32Array): void;
  /**
   * Packs f32 values, a whole number of blocks.
   * @param columns elements of a row, for formats that have something for each row; by default the values are one row
   */
  quantize(values: Float32Array, columns?: number): Uint8Array;
}
