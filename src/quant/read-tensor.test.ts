import { expect, test } from 'vitest';
import { type WeightFormatName, weightFormats } from './formats/index.ts';
import { fileRow, readWeight, readWeightAsF32 } from './read-tensor.ts';

interface Given {
  values: number[];
  shape: number[];
  format?: WeightFormatName;
  rowOrder?: { kind: 'rope-interleaved'; headDim: number };
  shift?: number;
}

function sourceOf(tensors: Record<string, Given>) {
  const stored = new Map(
    Object.entries(tensors).map(([name, { values, shape, format = 'f32', ...rest }]) => {
      const bytes = weightFormats[format].quantize(Float32Array.from(values));
      return [name, { name, shape, format, bytes, offset: 0, sizeBytes: bytes.length, ...rest }];
    }),
  );
  const read = ({ name, offset, sizeBytes }: { name: string; offset: number; sizeBytes: number }) =>
    stored.get(name)!.bytes.subarray(offset, offset + sizeBytes);
  return { find: (name: string) => stored.get(name), read };
}

const weightOf = (format: WeightFormatName, shape: number[], parts: [string, number[]][]) => ({
  name: 'w',
  shape,
  format,
  parts: parts.map(([tensor, part]) => ({ tensor, shape: part })),
});

const count = (length: number, from = 0) => Array.from({ length }, (_, i) => i + from);

test('parts lie one under the other', () => {
  const source = sourceOf({ a: { values: count(4), shape: [2, 2] }, b: { values: count(2, 10), shape: [1, 2] } });
  const weight = weightOf(
    'f32',
    [3, 2],
    [
      ['a', [2, 2]],
      ['b', [1, 2]],
    ],
  );
  expect([...readWeightAsF32(source, weight)]).toEqual([0, 1, 2, 3, 10, 11]);
  expect(readWeight(source, weight)).toEqual(weightFormats.f32.quantize(Float32Array.of(0, 1, 2, 3, 10, 11)));
});

test('rows of interleaved rotary pairs come back in Hugging Face order', () => {
  // Row headDim * h + 2i + j of the file is row headDim * h + i + j * headDim / 2.
  expect(count(8).map((row) => fileRow({ kind: 'rope-interleaved', headDim: 4 }, row))).toEqual([0, 2, 1, 3, 4, 6, 5, 7]);
  const rowOrder = { kind: 'rope-interleaved', headDim: 4 } as const;
  const source = sourceOf({ m: { values: count(8), shape: [4, 2], rowOrder }, v: { values: count(4), shape: [4], rowOrder } });
  expect([...readWeightAsF32(source, weightOf('f32', [4, 2], [['m', [4, 2]]]))]).toEqual([0, 1, 4, 5, 2, 3, 6, 7]);
  expect([...readWeightAsF32(source, weightOf('f32', [4], [['v', [4]]]))]).toEqual([0, 2, 1, 3]);
});

test.each<WeightFormatName>(['f32', 'f16', 'bf16', 'q8_0'])('the bytes and the numbers of a %s weight agree, whatever the files hold', (format) => {
  const values = count(128).map((i) => Math.sin(i) * 3);
  for (const stored of ['f32', 'f16', 'bf16', 'q8_0'] as const) {
    const rowOrder = { kind: 'rope-interleaved', headDim: 4 } as const;
    const source = sourceOf({ a: { values, shape: [4, 32], format: stored, rowOrder }, b: { values, shape: [4, 32], format: stored, shift: 0.25 } });
    const weight = weightOf(
      format,
      [8, 32],
      [
        ['a', [4, 32]],
        ['b', [4, 32]],
      ],
    );
    const fromBytes = new Float32Array(256);
    weightFormats[format].dequantize(readWeight(source, weight), fromBytes);
    expect(fromBytes).toEqual(readWeightAsF32(source, weight));
  }
});

test('a shift is added to every element', () => {
  const source = sourceOf({ n: { values: [1, 2, 3], shape: [3], shift: -1 } });
  expect([...readWeightAsF32(source, weightOf('f32', [3], [['n', [3]]]))]).toEqual([0, 1, 2]);
  expect(readWeight(source, weightOf('f32', [3], [['n', [3]]]))).toEqual(weightFormats.f32.quantize(Float32Array.of(0, 1, 2)));
});

