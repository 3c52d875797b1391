/**
 * Random weights for a plan (`--load-format dummy`): the same for the same tensor name and shape, made when read and never held, cheap enough that
 * half a billion take a few seconds. Sizes are such that activations stay finite at any depth.
 */
import { MillraceError } from '../base/errors.ts';
import type { Plan, WeightFormat } from '../plan/plan.ts';
import { storedBytes, weightFormats } from '../quant/formats/index.ts';
import type { StoredTensor, WeightSource } from './weight-source.ts';

/** Distinct values in one tensor, as a power of two: 4096 are plenty for weights that mean nothing. */
const TABLE_BITS = 12;
const TABLE_SIZE = 1 << TABLE_BITS;
/** Distinct blocks in one tensor of a block format. */
const BLOCKS = 1021;
const BIAS_AMPLITUDE = 0.02;
const NORM_AMPLITUDE = 0.05;
const FILE = 'random weights';

/** Values are uniform in `[center - amplitude, center + amplitude]`. */
interface DummyTensor extends StoredTensor {
  readonly center: number;
  readonly amplitude: number;
}

class DummySource implements WeightSource {
  readonly mappable = false;
  readonly files: readonly { readonly path: string; readonly sizeBytes: number }[];
  readonly #tensors: ReadonlyMap<string, DummyTensor>;

  constructor(tensors: ReadonlyMap<string, DummyTensor>) {
    this.#tensors = tensors;
    this.files = [{ path: FILE, sizeBytes: [...tensors.values()].reduce((sum, t) => sum + t.sizeBytes, 0) }];
  }

  find(name: string): StoredTensor | undefined {
    return this.#tensors.get(name);
  }

  names(): Iterable<string> {
    return this.#tensors.keys();
  }

  read(tensor: StoredTensor): Uint8Array {
    const { center, amplitude } = tensor as DummyTensor;
    const cut = tensor.offset === 0 ? '' : ` ${tensor.offset}`; // rows of a fused tensor
    const seed = hash(`${tensor.name} ${tensor.shape.join('x')}${cut}`);
    if (weightFormats[tensor.format].blockElements > 1) return fillBlocks(tensor, amplitude, seed);
    return fillFromTable(tensor, center, amplitude, seed);
  }

  close(): void {}
}

/**
 * A source of random weights in the formats that the plan names. Matrices are uniform within `sqrt(3 / columns)`, so that a row of unit variance
 * stays one; norms multiply by about 1; biases are small.
 * @throws CONFIG_INVALID when a row is not whole blocks of the format
 */
export function createDummySource(plan: Plan): WeightSource {
  const normOffsets = new Map<number, number>();
  for (const node of plan.nodes) {
    const weight = node.weights[0];
    if (weight === null || weight === undefined) continue;
    if (node.op === 'rms-norm' || node.op === 'add-rms-norm') normOffsets.set(weight, node.attrs.weightOffset);
    else if (node.op === 'layer-norm') normOffsets.set(weight, 0);
  }
  const tensors = new Map<string, DummyTensor>();
  for (const weight of plan.weights) {
    const normOffset = normOffsets.get(weight.id);
    for (const { tensor: name, shape } of weight.parts) {
      const { format } = weight;
      const columns = shape[shape.length - 1];
      if (columns % weightFormats[format].blockElements !== 0) throw notWholeBlocks(name, format, columns);
      const sizeBytes = storedBytes(format, countOf(shape));
      const isMatrix = weight.shape.length > 1;
      const center = normOffset === undefined ? 0 : 1 - normOffset;
      const amplitude = isMatrix ? Math.sqrt(3 / columns) : normOffset === undefined ? BIAS_AMPLITUDE : NORM_AMPLITUDE;
      tensors.set(name, { name, format, shape, file: FILE, offset: 0, sizeBytes, center, amplitude });
    }
  }
  return new DummySource(tensors);
}

/** Elements drawn from a table of values that is already in the target format. */
function fillFromTable({ format, shape }: StoredTensor, center: number, amplitude: number, seed: number): Uint8Array {
  const count = countOf(shape);
  const values = Float32Array.from({ length: TABLE_SIZE }, (_, i) => center + amplitude * ((2 * i + 1) / TABLE_SIZE - 1));
  const packed = weightFormats[format].quantize(values);
  const Elements = format === 'f32' ? Uint32Array : Uint16Array;
  const table = new Elements(packed.buffer as ArrayBuffer, packed.byteOffset, TABLE_SIZE);
  const out = new Elements(count);
  let state = seed;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    out[i] = table[state >>> (32 - TABLE_BITS)];
  }
  return new Uint8Array(out.buffer);
}

/** Blocks drawn from a table of packed ones. */
function fillBlocks({ format, sizeBytes }: StoredTensor, amplitude: number, seed: number): Uint8Array {
  const { blockBytes } = weightFormats[format];
  const table = blockTable(format, amplitude);
  const numBlocks = table.length / blockBytes;
  const bytes = new Uint8Array(sizeBytes);
  let state = seed;
  for (let at = 0; at < sizeBytes; at += blockBytes) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    const from = ((state >>> 8) % numBlocks) * blockBytes;
    bytes.set(table.subarray(from, from + blockBytes), at);
  }
  return bytes;
}

/** `BLOCKS` blocks of uniform values. */
function blockTable(format: WeightFormat, amplitude: number): Uint8Array {
  const { blockElements, quantize } = weightFormats[format];
  let state = 1;
  const values = Float32Array.from({ length: BLOCKS * blockElements }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return amplitude * (state / 2 ** 31);
  });
  return quantize(values);
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

function notWholeBlocks(name: string, format: WeightFormat, columns: number): MillraceError {
  return new MillraceError('CONFIG_INVALID', {
    message: `Random ${format} weights cannot have the width of tensor ${name}.`,
    expected: `a multiple of ${weightFormats[format].blockElements} columns`,
    received: String(columns),
    hint: 'choose another format for --load-format dummy',
  });
}

/** FNV-1a of a name. */
function hash(text: string): number {
  let state = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
  return state | 0;
}
