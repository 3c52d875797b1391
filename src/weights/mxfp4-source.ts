/**
 * Checkpoints of `quant_method: mxfp4` (gpt-oss): a matrix is a tensor of blocks `[..., rows, groups, 16]` and one of scales `[..., rows, groups]`, both U8. A byte
 * of a block holds two neighbouring 4-bit floats, the first in its low half; a scale is an exponent, E8M0. Read as one tensor `[..., rows, groups * 32]` in the
 * format `mxfp4`, whose bytes hold elements 16 apart. OCP Microscaling Formats 1.0; transformers `integrations/mxfp4.py`.
 */
import { storedBytes, weightFormats } from '../quant/formats/index.ts';
import type { RawTensor, SafetensorsSource } from './safetensors.ts';
import { invalidFile, quoteName } from './tensor-layout.ts';
import type { StoredTensor, WeightSource } from './weight-source.ts';

const GROUP_BYTES = 16;
const { blockBytes } = weightFormats.mxfp4;

interface Pair {
  readonly blocks: RawTensor;
  readonly scales: RawTensor;
  readonly tensor: StoredTensor;
}

/** The tensors of a checkpoint, pairs of blocks and scales as the matrices that they are. Closing it closes `source`. @throws WEIGHTS_FILE_INVALID */
export function mxfp4Source(source: SafetensorsSource): WeightSource {
  const pairs = new Map<string, Pair>();
  for (const name of source.names()) {
    if (!name.endsWith('_blocks')) continue;
    const stem = name.slice(0, -'_blocks'.length);
    const blocks = source.raw(name);
    const scales = source.raw(`${stem}_scales`);
    if (blocks !== undefined && scales !== undefined) pairs.set(stem, { blocks, scales, tensor: matrixOf(stem, blocks, scales) });
  }
  return {
    files: source.files,
    mappable: true,
    find: (name) => pairs.get(name)?.tensor ?? source.find(name),
    names: () => [...source.names(), ...pairs.keys()],
    read(tensor) {
      const pair = pairs.get(tensor.name);
      return pair === undefined ? source.read(tensor) : readPair(source, pair, tensor);
    },
    close: () => source.close(),
  };
}

function matrixOf(name: string, blocks: RawTensor, scales: RawTensor): StoredTensor {
  const groups = scales.shape;
  const fits = blocks.dtype === 'U8' && scales.dtype === 'U8' && groups.length >= 2 && `${blocks.shape}` === `${[...groups, GROUP_BYTES]}`;
  if (!fits) {
    throw invalidFile(
      blocks.file,
      `blocks and scales of ${quoteName(name)} do not make MXFP4.`,
      'U8 [..., rows, groups, 16] and U8 [..., rows, groups]',
      `${blocks.dtype} [${blocks.shape}] and ${scales.dtype} [${scales.shape}]`,
    );
  }
  const shape = [...groups.slice(0, -1), groups[groups.length - 1] * 2 * GROUP_BYTES];
  const elements = shape.reduce((a, b) => a * b, 1);
  return { name, format: 'mxfp4', shape, file: blocks.file, offset: 0, sizeBytes: storedBytes('mxfp4', elements), assembled: true };
}

/** Bytes `[offset, offset + sizeBytes)` of the matrix, whole groups. */
function readPair(source: SafetensorsSource, { blocks, scales }: Pair, { offset, sizeBytes }: StoredTensor): Uint8Array {
  const first = offset / blockBytes;
  const count = sizeBytes / blockBytes;
  const codes = source.read({ ...blocks, offset: blocks.offset + first * GROUP_BYTES, sizeBytes: count * GROUP_BYTES });
  const exponents = source.read({ ...scales, offset: scales.offset + first, sizeBytes: count });
  const out = new Uint8Array(sizeBytes);
  for (let group = 0; group < count; group++) {
    const at = group * blockBytes;
    const from = group * GROUP_BYTES;
    out[at] = exponents[group];
    for (let i = 0; i < GROUP_BYTES; i += 2) {
      const [low, high] = [from + (i >> 1), from + 8 + (i >> 1)];
      out[at + 1 + i] = (codes[low] & 15) | ((codes[high] & 15) << 4);
      out[at + 2 + i] = (codes[low] >> 4) | (codes[high] & 0xf0);
    }
  }
  return out;
}
