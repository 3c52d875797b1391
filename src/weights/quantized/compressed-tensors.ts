/**
 * Checkpoints of compressed-tensors (LLM Compressor). Each module that is quantised has one of
 *
 * - `weight_packed` I32 `[rows, columns * bits / 32]`, levels from the lowest bits on, `2 ** (bits - 1)` more than the number; `weight_shape`;
 *   `weight_scale` `[rows, groups]`; where asymmetric `weight_zero_point`, packed alike along the rows; with act-order `weight_g_idx` (pack-quantized)
 * - `weight` I8 with `weight_scale` `[rows, 1]` and perhaps `weight_zero_point` I8 (int-quantized, naive-quantized)
 * - `weight` F8_E4M3 with `weight_scale` of the tensor, of rows, of groups or of blocks (float-quantized, naive-quantized)
 *
 * `weight = scale * (number - zero)`. Which modules have which bits is in `config_groups`, by exact name, by pattern (`re:...`) or by class.
 *
 * W8A8 of integers: activations of one scale a token, as the configuration asks; where it asks for one fixed scale, a token's own is finer (and never
 * clips), and where it asks for asymmetric ones, groups of 32 are.
 */
import { MillraceError } from '../../base/errors.ts';
import type { Activation } from '../../plan/plan.ts';
import type { RawTensor } from '../safetensors.ts';
import { signedBytes } from './bitsandbytes.ts';
import { assembleScaled } from './fp8.ts';
import { orderByGroup } from './gptq.ts';
import { assembleIntegers, type IntegerWeight, type Scales, zerosOrMiddle } from './integer-weight.ts';
import { allExactInF16, floatDtypes, readFloats } from './numbers.ts';
import { type Assembly, type QuantScheme, type RawTensors, requireRaw, unsupported, wordsOf, wrongTensor } from './scheme.ts';
import type { SettingsReader } from './settings.ts';

const allBits = [2, 4, 8] as const;
type Bits = (typeof allBits)[number];

export function compressedTensors(settings: SettingsReader): QuantScheme {
  if (settings.section('sparsity_config')?.has('format') && settings.section('sparsity_config')?.text('format') !== 'dense') {
    throw unsupported('compressed-tensors with sparse weights', 'dense', String(settings.section('sparsity_config')?.text('format')));
  }
  const groupOf = groupFinder(settings);
  return {
    method: 'compressed-tensors',
    suffixes: ['.weight_packed'],
    assemble(module, tensors) {
      const packed = tensors.raw(`${module}.weight_packed`);
      if (packed !== undefined) return assemblePacked(module, tensors, packed, groupOf(module));
      const weight = tensors.raw(`${module}.weight`);
      if (weight?.dtype === 'I8' && tensors.raw(`${module}.weight_scale`) !== undefined)
        return assembleBytes(module, tensors, weight, groupOf(module));
      return assembleScaled(module, tensors, groupOf(module)?.section('weights')?.integers('block_structure'));
    },
  };
}

/** The entry of `config_groups` that a module belongs to: by name or pattern before class. */
function groupFinder(settings: SettingsReader): (module: string) => SettingsReader | undefined {
  const rules = settings.entries('config_groups').map(([, group]) => {
    const targets = group.texts('targets');
    const names = new Set(targets);
    const patterns = targets.filter((target) => target.startsWith('re:')).map((target) => group.pattern(target.slice(3)));
    return { group, matches: (module: string) => names.has(module) || patterns.some((is) => is(module)), ofClass: targets.includes('Linear') };
  });
  return (module) =>
    (rules.find(({ matches }) => matches(module)) ?? rules.find(({ ofClass }) => ofClass) ?? (rules.length === 1 ? rules[0] : undefined))?.group;
}

/** What linears over integer weights multiply with. */
function activationOf(group: SettingsReader | undefined): Activation | undefined {
  const input = group?.section('input_activations');
  if (input === undefined || input.text('type') !== 'int') return undefined;
  const isSymmetric = !input.has('symmetric') || input.flag('symmetric');
  const isGrouped = input.text('strategy') === 'group' || input.text('strategy') === 'tensor_group';
  return isSymmetric && !isGrouped ? 'int8-token' : 'int8-group32';
}

function assemblePacked(module: string, tensors: RawTensors, packed: RawTensor, group: SettingsReader | undefined): Assembly {
  const bits = group?.section('weights')?.integer('num_bits') ?? 4;
  if (!allBits.includes(bits as Bits)) throw unsupported(`compressed-tensors of ${module}`, 'num_bits 2, 4 or 8', String(bits));
  const [rows, columns] = shapeOf(module, tensors);
  if (packed.dtype !== 'I32' || packed.shape[0] !== rows || packed.shape[1] !== Math.ceil((columns * bits) / 32)) {
    throw wrongTensor(packed, `I32 [${rows}, ${Math.ceil((columns * bits) / 32)}] for ${bits} bits`);
  }
  const scale = requireRaw(tensors, `${module}.weight_scale`, floatDtypes, 2);
  const groups = scale.shape[1];
  const groupSize = groups === 1 ? columns : (group?.section('weights')?.integer('group_size') ?? columns / groups);
  if (scale.shape[0] !== rows || groupSize < 1 || groups !== Math.ceil(columns / groupSize))
    throw wrongTensor(scale, `[${rows}, ${Math.ceil(columns / groupSize)}]`);
  const index = tensors.raw(`${module}.weight_g_idx`);
  if (index !== undefined && index.shape[0] !== columns) throw wrongTensor(index, `[${columns}]`);
  const order = index === undefined || groups === 1 ? undefined : orderByGroup(index, wordsOf(tensors.read(index)), groupSize);
  const weight: IntegerWeight = {
    rows,
    columns,
    bits: bits as Bits,
    groupSize,
    ...optional('activation', activationOf(group)),
    ...optional('columnOrder', order),
    scales: () => readScales(module, tensors, scale, bits),
    openLevels: () => packedLevels(tensors, packed, columns, bits, order),
  };
  return assembleIntegers(module, weight, allExactInF16);
}

