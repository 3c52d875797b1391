/**
 * GPTQ checkpoints (Frantar et al., "GPTQ", 2022) as AutoGPTQ and GPTQModel store them: for a module of K inputs and N outputs
 *
 * - `qweight` I32 `[K * bits / 32, N]`: the levels of an output, K running, as a stream of bits from the lowest of each word on
 * - `qzeros` I32 `[groups, N * bits / 32]`: zero points, N running, packed alike; less one in checkpoints of format `gptq`, as they are in `gptq_v2`
 * - `scales` F16 `[groups, N]`, and `g_idx` I32 `[K]`, the group of each column
 *
 * `weight[n, k] = scales[g, n] * (level[n, k] - zero[g, n])`. Where `g_idx` does not rise (act-order), columns are stored sorted by group, and the
 * inputs of the linear are gathered in that order.
 */
import type { RawTensor } from '../safetensors.ts';
import { assembleIntegers, type IntegerWeight, scalesByGroup } from './integer-weight.ts';
import { allExactInF16, floatDtypes } from './numbers.ts';
import { type Assembly, type QuantScheme, type RawTensors, requireRaw, unsupported, wordsOf, wrongTensor } from './scheme.ts';
import type { SettingsReader } from './settings.ts';

const allBits = [2, 3, 4, 8] as const;
type Bits = (typeof allBits)[number];

export function gptq(settings: SettingsReader): QuantScheme {
  const format = settings.text('checkpoint_format') ?? 'gptq';
  if (settings.flag('is_marlin_format') || !['gptq', 'gptq_v2'].includes(format)) {
    throw unsupported('GPTQ in a layout made for one kernel', 'checkpoint_format gptq or gptq_v2', format);
  }
  const overrides = dynamicOverrides(settings);
  return {
    method: 'gptq',
    suffixes: ['.qweight'],
    assemble(module, tensors) {
      if (tensors.raw(`${module}.qweight`) === undefined) return undefined;
      const own = overrides(module) ?? settings;
      const bits = own.integer('bits') ?? settings.integer('bits');
      const groupSize = own.integer('group_size') ?? settings.integer('group_size') ?? -1;
      if (!allBits.includes(bits as Bits)) throw unsupported(`GPTQ of ${module}`, 'bits 2, 3, 4 or 8', String(bits));
      return assembleGptq(module, tensors, bits as Bits, groupSize, format === 'gptq' ? 1 : 0);
    },
  };
}

/** GPTQModel's `dynamic`: a regular expression of module names to settings of its own (`+:` or no prefix; `-:` names modules that are not quantised). */
function dynamicOverrides(settings: SettingsReader): (module: string) => SettingsReader | undefined {
  const rules = settings.entries('dynamic').flatMap(([pattern, own]) => {
    if (pattern.startsWith('-:')) return [];
    return [{ matches: settings.pattern(pattern.replace(/^\+:/, '')), own }];
  });
  return (module) => rules.find(({ matches }) => matches(module))?.own;
}

function assembleGptq(module: string, tensors: RawTensors, bits: Bits, configured: number, zeroShift: number): Assembly {
  const qweight = requireRaw(tensors, `${module}.qweight`, ['I32', 'U32'], 2);
  const qzeros = requireRaw(tensors, `${module}.qzeros`, ['I32', 'U32'], 2);
  const scales = requireRaw(tensors, `${module}.scales`, floatDtypes, 2);
  const rows = qweight.shape[1];
  const columns = (qweight.shape[0] * 32) / bits;
  const [groups] = scales.shape;
  const groupSize = configured > 0 ? configured : columns;
  if (scales.shape[1] !== rows || groups !== Math.ceil(columns / groupSize)) {
    throw wrongTensor(scales, `[${Math.ceil(columns / groupSize)}, ${rows}] for groups of ${groupSize}`);
  }
  if (qzeros.shape[0] !== groups || qzeros.shape[1] !== Math.ceil((rows * bits) / 32)) {
    throw wrongTensor(qzeros, `[${groups}, ${Math.ceil((rows * bits) / 32)}]`);
  }
  const order = columnOrder(module, tensors, columns, groupSize);
  const weight: IntegerWeight = {
    rows,
    columns,
    bits,
    groupSize,
    ...(order === undefined ? {} : { columnOrder: order }),
    scales: () =>
      scalesByGroup(tensors, scales, qzeros, bits, (words, start, row) => (packed(words, start, 1, row, bits) + zeroShift) & ((1 << bits) - 1)),
    openLevels: () => levelReader(wordsOf(tensors.read(qweight)), rows, columns, bits, order),
  };
  return assembleIntegers(module, weight, allExactInF16);
}

/** The column of the model at each place, or undefined where groups follow each other as they are. */
function columnOrder(module: string, tensors: RawTensors, columns: number, groupSize: number): Uint32Array | undefined {
  const tensor = tensors.raw(`${module}.g_idx`);
  if (tensor === undefined) return undefined;
  if (tensor.shape.length !== 1 || tensor.shape[0] !== columns || tensor.dtype !== 'I32') throw wrongTensor(tensor, `I32 [${columns}]`);
  return orderByGroup(tensor, wordsOf(tensors.read(tensor)), groupSize);
}

/**
 * Columns sorted by group, in their own order inside each. @throws WEIGHTS_FILE_INVALID when groups are not of one length (the last may be shorter)
 */
export function orderByGroup(tensor: RawTensor, groupOf: Uint32Array, groupSize: number): Uint32Array | undefined {
  if (groupOf.every((group, column) => group === Math.floor(column / groupSize))) return undefined;
  const columns = groupOf.length;
  const next = Uint32Array.from({ length: Math.ceil(columns / groupSize) }, (_, group) => group * groupSize);
  const order = new Uint32Array(columns);
  for (let column = 0; column < columns; column++) {
    const group = groupOf[column];
    const place = group < next.length ? next[group]++ : columns;
    if (place >= Math.min(columns, (group + 1) * groupSize))
      throw wrongTensor(tensor, `${groupSize} columns in every group`, `more in group ${group}`);
    order[place] = column;
  }
  return order;
}

/** Element `index` of a stream of `bits`-bit numbers. `words` are `stride` apart. */
function packed(words: Uint32Array, start: number, stride: number, index: number, bits: Bits): number {
  const bit = index * bits;
  const at = start + (bit >>> 5) * stride;
  const shift = bit & 31;
  const low = words[at] >>> shift;
  return (shift + bits <= 32 ? low : low | (words[at + stride] << (32 - shift))) & ((1 << bits) - 1);
}

function levelReader(words: Uint32Array, rows: number, columns: number, bits: Bits, order: Uint32Array | undefined) {
  if (order === undefined && 32 % bits === 0) return wholeWords(words, rows, columns, bits);
  return (first: number, count: number, out: Uint8Array) => {
    for (let place = 0; place < columns; place++) {
      const column = order === undefined ? place : order[place];
      for (let row = 0; row < count; row++) out[row * columns + place] = packed(words, first + row, rows, column, bits);
    }
  };
}

/** As `levelReader`, for columns in order whose levels do not straddle words: each word is read once. */
function wholeWords(words: Uint32Array, rows: number, columns: number, bits: Bits) {
  const perWord = 32 / bits;
  const mask = 2 ** bits - 1;
  return (first: number, count: number, out: Uint8Array) => {
    for (let column = 0, at = first; column < columns; column += perWord, at += rows) {
      for (let row = 0; row < count; row++) {
        let word = words[at + row];
        const to = row * columns + column;
        for (let i = 0; i < perWord; i++) {
          out[to + i] = word & mask;
          word >>>= bits;
        }
      }
    }
  };
}
