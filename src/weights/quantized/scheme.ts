/**
 * How a quantised checkpoint becomes weights in the engine's own formats: a scheme knows one `quant_method`; for each module that is stored its way it says
 * the format of the weight and gives rows of it on demand. Nothing is held meanwhile, and nothing is expanded.
 */
import { MillraceError } from '../../base/errors.ts';
import type { Activation, WeightFormat } from '../../plan/plan.ts';
import type { RawTensor } from '../safetensors.ts';
import { quoteName } from '../tensor-layout.ts';

/** The tensors of the files, in any number type. */
export interface RawTensors {
  raw(name: string): RawTensor | undefined;
  read(tensor: RawTensor): Uint8Array;
}

/** A weight put together from several tensors of the file. */
export interface Assembly {
  readonly format: WeightFormat;
  readonly shape: readonly [rows: number, columns: number];
  readonly activation?: Activation;
  readonly columnOrder?: Uint32Array;
  /** Rows `[first, first + count)` in `format`. */
  readRows(first: number, count: number): Uint8Array;
}

/** One way of storing quantised modules. */
export interface QuantScheme {
  /** `quant_method` of the configuration. */
  readonly method: string;
  /** Tensors `<module><suffix>` that stand for `<module>.weight`. */
  readonly suffixes: readonly string[];
  /**
   * The weight of a module, or undefined where it is not quantised.
   * @throws WEIGHTS_FORMAT_UNSUPPORTED, WEIGHTS_FILE_INVALID, WEIGHTS_TENSOR_MISSING
   */
  assemble(module: string, tensors: RawTensors): Assembly | undefined;
}

/** A tensor that must be there, of one of these number types. */
export function requireRaw(tensors: RawTensors, name: string, dtypes: readonly string[], rank?: number): RawTensor {
  const tensor = tensors.raw(name);
  if (tensor === undefined) {
    throw new MillraceError('WEIGHTS_TENSOR_MISSING', {
      message: `The checkpoint holds no tensor ${quoteName(name)}, which its quantised weights need.`,
    });
  }
  if (!dtypes.includes(tensor.dtype) || (rank !== undefined && tensor.shape.length !== rank)) {
    const received = `${quoteName(tensor.dtype)} [${tensor.shape.join(', ')}]`;
    throw wrongTensor(tensor, `${dtypes.join(' or ')}${rank === undefined ? '' : ` of ${rank} dimensions`}`, received);
  }
  return tensor;
}

export function wrongTensor({ name, shape, file }: RawTensor, expected: string, received = `[${shape.join(', ')}]`): MillraceError {
  return new MillraceError('WEIGHTS_FILE_INVALID', {
    message: `${file}: tensor ${quoteName(name)} does not fit the quantisation that the configuration describes.`,
    expected,
    received,
  });
}

export function unsupported(what: string, expected: string, received: string): MillraceError {
  return new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
    message: `The checkpoint is quantised in a way that is not read: ${what}.`,
    expected,
    received: received.slice(0, 200),
    hint: 'use another checkpoint of this model; docs/quantization.md lists what is read',
  });
}

/** A view of bytes as 32-bit words; copied where they do not start at a multiple of 4. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.length >> 2);
}
