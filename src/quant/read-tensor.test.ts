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
      return [name, { name, shape, format, bytes, sizeBytes: bytes.length, ...rest }];
    }),
  );
  return { find: (name: string) => stored.get(name), read: (tensor: { name: string }) => stored.get(tensor.name)!.bytes };
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
