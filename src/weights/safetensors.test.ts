import { appendFileSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type FileTensor, f32Bytes, safetensorsBytes, safetensorsOf, writeFile } from '../../test/fixtures/checkpoint-files.ts';
import { SafetensorsSource } from './safetensors.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-safetensors-'));
afterAll(() => rmSync(folder, { recursive: true }));

let made = 0;
const write = (bytes: Uint8Array | string, name = `${made++}.safetensors`) => writeFile(join(folder, name), bytes);

const a: FileTensor = { name: 'a', shape: [2, 3], bytes: f32Bytes([1, 2, 3, 4, 5, 6]) };
const b: FileTensor = { name: 'b', shape: [4], bytes: f32Bytes([7, 8, 9, 10]) };

test('tensors of one file are found by name and read as stored', () => {
  const source = SafetensorsSource.openFile(write(safetensorsBytes([a, b])));
  expect([...source.names()]).toEqual(['a', 'b']);
  const found = source.find('b')!;
  expect(found).toMatchObject({ format: 'f32', shape: [4], sizeBytes: 16 });
  expect(source.read(found)).toEqual(b.bytes);
  expect(source.find('c')).toBeUndefined();
  source.close();
});

test('shards are joined by the index', () => {
  const first = write(safetensorsBytes([a]));
  const second = write(safetensorsBytes([b]));
  const index = { weight_map: { a: first.slice(folder.length + 1), b: second.slice(folder.length + 1) } };
  const source = SafetensorsSource.openSharded(folder, write(JSON.stringify(index), 'index.json'));
  expect(source.files.map((f) => f.path).sort()).toEqual([first, second].sort());
  expect(source.read(source.find('a')!)).toEqual(a.bytes);
  expect(source.read(source.find('b')!)).toEqual(b.bytes);
  source.close();
});

test('a tensor beyond 4 GiB of a file is read without holding the rest', () => {
  const far = 5 * 2 ** 30;
  const path = write(
    safetensorsBytes([], 'F32', (header) => {
      header.near = { dtype: 'BF16', shape: [far / 2], data_offsets: [0, far] };
      header.far = { dtype: 'F32', shape: [2], data_offsets: [far, far + 8] };
    }),
  );
  const dataStart = statSync(path).size;
  truncateSync(path, dataStart + far); // a hole that takes no room on the disk
  appendFileSync(path, f32Bytes([1.5, -2]));
  const before = process.memoryUsage().rss;
  const source = SafetensorsSource.openFile(path);
  expect(source.read(source.find('far')!)).toEqual(f32Bytes([1.5, -2]));
  expect(process.memoryUsage().rss - before).toBeLessThan(64 << 20);
  source.close();
  rmSync(path);
});

test('a tensor in a format that is not read does no harm until it is asked for', () => {
  const bytes = safetensorsBytes([a, { name: 'mask', shape: [8], bytes: new Uint8Array(8) }], 'F32', (header) => {
    header.mask = { dtype: 'U8', shape: [8], data_offsets: [24, 32] };
  });
  const source = SafetensorsSource.openFile(write(bytes));
  expect(source.find('a')).toBeDefined();
  expect(() => source.find('mask')).toThrow(expect.objectContaining({ code: 'WEIGHTS_FORMAT_UNSUPPORTED', received: 'U8' }));
  source.close();
});

