/** Rules that hold for tensors in a file whatever its kind: whole blocks, inside the file, apart from each other. */
import { MillraceError } from '../base/errors.ts';
import type { WeightFormat } from '../plan/plan.ts';
import { weightFormats } from '../quant/formats/index.ts';
import type { StoredTensor } from './weight-source.ts';

/** Tensors in one file: many times what any model has. */
export const MAX_TENSORS = 250_000;
export const MAX_DIMENSIONS = 8;

/**
 * A tensor that a file holds in a number format that is not read. It does no harm until it is asked for.
 */
export interface UnreadTensor {
  readonly name: string;
  /** As the file calls it: `Q4_K`, `F8_E4M3`. */
  readonly type: string;
  /** Slowest first. */
  readonly shape: readonly number[];
  readonly file: string;
}

export function invalidFile(file: string, message: string, expected?: string, received?: string): MillraceError {
  return new MillraceError('WEIGHTS_FILE_INVALID', {
    message: `${file}: ${message}`,
    ...(expected === undefined ? {} : { expected }),
    ...(received === undefined ? {} : { received }),
  });
}

export function unsupportedFormat({ file, name, type }: UnreadTensor): MillraceError {
  return new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
    message: `${file}: tensor ${name} is stored in a number format that is not read yet.`,
    expected: 'F32, F16, BF16 or (GGUF) Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K, IQ1 to IQ4, TQ1_0, TQ2_0 or MXFP4',
    received: type,
    hint: 'use a checkpoint of another type, such as the BF16 original or a Q8_0 or Q4_K_M GGUF',
  });
}

/**
 * Elements of a shape, slowest dimension first.
 * @throws WEIGHTS_FILE_INVALID when a dimension is not a whole number or the product is beyond exact numbers
 */
export function countElements(file: string, name: string, shape: readonly unknown[]): number {
  if (shape.length > MAX_DIMENSIONS) {
    throw invalidFile(file, `tensor ${quoteName(name)} has too many dimensions.`, `at most ${MAX_DIMENSIONS}`, String(shape.length));
  }
  let elements = 1;
  for (const length of shape) {
    if (typeof length !== 'number' || !Number.isSafeInteger(length) || length < 0) {
      throw invalidFile(file, `tensor ${quoteName(name)} has a dimension that is not a length.`, 'a whole number', String(length));
    }
    elements *= length;
  }
  if (!Number.isSafeInteger(elements * 8)) throw invalidFile(file, `tensor ${quoteName(name)} claims ${elements} elements.`, 'fewer than 2^50');
  return elements;
}

/** Bytes of a tensor. @throws WEIGHTS_FILE_INVALID when its rows are not whole blocks */
export function countBytes(file: string, name: string, shape: readonly number[], elements: number, format: WeightFormat): number {
  const { blockElements, blockBytes } = weightFormats[format];
  const columns = shape.length === 0 ? 1 : shape[shape.length - 1];
  if (columns % blockElements !== 0) {
    throw invalidFile(
      file,
      `rows of tensor ${quoteName(name)} are not whole ${format} blocks.`,
      `a multiple of ${blockElements} columns`,
      String(columns),
    );
  }
  return (elements / blockElements) * blockBytes;
}

/** Checks that no two tensors of one file share a byte. @throws WEIGHTS_FILE_INVALID naming the two */
export function checkApart(file: string, tensors: readonly Pick<StoredTensor, 'name' | 'offset' | 'sizeBytes'>[]): void {
  const inOrder = tensors.filter((t) => t.sizeBytes > 0).sort((a, b) => a.offset - b.offset);
  for (let i = 1; i < inOrder.length; i++) {
    const before = inOrder[i - 1];
    if (before.offset + before.sizeBytes > inOrder[i].offset) {
      throw invalidFile(
        file,
        `tensors ${quoteName(before.name)} and ${quoteName(inOrder[i].name)} overlap.`,
        `an offset of at least ${before.offset + before.sizeBytes}`,
        String(inOrder[i].offset),
      );
    }
  }
}

/** Names come from the file: cut for messages. */
export function quoteName(name: string): string {
  return name.length <= 100 ? name : `${name.slice(0, 100)}...`;
}
