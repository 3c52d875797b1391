import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { writeFile } from '../../test/fixtures/checkpoint-files.ts';
import { readTensor } from '../quant/read-tensor.ts';
import { mxfp4Source } from './mxfp4-source.ts';
import { SafetensorsSource } from './safetensors.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-mxfp4-'));
afterAll(() => rmSync(folder, { recursive: true }));

function open(name: string, tensors: Readonly<Record<string, { dtype: string; shape: readonly number[]; bytes: Uint8Array }>>): SafetensorsSource {
  let offset = 0;
  const header: Record<string, unknown> = {};
  for (const [tensor, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[tensor] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const path = writeFile(join(folder, name), Buffer.concat([length, json, ...Object.values(tensors).map(({ bytes }) => bytes)]));
  return SafetensorsSource.openFile(path);
}

/** E2M1 by code. */
const levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

test('blocks and scales are the matrices that they stand for, whole and entry by entry', () => {
  const shape = [2, 3, 2];
  const blocks = Uint8Array.from({ length: 2 * 3 * 2 * 16 }, (_, i) => (i * 37 + 11) & 255);
  const scales = Uint8Array.from({ length: 12 }, (_, i) => 120 + i);
  const source = mxfp4Source(
    open('good', { w_blocks: { dtype: 'U8', shape: [...shape, 16], bytes: blocks }, w_scales: { dtype: 'U8', shape, bytes: scales } }),
  );
  const stored = source.find('w')!;
  expect(stored).toMatchObject({ format: 'mxfp4', shape: [2, 3, 64], assembled: true });
  const expected = Float32Array.from({ length: 2 * 3 * 64 }, (_, i) => {
    const code = (blocks[i >> 1] >> (i % 2 === 0 ? 0 : 4)) & 15;
    return levels[code] * 2 ** (scales[Math.floor(i / 32)] - 127) + 0;
  });
  expect(readTensor(source, stored).map((x) => x + 0)).toEqual(expected);
  const second = { ...stored, shape: [3, 64], offset: stored.sizeBytes / 2, sizeBytes: stored.sizeBytes / 2 };
  expect(readTensor(source, second).map((x) => x + 0)).toEqual(expected.subarray(3 * 64));
  source.close();
});

test.each([
  ['a scale too few', 'U8', [2, 1, 16], 'U8', [1, 1]],
  ['scales of another type', 'U8', [2, 1, 16], 'I8', [2, 1]],
  ['blocks of eight', 'U8', [2, 1, 8], 'U8', [2, 1]],
])('%s is refused by the name of the tensor', (name, blocksDtype, blocksShape, scalesDtype, scalesShape) => {
  const bytes = (shape: readonly number[]) => new Uint8Array(shape.reduce((a, b) => a * b, 1));
  const source = open(name, {
    w_blocks: { dtype: blocksDtype, shape: blocksShape, bytes: bytes(blocksShape) },
    w_scales: { dtype: scalesDtype, shape: scalesShape, bytes: bytes(scalesShape) },
  });
  expect(() => mxfp4Source(source)).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID', message: expect.stringContaining('of w ') }));
  source.close();
});
