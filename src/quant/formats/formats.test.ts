import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bf16ToNumber, f16ToNumber, numberToBf16 } from '../../base/dtype.ts';
import { heldBits, storedBytes, type WeightFormatName, weightFormats } from './index.ts';

const expand = (format: keyof typeof weightFormats, bytes: Uint8Array, length: number) => {
  const out = new Float32Array(length);
  weightFormats[format].dequantize(bytes, out);
  return out;
};

const allPatterns = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits);
const asBytes = (words: Uint16Array) => new Uint8Array(words.buffer);

test('every f16 and bf16 bit pattern expands to its value and packs back to itself, NaN aside', () => {
  for (const [format, value] of [
    ['f16', f16ToNumber],
    ['bf16', bf16ToNumber],
  ] as const) {
    const values = expand(format, asBytes(allPatterns), 1 << 16);
    const packed = new Uint16Array(weightFormats[format].quantize(values).buffer);
    for (let bits = 0; bits < 1 << 16; bits++) {
      if (Number.isNaN(value(bits))) expect(values[bits]).toBeNaN();
      else if (!Object.is(values[bits], value(bits)) || packed[bits] !== bits) expect([format, bits, values[bits], packed[bits]]).toBeNull();
    }
  }
});

test('f16 and bf16 pack to the nearest, ties to even', () => {
  const near = (format: 'f16' | 'bf16', x: number) => expand(format, weightFormats[format].quantize(Float32Array.of(x)), 1)[0];
  expect([near('f16', 1 + 2 ** -11), near('f16', 1 + 3 * 2 ** -11), near('f16', 65520), near('f16', 2 ** -25)]).toEqual([
    1,
    1 + 2 ** -9,
    Infinity,
    0,
  ]);
  expect([near('bf16', 1 + 2 ** -8), near('bf16', 1 + 3 * 2 ** -8)]).toEqual([1, 1 + 2 ** -6]);
  expect(bf16ToNumber(numberToBf16(NaN))).toBeNaN();
});

test('a q8_0 block is a half-precision scale and 32 signed bytes', () => {
  const bytes = Uint8Array.from({ length: 34 }, (_, i) => (i === 0 ? 0x00 : i === 1 ? 0x38 : i * 7)); // scale 0.5
  const expected = Array.from({ length: 32 }, (_, i) => 0.5 * ((((i + 2) * 7) << 24) >> 24));
  expect([...expand('q8_0', bytes, 32)]).toEqual(expected);
});

test('q8_0 is off by at most half a step, and zeros stay zeros', () => {
  fc.assert(
    fc.property(fc.array(fc.float({ min: -1000, max: 1000, noNaN: true }), { minLength: 64, maxLength: 64 }), (list) => {
      const values = Float32Array.from(list);
      const packed = weightFormats.q8_0.quantize(values);
      const back = expand('q8_0', packed, 64);
      for (let i = 0; i < 64; i++) {
        const block = i < 32 ? 0 : 1;
        const largest = Math.max(...values.subarray(32 * block, 32 * block + 32).map(Math.abs));
        const step = f16ToNumber(packed[34 * block] | (packed[34 * block + 1] << 8));
        // the scale itself was rounded to f16: 127 steps may fall short of the largest
        const short = Math.max(0, largest - 127 * step);
        expect(Math.abs(back[i] - values[i])).toBeLessThanOrEqual(step * 0.5 + short + 2 ** -40);
      }
    }),
    { numRuns: 100 },
  );
  expect(expand('q8_0', weightFormats.q8_0.quantize(new Float32Array(32)), 32)).toEqual(new Float32Array(32));
});

const names = Object.keys(weightFormats) as WeightFormatName[];

test('bytes may start at any address', () => {
  for (const format of names) {
    const packed = weightFormats[format].quantize(Float32Array.from({ length: 256 }, (_, i) => (i % 32) - 9.5));
    const shifted = new Uint8Array(packed.length + 3);
    shifted.set(packed, 3);
    expect(expand(format, shifted.subarray(3), 256)).toEqual(expand(format, packed, 256));
    expect(packed.length).toBe(storedBytes(format, 256));
  }
});

