/**
 * Integers under one scale and one zero point a group: what GPTQ, AWQ and compressed-tensors checkpoints hold, with everything that belongs to a group in
 * one block. `value = scale * (level - zero)`: exact where the scale is of f16 or bf16; else, of 8 bits, the f32 sum of the products with
 * `level - 128` and `128 - zero`.
 *
 * 2 to 4 bits: one 32-bit word, whose upper 24 bits are those of the scale as f32 (any f16 or bf16 is exact) and whose lowest byte is the zero point,
 * then each run of 32 levels: the two low bits (element `i` in byte `i % 8`, from bit `2 * (i / 8)`) and, of 3 bits, 4 bytes of the third; of 4 bits, 16
 * bytes of nibbles as in Q4_0. 8 bits: the scale as f32, the zero point, the levels, one byte each.
 */
import { level, range } from './blocks.ts';
import type { WeightFormatDefinition } from './format.ts';

/** Elements whose levels lie together. */
const RUN = 32;

/** The scale and the zero point of a group. */
export interface GroupScale {
  scale: number;
  zero: number;
}

/** A format of integer groups, with the access that readers of checkpoints need. */
export interface IntegerGroups extends WeightFormatDefinition {
  readonly bits: 2 | 3 | 4 | 8;
  /** Bytes before the levels of a block. */
  readonly headBytes: number;
  /** Writes scale and zero point of the block at byte `at`. */
  storeScale(bytes: Uint8Array, at: number, scale: number, zero: number): void;
  loadScale(bytes: Uint8Array, at: number, out: GroupScale): void;
  /** Writes `levels[from, from + blockElements)` into the block at byte `at`, whose level bytes are zero. */
  storeLevels(bytes: Uint8Array, at: number, levels: Uint8Array, from: number): void;
  loadLevels(bytes: Uint8Array, at: number, levels: Uint8Array, from: number): void;
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

function storeWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** An f32 at any address. */
export function loadF32(bytes: Uint8Array, at: number): number {
  word[0] = wordAt(bytes, at);
  return float[0];
}

export function storeF32(bytes: Uint8Array, at: number, value: number): void {
  float[0] = value;
  storeWord(bytes, at, word[0]);
}

/** The nearest f32 with 16 significant bits, as a word whose lowest byte is free. */
function wordOfScale(scale: number): number {
  float[0] = scale;
  const bits = word[0];
  if (!Number.isFinite(float[0])) return (bits & 0xffffff00) >>> 0;
  return ((bits + 0x7f + ((bits >>> 8) & 1)) & 0xffffff00) >>> 0;
}

/** How a run of 32 levels lies in bytes. */
interface LevelCodec {
  readonly runBytes: number;
  load(bytes: Uint8Array, at: number, levels: Uint8Array, to: number): void;
  store(bytes: Uint8Array, at: number, levels: Uint8Array, from: number): void;
}

const pairs: LevelCodec = {
  runBytes: 8,
  load(bytes, at, levels, to) {
    for (let i = 0; i < RUN; i++) levels[to + i] = (bytes[at + (i & 7)] >> (2 * (i >> 3))) & 3;
  },
  store(bytes, at, levels, from) {
    for (let i = 0; i < RUN; i++) bytes[at + (i & 7)] |= (levels[from + i] & 3) << (2 * (i >> 3));
  },
};

const codecs: Readonly<Record<IntegerGroups['bits'], LevelCodec>> = {
  2: pairs,
  3: {
    runBytes: 12,
    load(bytes, at, levels, to) {
      pairs.load(bytes, at, levels, to);
      for (let i = 0; i < RUN; i++) levels[to + i] |= ((bytes[at + 8 + (i >> 3)] >> (i & 7)) & 1) << 2;
    },
    store(bytes, at, levels, from) {
      pairs.store(bytes, at, levels, from);
      for (let i = 0; i < RUN; i++) bytes[at + 8 + (i >> 3)] |= ((levels[from + i] >> 2) & 1) << (i & 7);
    },
  },
  4: {
    runBytes: 16,
    load(bytes, at, levels, to) {
      for (let i = 0; i < 16; i++) {
        levels[to + i] = bytes[at + i] & 15;
        levels[to + 16 + i] = bytes[at + i] >> 4;
      }
    },
    store(bytes, at, levels, from) {
      for (let i = 0; i < 16; i++) bytes[at + i] = (levels[from + i] & 15) | (levels[from + 16 + i] << 4);
    },
  },
  8: {
    runBytes: 32,
    load(bytes, at, levels, to) {
      for (let i = 0; i < RUN; i++) levels[to + i] = bytes[at + i];
    },
    store(bytes, at, levels, from) {
      for (let i = 0; i < RUN; i++) bytes[at + i] = levels[from + i];
    },
  },
};

function storeScaleOf(bits: IntegerGroups['bits']): IntegerGroups['storeScale'] {
  if (bits !== 8) return (bytes, at, scale, zero) => storeWord(bytes, at, (wordOfScale(scale) | zero) >>> 0);
  return (bytes, at, scale, zero) => {
    storeF32(bytes, at, scale);
    bytes[at + 4] = zero;
  };
}

function loadScaleOf(bits: IntegerGroups['bits']): IntegerGroups['loadScale'] {
  return (bytes, at, out) => {
    word[0] = wordAt(bytes, at);
    out.zero = bits === 8 ? bytes[at + 4] : word[0] & 255;
    if (bits !== 8) word[0] &= 0xffffff00;
    out.scale = float[0];
  };
}

/** The format of groups of `group` elements in `bits` bits. Packing takes the range of the group, which holds 0: the plainest rule. */
function integerGroups(bits: IntegerGroups['bits'], group: 32 | 64 | 128): IntegerGroups {
  const codec = codecs[bits];
  const headBytes = bits === 8 ? 5 : 4;
  const blockBytes = headBytes + (group / RUN) * codec.runBytes;
  const most = 2 ** bits - 1;
  const middle = bits === 8 ? 128 : 0;
  const levels = new Uint8Array(group);
  const head: GroupScale = { scale: 0, zero: 0 };
  const format: IntegerGroups = {
    bits,
    headBytes,
    blockElements: group,
    blockBytes,
    storeScale: storeScaleOf(bits),
    loadScale: loadScaleOf(bits),
    storeLevels(bytes, at, from, first) {
      for (let run = 0; run * RUN < group; run++) codec.store(bytes, at + headBytes + run * codec.runBytes, from, first + run * RUN);
    },
    loadLevels(bytes, at, to, first) {
      for (let run = 0; run * RUN < group; run++) codec.load(bytes, at + headBytes + run * codec.runBytes, to, first + run * RUN);
    },
    dequantize(bytes, out) {
      for (let block = 0; block * group < out.length; block++) {
        format.loadScale(bytes, block * blockBytes, head);
        format.loadLevels(bytes, block * blockBytes, levels, 0);
        const minimum = Math.fround(head.scale * (middle - head.zero));
        for (let i = 0; i < group; i++) out[block * group + i] = Math.fround(head.scale * (levels[i] - middle)) + minimum;
      }
    },
    quantize(values) {
      const bytes = new Uint8Array((values.length / group) * blockBytes);
      for (let block = 0; block * group < values.length; block++) {
        const at = block * blockBytes;
        const { least, most: largest } = range(values, block * group, group);
        format.storeScale(bytes, at, (Math.max(0, largest) - Math.min(0, least)) / most, 0);
        format.loadScale(bytes, at, head);
        const zero = level(-Math.min(0, least), head.scale, 0, most);
        format.storeScale(bytes, at, head.scale, zero);
        for (let i = 0; i < group; i++) levels[i] = zero + level(values[block * group + i], head.scale, -zero, most - zero);
        format.storeLevels(bytes, at, levels, 0);
      }
      return bytes;
    },
  };
  return format;
}

export const integerFormats = {
  int2_g32: integerGroups(2, 32),
  int2_g64: integerGroups(2, 64),
  int2_g128: integerGroups(2, 128),
  int3_g32: integerGroups(3, 32),
  int3_g64: integerGroups(3, 64),
  int3_g128: integerGroups(3, 128),
  int4_g32: integerGroups(4, 32),
  int4_g64: integerGroups(4, 64),
  int4_g128: integerGroups(4, 128),
  int8_g32: integerGroups(8, 32),
  int8_g128: integerGroups(8, 128),
} as const;
