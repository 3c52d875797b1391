/**
 * Rounding of weights with a search, for `--quantize` and `millrace convert`: what `quantize` of a format leaves to the plainest rule.
 *
 * Objective, per group: the least sum of squared errors, over a few fixed candidates for the scale. Integer formats: levels of each candidate by rounding to
 * the nearest, then the scale that is best for those levels (least squares), rounded as it is stored. Of equals the first candidate; no randomness and no
 * data but the weights, so that the same weights give the same bytes.
 */
import { storeF16 } from './formats/blocks.ts';
import { E4M3_MAX, e4m3Values, numberToE4m3 } from './formats/fp8.ts';
import { storedBytes, type WeightFormatName, weightFormats } from './formats/index.ts';
import { INT8_MAX, storeChannel } from './formats/int8-channel.ts';
import { storeF32 } from './formats/integer-groups.ts';

/** Packs values, whole rows of `columns`, as well as is known for the format. */
export function roundTo(format: WeightFormatName, values: Float32Array, columns: number): Uint8Array {
  if (format === 'int8_channel') return roundChannels(values, columns);
  if (format === 'q4_0') return roundIntegers(values, nibbles);
  if (format === 'q8_0') return roundIntegers(values, bytes);
  if (format === 'fp8_g32' || format === 'fp8_g128') return roundFp8(values, format);
  return weightFormats[format].quantize(values, columns);
}

const GROUP = 32;

interface IntegerRule {
  readonly low: number;
  readonly high: number;
  readonly blockBytes: number;
  /** Levels that the element of the largest magnitude is tried at. */
  readonly targets: readonly number[];
  store(out: Uint8Array, at: number, levels: Int8Array): void;
}

const nibbles: IntegerRule = {
  low: -8,
  high: 7,
  blockBytes: 18,
  targets: [-8, -7.5, -7, -8.5, -9],
  store(out, at, levels) {
    for (let i = 0; i < 16; i++) out[at + 2 + i] = (levels[i] + 8) | ((levels[16 + i] + 8) << 4);
  },
};

const bytes: IntegerRule = {
  low: -127,
  high: 127,
  blockBytes: 34,
  targets: [127, 126.5],
  store(out, at, levels) {
    for (let i = 0; i < GROUP; i++) out[at + 2 + i] = levels[i];
  },
};

function roundIntegers(values: Float32Array, { low, high, blockBytes, targets, store }: IntegerRule): Uint8Array {
  const out = new Uint8Array((values.length / GROUP) * blockBytes);
  const tried = new Int8Array(GROUP);
  const best = new Int8Array(GROUP);
  for (let from = 0, at = 0; from < values.length; from += GROUP, at += blockBytes) {
    let extreme = 0;
    for (let i = from; i < from + GROUP; i++) if (Math.abs(values[i]) > Math.abs(extreme)) extreme = values[i];
    best.fill(0);
    let scale = 0;
    let least = Infinity;
    for (const target of extreme === 0 ? [] : targets) {
      const inverse = target / extreme;
      let products = 0;
      let squares = 0;
      for (let i = 0; i < GROUP; i++) {
        const level = Math.max(low, Math.min(high, Math.round(values[from + i] * inverse)));
        tried[i] = level;
        products += values[from + i] * level;
        squares += level * level;
      }
      const stored = storeF16(out, at, squares === 0 ? 0 : products / squares);
      const error = stored * (stored * squares - 2 * products); // less the squares of the values, which are the same for all
      if (error >= least) continue;
      least = error;
      scale = stored;
      best.set(tried);
    }
    storeF16(out, at, scale);
    store(out, at, best);
  }
  return out;
}

/** Largest number that the largest magnitude of a group is tried at. */
const fp8Targets = [E4M3_MAX, 416, 384, 352] as const;

function roundFp8(values: Float32Array, format: 'fp8_g32' | 'fp8_g128'): Uint8Array {
  const { blockElements, blockBytes } = weightFormats[format];
  const out = new Uint8Array((values.length / blockElements) * blockBytes);
  for (let from = 0, at = 0; from < values.length; from += blockElements, at += blockBytes) {
    let largest = 0;
    for (let i = from; i < from + blockElements; i++) largest = Math.max(largest, Math.abs(values[i]));
    let least = Infinity;
    for (const target of largest === 0 ? [] : fp8Targets) {
      const scale = Math.fround(largest / target);
      if (scale === 0) continue;
      let error = 0;
      for (let i = from; i < from + blockElements; i++) error += (scale * e4m3Values[numberToE4m3(values[i] / scale)] - values[i]) ** 2;
      if (error >= least) continue;
      least = error;
      storeF32(out, at, scale);
      for (let i = 0; i < blockElements; i++) out[at + 4 + i] = numberToE4m3(values[from + i] / scale);
    }
  }
  return out;
}

/** Levels that the largest magnitude of a row is tried at: the last two clip it, which pays in long rows. */
const channelTargets = [127, 126.5, 129.5, 133] as const;

/** Rows under one f32 scale each. */
function roundChannels(values: Float32Array, columns: number): Uint8Array {
  const out = new Uint8Array(storedBytes('int8_channel', values.length));
  const tried = new Int8Array(columns);
  const best = new Int8Array(columns);
  for (let row = 0; row < values.length; row += columns) {
    let largest = 0;
    for (let i = row; i < row + columns; i++) largest = Math.max(largest, Math.abs(values[i]));
    best.fill(0);
    let scale = 0;
    let least = Infinity;
    for (const target of largest === 0 ? [] : channelTargets) {
      const inverse = target / largest;
      let products = 0;
      let squares = 0;
      for (let i = 0; i < columns; i++) {
        const level = Math.max(-INT8_MAX, Math.min(INT8_MAX, Math.round(values[row + i] * inverse)));
        tried[i] = level;
        products += values[row + i] * level;
        squares += level * level;
      }
      const stored = squares === 0 ? 0 : Math.fround(products / squares);
      const error = stored * (stored * squares - 2 * products);
      if (error >= least) continue;
      least = error;
      scale = stored;
      best.set(tried);
    }
    storeChannel(out, storedBytes('int8_channel', row), scale, best);
  }
  return out;
}