const whole = safetensorsBytes([a, b]);
const entry = (x: unknown) => safetensorsOf(JSON.stringify({ a: x }), [a.bytes]);
const hostile: readonly (readonly [what: string, bytes: Uint8Array, says: RegExp])[] = [
  ['empty file', new Uint8Array(0), /too short/],
  ['header cut off', whole.subarray(0, 40), /header length/],
  ['data cut off', whole.subarray(0, whole.length - 4), /outside the file/],
  ['header length of 2^63', safetensorsOf('{}', [], 2 ** 63), /header length/],
  ['header that is not JSON', safetensorsOf('{"a": ', []), /not JSON/],
  ['header that is a list', safetensorsOf('[1, 2]', []), /not a JSON object/],
  ['entry without dtype', entry({ shape: [2, 3], data_offsets: [0, 24] }), /malformed/],
  ['negative offset', entry({ dtype: 'F32', shape: [2, 3], data_offsets: [-24, 0] }), /outside the file/],
  ['offsets swapped', entry({ dtype: 'F32', shape: [2, 3], data_offsets: [24, 0] }), /outside the file/],
  ['fraction in a shape', entry({ dtype: 'F32', shape: [2.5, 3], data_offsets: [0, 24] }), /not a length/],
  ['string in a shape', entry({ dtype: 'F32', shape: ['2', 3], data_offsets: [0, 24] }), /not a length/],
  ['shape of 2^60 elements', entry({ dtype: 'F32', shape: [2 ** 30, 2 ** 30], data_offsets: [0, 24] }), /claims/],
  ['a hundred dimensions', entry({ dtype: 'F32', shape: Array(100).fill(1), data_offsets: [0, 4] }), /too many dimensions/],
  ['shape larger than its bytes', entry({ dtype: 'F32', shape: [2, 4], data_offsets: [0, 24] }), /bytes of its shape/],
  [
    'overlapping tensors',
    safetensorsOf('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}', [a.bytes]),
    /"?a"? and "?b"? overlap/,
  ],
  ['a header nested without end', safetensorsOf('['.repeat(100_000), []), /nested deeper/],
  [
    'a header of a million names',
    safetensorsOf(`{${Array.from({ length: 1_000_000 }, (_, i) => `"${i}":0`).join()}}`, []),
    /more than 250000 members/,
  ],
  ['a header of a million lists', safetensorsOf(`{"a":[${'[],'.repeat(1_100_000)}0]}`, []), /arrays and objects/],
  ['a header that ends inside a string', safetensorsOf('{"a', []), /not JSON/],
  ['Git LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'), /Git LFS pointer/],
];

test.each(hostile)('%s is refused with one clear error', (_, bytes, says) => {
  const path = write(bytes);
  expect(() => SafetensorsSource.openFile(path)).toThrow(
    expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID', message: expect.stringMatching(says) }),
  );
  expect(() => SafetensorsSource.openFile(path)).toThrow(path);
});

describe('an index', () => {
  const open = (index: unknown) =>
    SafetensorsSource.openSharded(folder, write(typeof index === 'string' ? index : JSON.stringify(index), `${made++}.index.json`));

  test.each(['../evil.safetensors', '/etc/passwd', 'sub/x.safetensors', '..\\x.safetensors', 'model.bin', 7, null])(
    'may not name %s as a shard',
    (shard) => {
      expect(() => open({ weight_map: { a: shard } })).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID' }));
    },
  );

  test('that places a tensor in a shard which lacks it is refused, naming the tensor', () => {
    const shard = write(safetensorsBytes([a])).slice(folder.length + 1);
    expect(() => open({ weight_map: { a: shard, b: shard } })).toThrow(/tensor b is in this file, but it is not/);
  });

  test('without a weight map, or empty, is refused', () => {
    for (const index of ['{', '[]', {}, { weight_map: {} }, { weight_map: [] }]) {
      expect(() => open(index)).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID' }));
    }
  });

  test('whose shard is absent says which file is missing', () => {
    expect(() => open({ weight_map: { a: 'gone.safetensors' } })).toThrow(/gone\.safetensors does not exist/);
  });
});

test('a path that is missing, a folder or a circle of links is MODEL_NOT_FOUND', () => {
  mkdirSync(join(folder, 'folder.safetensors'));
  symlinkSync(join(folder, 'loop.safetensors'), join(folder, 'loop.safetensors'));
  for (const name of ['absent.safetensors', 'folder.safetensors', 'loop.safetensors']) {
    expect(() => SafetensorsSource.openFile(join(folder, name))).toThrow(expect.objectContaining({ code: 'MODEL_NOT_FOUND' }));
  }
});