function optional<Key extends string, T>(key: Key, value: T | undefined): { [K in Key]?: T } {
  return (value === undefined ? {} : { [key]: value }) as { [K in Key]?: T };
}

function shapeOf(module: string, tensors: RawTensors): readonly [number, number] {
  const tensor = requireRaw(tensors, `${module}.weight_shape`, ['I64', 'I32'], 1);
  const bytes = tensors.read(tensor);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const at = (i: number) => (tensor.dtype === 'I64' ? Number(view.getBigInt64(8 * i, true)) : view.getInt32(4 * i, true));
  const isLength = (n: number) => Number.isSafeInteger(n) && n > 0 && n < 2 ** 31;
  if (tensor.shape[0] === 2 && isLength(at(0)) && isLength(at(1))) return [at(0), at(1)];
  throw new MillraceError('WEIGHTS_FILE_INVALID', { message: `Tensor ${tensor.name} is not a shape.`, expected: 'two lengths' });
}

function readScales(module: string, tensors: RawTensors, scale: RawTensor, bits: number): Scales {
  const values = readFloats(tensors, scale);
  const tensor = tensors.raw(`${module}.weight_zero_point`);
  if (tensor === undefined) return { values, zeros: null };
  const [rows, groups] = scale.shape;
  const zeros = new Uint8Array(rows * groups);
  const perWord = 32 / bits;
  if (tensor.dtype === 'I32' && tensor.shape[0] === Math.ceil(rows / perWord) && tensor.shape[1] === groups) {
    const words = wordsOf(tensors.read(tensor));
    for (let row = 0; row < rows; row++) {
      for (let g = 0; g < groups; g++)
        zeros[row * groups + g] = (words[Math.floor(row / perWord) * groups + g] >>> ((row % perWord) * bits)) & (2 ** bits - 1);
    }
  } else if (tensor.dtype === 'I8' && tensor.shape.reduce((a, b) => a * b, 1) === rows * groups) {
    const bytes = tensors.read(tensor);
    for (let i = 0; i < zeros.length; i++) zeros[i] = ((bytes[i] << 24) >> 24) + 2 ** (bits - 1);
  } else throw wrongTensor(tensor, `I32 [${Math.ceil(rows / perWord)}, ${groups}] or I8 [${rows}, ${groups}]`);
  return { values, zeros: zerosOrMiddle(zeros, bits) };
}

function packedLevels(tensors: RawTensors, packed: RawTensor, columns: number, bits: number, order: Uint32Array | undefined) {
  const rowWords = packed.shape[1];
  const perWord = 32 / bits;
  const mask = 2 ** bits - 1;
  return (first: number, count: number, out: Uint8Array) => {
    const words = wordsOf(tensors.read({ ...packed, offset: packed.offset + first * rowWords * 4, sizeBytes: count * rowWords * 4 }));
    for (let row = 0; row < count; row++) {
      for (let place = 0; place < columns; place++) {
        const column = order === undefined ? place : order[place];
        out[row * columns + place] = (words[row * rowWords + Math.floor(column / perWord)] >>> ((column % perWord) * bits)) & mask;
      }
    }
  };
}

function assembleBytes(module: string, tensors: RawTensors, weight: RawTensor, group: SettingsReader | undefined): Assembly {
  if (weight.shape.length !== 2) throw wrongTensor(weight, '2 dimensions');
  const [rows, columns] = weight.shape;
  const scale = requireRaw(tensors, `${module}.weight_scale`, floatDtypes);
  const elements = scale.shape.reduce((a, b) => a * b, 1);
  if (elements !== 1 && (scale.shape[0] !== rows || elements % rows !== 0 || columns % (elements / rows) !== 0))
    throw wrongTensor(scale, `[${rows}, 1]`);
  const groups = elements === 1 ? 1 : elements / rows;
  const oneForAll = elements === 1 && rows > 1;
  return assembleIntegers(
    module,
    {
      rows,
      columns,
      bits: 8,
      groupSize: columns / groups,
      ...optional('activation', activationOf(group)),
      scales: () => {
        const given = readScales(module, tensors, { ...scale, shape: [oneForAll ? 1 : rows, groups] }, 8);
        if (!oneForAll) return given;
        const zeros = given.zeros === null ? null : new Uint8Array(rows).fill(given.zeros[0]);
        return { values: new Float32Array(rows).fill(given.values[0]), zeros };
      },
      openLevels: () => signedBytes(tensors, weight),
    },
    allExactInF16,
  );
}
