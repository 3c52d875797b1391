/** The formats that quantised safetensors checkpoints are read into: their bytes by the formula that their files state, and what packing loses. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { f16Values } from './f16.ts';
import { E4M3_MAX, E5M2_MAX, e4m3Values, e5m2Values, numberToE4m3, numberToE5m2 } from './fp8.ts';
import { storedBytes, type WeightFormatName, weightFormats } from './index.ts';
import { type GroupScale, integerFormats } from './integer-groups.ts';
import { nf4Levels } from './nf4.ts';

const expand = (format: WeightFormatName, bytes: Uint8Array, length: number) => {
  const out = new Float32Array(length);
  weightFormats[format].dequantize(bytes, out);
  return out;
};

const integers = Object.entries(integerFormats) as [WeightFormatName, (typeof integerFormats)['int4_g32']][];

test.each(integers)('%s is scale * (level - zero), exact for scales of half precision and bf16', (name, format) => {
  const { blockElements, blockBytes, bits } = format;
  for (const scale of [0.0123291015625, 2 ** -14 * 1.5, 0.00927734375, -0.5]) {
    for (const zero of [0, 1, 2 ** (bits - 1), 2 ** bits - 1]) {
      const levels = Uint8Array.from({ length: blockElements }, (_, i) => (i * 37 + 5) % 2 ** bits);
      const bytes = new Uint8Array(blockBytes);
      format.storeScale(bytes, 0, scale, zero);
      format.storeLevels(bytes, 0, levels, 0);
      // + 0: the sign of zero means nothing
      expect([...expand(name, bytes, blockElements)].map((x) => x + 0)).toEqual([...levels].map((level) => Math.fround(scale) * (level - zero) + 0));
      const head: GroupScale = { scale: 0, zero: 0 };
      const back = new Uint8Array(blockElements);
      format.loadScale(bytes, 0, head);
      format.loadLevels(bytes, 0, back, 0);
      expect([head, back]).toEqual([{ scale, zero }, levels]);
    }
  }
});

test('levels of 2, 3 and 4 bits lie where the format says', () => {
  const place = (name: keyof typeof integerFormats, element: number) => {
    const format = integerFormats[name];
    const bytes = new Uint8Array(format.blockBytes);
    format.storeLevels(
      bytes,
      0,
      Uint8Array.from({ length: format.blockElements }, (_, i) => (i === element ? 2 ** format.bits - 1 : 0)),
      0,
    );
    return [...bytes].flatMap((byte, at) => (byte === 0 ? [] : [[at, byte]]));
  };
  expect(place('int2_g32', 10)).toEqual([[4 + 2, 3 << 2]]);
  expect(place('int3_g64', 32 + 10)).toEqual([
    [4 + 12 + 2, 3 << 2],
    [4 + 12 + 8 + 1, 1 << 2],
  ]);
  expect(place('int4_g128', 96 + 20)).toEqual([[4 + 48 + 4, 15 << 4]]);
  expect(place('int8_g32', 20)).toEqual([[5 + 20, 255]]);
});

test('scales of other precision keep 16 significant bits', () => {
  fc.assert(
    fc.property(fc.float({ min: Math.fround(1e-30), max: Math.fround(1e30), noNaN: true }), (scale) => {
      const bytes = new Uint8Array(integerFormats.int4_g32.blockBytes);
      integerFormats.int4_g32.storeScale(bytes, 0, scale, 8);
      const head: GroupScale = { scale: 0, zero: 0 };
      integerFormats.int4_g32.loadScale(bytes, 0, head);
      expect(Math.abs(head.scale - scale)).toBeLessThanOrEqual(scale * 2 ** -16);
      expect(head.zero).toBe(8);
    }),
  );
});

test('E4M3 has the values of its definition, and the nearest is found with ties to even', () => {
  expect([e4m3Values[0x08], e4m3Values[0x01], e4m3Values[0x7e], e4m3Values[0xb8], e4m3Values[0x7f]]).toEqual([2 ** -6, 2 ** -9, E4M3_MAX, -1, NaN]);
  for (let bits = 0; bits < 256; bits++) if ((bits & 127) !== 127) expect(numberToE4m3(e4m3Values[bits])).toBe(bits);
  for (let bits = 0; bits < 126; bits++) {
    const [low, high] = [e4m3Values[bits], e4m3Values[bits + 1]];
    expect(numberToE4m3((low + high) / 2)).toBe(bits % 2 === 0 ? bits : bits + 1);
    expect(numberToE4m3(low + (high - low) * 0.51)).toBe(bits + 1);
    expect(numberToE4m3(-(low + (high - low) * 0.49))).toBe(bits + 128);
  }
  expect([numberToE4m3(1e9), numberToE4m3(-470), numberToE4m3(NaN)]).toEqual([0x7e, 0xfe, 0x7f]);
});

test('E5M2 is the upper byte of a half, and the nearest is found with ties to even', () => {
  const halves = f16Values();
  for (let bits = 0; bits < 256; bits++) expect(e5m2Values[bits]).toBe(halves[bits << 8]);
  for (let bits = 0; bits < 256; bits++) if ((bits & 127) < 124) expect(numberToE5m2(e5m2Values[bits])).toBe(bits);
  for (let bits = 0; bits < 123; bits++) {
    const [low, high] = [e5m2Values[bits], e5m2Values[bits + 1]];
    expect(numberToE5m2((low + high) / 2)).toBe(bits % 2 === 0 ? bits : bits + 1);
    expect(numberToE5m2(low + (high - low) * 0.51)).toBe(bits + 1);
    expect(numberToE5m2(-(low + (high - low) * 0.49))).toBe(bits + 128);
  }
  expect([numberToE5m2(1e9), numberToE5m2(-E5M2_MAX), numberToE5m2(NaN)]).toEqual([0x7b, 0xfb, 0x7f]);
});

test('an fp8 block is an f32 scale and the numbers; an nf4 block the largest magnitude and indices of levels, the earlier in the high nibble', () => {
  const bytes = new Uint8Array(36);
  new DataView(bytes.buffer).setFloat32(0, 0.3, true);
  bytes[4 + 7] = 0x39;
  expect(expand('fp8_g32', bytes, 32)[7]).toBe(Math.fround(Math.fround(0.3) * 1.125));
  const values = expand('nf4', bytes, 64);
  expect([values[14], values[15], values[0]]).toEqual([3, 9, 0].map((level) => Math.fround(Math.fround(0.3) * nf4Levels[level])));
  expect(nf4Levels.every((level, i) => i === 0 || level > nf4Levels[i - 1])).toBe(true);
});

/** Root mean square error of packing a normal distribution, as a part of its deviation, with a tenth to spare. */
const errors: Partial<Record<WeightFormatName, number>> = {
  int8_g32: 0.006,
  int8_g128: 0.007,
  int4_g32: 0.09,
  int4_g64: 0.105,
  int4_g128: 0.12,
  int3_g32: 0.2,
  int3_g128: 0.26,
  int2_g32: 0.47,
  int2_g128: 0.62,
  fp8_g32: 0.029,
  fp8_g128: 0.029,
  fp8_e5m2_g32: 0.058,
  fp8_e5m2_g128: 0.058,
  nf4: 0.1,
  int8_channel: 0.011,
};

test.each(Object.keys(errors) as WeightFormatName[])(
  '%s packs a normal distribution with the error that its bits allow, and zeros to zeros',
  (name) => {
    let state = 1;
    const uniform = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state + 0.5) / 2 ** 32;
    };
    const values = Float32Array.from({ length: 8192 }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
    values.fill(0, 512, 768);
    const packed = weightFormats[name].quantize(values);
    expect(packed.length).toBe(storedBytes(name, values.length));
    const back = expand(name, packed, values.length);
    const deviation = Math.sqrt(values.reduce((sum, x, i) => sum + (back[i] - x) ** 2, 0) / (values.length - 256));
    expect(deviation).toBeLessThan(errors[name] ?? 0);
    expect(deviation).toBeGreaterThan((errors[name] ?? 0) / 2);
    for (let i = 512; i < 768; i++) expect(Math.abs(back[i])).toBe(0);
  },
);
