/**
 * AWQ checkpoints (Lin et al., "AWQ", 2023) in the `gemm` layout of AutoAWQ: for a module of K inputs and N outputs `qweight` I32 `[K, N / 8]`, `qzeros` I32
 * `[groups, N / 8]`, `scales` F16 `[groups, N]`. A word holds eight outputs, whose order in its nibbles, from the lowest, is 0 2 4 6 1 3 5 7.
 * `weight[n, k] = scales[g, n] * (level[k, n] - zero[g, n])`.
 */
import { assembleIntegers, type IntegerWeight, scalesByGroup } from './integer-weight.ts';
import { allExactInF16, floatDtypes } from './numbers.ts';
import { type Assembly, type QuantScheme, type RawTensors, requireRaw, unsupported, wordsOf, wrongTensor } from './scheme.ts';
import type { SettingsReader } from './settings.ts';

/** Bit at which output `n % 8` of a word begins: the inverse of the order above, times four. */
const shifts = [0, 16, 4, 20, 8, 24, 12, 28] as const;

export function awq(settings: SettingsReader): QuantScheme {
  const version = settings.text('version') ?? 'gemm';
  if (version !== 'gemm') throw unsupported('AWQ in another layout', 'version gemm', version);
  const bits = settings.integer('bits') ?? settings.integer('w_bit') ?? 4;
  if (bits !== 4) throw unsupported('AWQ', 'bits 4', String(bits));
  const configured = settings.integer('group_size') ?? settings.integer('q_group_size') ?? 128;
  return {
    method: 'awq',
    suffixes: ['.qweight'],
    assemble: (module, tensors) => (tensors.raw(`${module}.qweight`) === undefined ? undefined : assembleAwq(module, tensors, configured)),
  };
}

function assembleAwq(module: string, tensors: RawTensors, configured: number): Assembly {
  const qweight = requireRaw(tensors, `${module}.qweight`, ['I32', 'U32'], 2);
  const qzeros = requireRaw(tensors, `${module}.qzeros`, ['I32', 'U32'], 2);
  const scales = requireRaw(tensors, `${module}.scales`, floatDtypes, 2);
  const [columns, words] = qweight.shape;
  const rows = words * 8;
  const groupSize = configured > 0 ? configured : columns;
  const groups = Math.ceil(columns / groupSize);
  if (scales.shape[0] !== groups || scales.shape[1] !== rows) throw wrongTensor(scales, `[${groups}, ${rows}] for groups of ${groupSize}`);
  if (qzeros.shape[0] !== groups || qzeros.shape[1] !== words) throw wrongTensor(qzeros, `[${groups}, ${words}]`);
  const weight: IntegerWeight = {
    rows,
    columns,
    bits: 4,
    groupSize,
    scales: () => scalesByGroup(tensors, scales, qzeros, 4, levelAt),
    openLevels: () => {
      const all = wordsOf(tensors.read(qweight));
      return (first, count, out) => {
        const isWhole = first % 8 === 0 && count % 8 === 0;
        for (let column = 0; column < columns; column++) {
          if (!isWhole) {
            for (let row = 0; row < count; row++) out[row * columns + column] = levelAt(all, column * words, first + row);
            continue;
          }
          const start = column * words + first / 8;
          for (let row = 0; row < count; row += 8) {
            const word = all[start + row / 8];
            for (let i = 0; i < 8; i++) out[(row + i) * columns + column] = (word >>> shifts[i]) & 15;
          }
        }
      };
    },
  };
  return assembleIntegers(module, weight, allExactInF16);
}

function levelAt(words: Uint32Array, start: number, row: number): number {
  return (words[start + (row >>> 3)] >>> shifts[row & 7]) & 15;
}