interface Golden {
  readonly bytes: string;
  readonly values: string;
  readonly unpacked?: string;
  readonly packed?: string;
}

const goldens = JSON.parse(readFileSync(new URL('../../../test/golden/quant-blocks.json', import.meta.url), 'utf8')) as Record<string, Golden>;
const decoded = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));
const floats = (text: string) => new Float32Array(decoded(text).buffer);

test('every format of GGUF blocks has a golden', () => {
  expect(Object.keys(goldens).sort()).toEqual(names.filter((name) => weightFormats[name].blockElements > 1 && !/^(int|fp8|nf4)/.test(name)).sort());
});

test.each(Object.keys(goldens) as WeightFormatName[])('%s blocks expand to the bits that the Python package gguf gives', (format) => {
  const { bytes, values } = goldens[format];
  const actual = expand(format, decoded(bytes), 512);
  const expected = floats(values).map((x) => (x === 0 ? 0 : x));
  // OCP Microscaling Formats 1.0 makes NaN of an E8M0 scale of 255, which no file should hold; the package goes on counting
  const isNaNScale = (i: number) => format === 'mxfp4' && decoded(bytes)[17 * Math.floor(i / 32)] === 255;
  expect(actual.map((x) => (x === 0 ? 0 : x))).toEqual(expected.map((x, i) => (isNaNScale(i) ? Number.NaN : x)));
});

test.each(Object.keys(goldens).filter((name) => goldens[name].packed !== undefined) as WeightFormatName[])(
  '%s packs to the bytes that the Python package gguf gives',
  (format) => {
    const { unpacked, packed } = goldens[format];
    expect(weightFormats[format].quantize(floats(unpacked ?? ''))).toEqual(decoded(packed ?? ''));
  },
);

/** Root mean square error of packing a normal distribution, as a part of its deviation: what the number of bits allows, with a tenth to spare. */
const errors: Partial<Record<WeightFormatName, number>> = {
  q8_0: 0.006,
  q6_k: 0.02,
  q5_0: 0.045,
  q5_1: 0.045,
  q5_k: 0.045,
  q4_0: 0.095,
  q4_1: 0.09,
  q4_k: 0.09,
  iq4_nl: 0.095,
  iq4_xs: 0.095,
  mxfp4: 0.13,
  q3_k: 0.19,
  q2_k: 0.4,
  iq3_s: 0.19,
  iq3_xxs: 0.25,
  iq2_s: 0.35,
  iq2_xs: 0.42,
  iq2_xxs: 0.46,
  iq1_m: 0.6,
  iq1_s: 0.6,
};

test.each(Object.keys(errors) as WeightFormatName[])(
  '%s packs a normal distribution with the error that its bits allow, and zeros to zeros',
  (format) => {
    let state = 1;
    const uniform = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state + 0.5) / 2 ** 32;
    };
    const values = Float32Array.from({ length: 4096 }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
    values.fill(0, 512, 768);
    const back = expand(format, weightFormats[format].quantize(values), values.length);
    const squares = values.reduce((sum, x, i) => sum + (back[i] - x) ** 2, 0) / (values.length - 256);
    expect(Math.sqrt(squares)).toBeLessThan(errors[format] ?? 0);
    expect(Math.sqrt(squares)).toBeGreaterThan((errors[format] ?? 0) / 2);
    for (let i = 512; i < 768; i++) expect(Math.abs(back[i])).toBe(0);
  },
);

test('docs/models.md lists every format with its bits a weight', () => {
  const text = readFileSync(new URL('../../../docs/models.md', import.meta.url), 'utf8');
  const table = text.slice(text.indexOf('| format | bits a weight |'));
  const listed = [...table.matchAll(/^\| (\w+) \| ([\d.]+) \| [^|]+ \|$/gm)].map(([, name, bits]) => [name.toLowerCase(), Number(bits)]);
  expect(listed).toEqual(names.map((name) => [name, heldBits(name)]));
});