test('missing tensors, other shapes and wrong sizes are told by name', () => {
  const source = sourceOf({ a: { values: count(4), shape: [2, 2] } });
  const read =
    (parts: [string, number[]][], from = source) =>
    () =>
      readWeight(from, weightOf('f32', [2, 2], parts));
  expect(read([['b', [2, 2]]])).toThrow(expect.objectContaining({ code: 'WEIGHTS_TENSOR_MISSING', message: expect.stringContaining('no tensor b') }));
  expect(read([['a', [4, 1]]])).toThrow(expect.objectContaining({ code: 'WEIGHTS_SHAPE_MISMATCH', expected: '[4, 1]', received: '[2, 2]' }));
  const short = { ...source, find: (name: string) => ({ ...source.find(name)!, sizeBytes: 12 }) };
  expect(read([['a', [2, 2]]], short)).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID' }));
});

test.each<WeightFormatName>(['f32', 'f16', 'bf16', 'q8_0'])(
  'a part may be some rows of a %s tensor, heads in the order of the file included',
  (format) => {
    const values = count(8 * 32).map((i) => Math.fround(Math.sin(i)));
    const rowOrder = { kind: 'rope-interleaved', headDim: 2 } as const;
    const source = sourceOf({ m: { values, shape: [8, 32], format }, o: { values, shape: [8, 32], format, rowOrder } });
    const whole = readWeightAsF32(source, { name: 'w', shape: [8, 32], format, parts: [{ tensor: 'm', shape: [8, 32] }] });
    for (const tensor of ['m', 'o']) {
      const parts = [
        { tensor, shape: [8, 32], rows: [6, 8] },
        { tensor, shape: [8, 32], rows: [2, 4] },
      ] as const;
      const cut = { name: 'w', shape: [4, 32], format, parts };
      const expected = [...whole.subarray(6 * 32, 8 * 32), ...whole.subarray(2 * 32, 4 * 32)];
      expect([...readWeightAsF32(source, cut)]).toEqual(expected); // pairs of two are in either order alike
      const fromBytes = new Float32Array(4 * 32);
      weightFormats[format].dequantize(readWeight(source, cut), fromBytes);
      expect([...fromBytes]).toEqual(expected);
    }
  },
);

test('rows that are not whole blocks or heads, or not there, are refused', () => {
  const rowOrder = { kind: 'rope-interleaved', headDim: 4 } as const;
  const source = sourceOf({ v: { values: count(64), shape: [64], format: 'q8_0' }, h: { values: count(16), shape: [8, 2], rowOrder } });
  const read = (tensor: string, shape: number[], rows: readonly [number, number]) =>
    readWeight(source, { name: 'w', shape: [rows[1] - rows[0], ...shape.slice(1)], format: 'f32', parts: [{ tensor, shape, rows }] });
  expect(read('v', [64], [32, 64]).length).toBe(128);
  for (const [tensor, shape, rows] of [
    ['v', [64], [16, 48]],
    ['h', [8, 2], [2, 6]],
    ['h', [8, 2], [4, 12]],
    ['h', [8, 2], [4, 4]],
  ] as const) {
    expect(() => read(tensor, [...shape], rows)).toThrow(expect.objectContaining({ code: 'WEIGHTS_SHAPE_MISMATCH' }));
  }
});

test('a part may be stored with rows as columns', () => {
  const source = sourceOf({ m: { values: count(6), shape: [2, 3] } });
  const weight = (format: WeightFormatName) => ({ name: 'w', shape: [3, 2], format, parts: [{ tensor: 'm', shape: [2, 3], transposed: true }] });
  expect([...readWeightAsF32(source, weight('f32'))]).toEqual([0, 3, 1, 4, 2, 5]);
  expect(readWeight(source, weight('bf16'))).toEqual(weightFormats.bf16.quantize(Float32Array.of(0, 3, 1, 4, 2, 5)));
});
