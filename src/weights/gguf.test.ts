import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { f32Bytes, type GgufEntry, type GgufFileTensor, type GgufRecipe, ggufBytes, writeFile } from '../../test/fixtures/checkpoint-files.ts';
import { GgufFile } from './gguf.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));

let made = 0;
const write = (bytes: Uint8Array) => writeFile(join(folder, `${made++}.gguf`), bytes);
const open = (recipe: GgufRecipe) => GgufFile.open(write(ggufBytes(recipe)));

const a: GgufFileTensor = { name: 'a', shape: [2, 3], bytes: f32Bytes([1, 2, 3, 4, 5, 6]), type: 0 };
const b: GgufFileTensor = { name: 'b', shape: [64], bytes: new Uint8Array(68).map((_, i) => i), type: 8 };

test('metadata of every type is read, in versions 2 and 3', () => {
  const metadata: Record<string, GgufEntry> = {
    u8: ['u8', 200],
    i8: ['i8', -100],
    u16: ['u16', 60_000],
    i16: ['i16', -30_000],
    u32: ['u32', 4_000_000_000],
    i32: ['i32', -2_000_000_000],
    u64: ['u64', 2 ** 40],
    huge: ['u64', 2 ** 63],
    i64: ['i64', -(2 ** 40)],
    f32: ['f32', 0.5],
    f64: ['f64', 0.1],
    yes: ['bool', true],
    no: ['bool', false],
    text: ['string', 'größer'],
    words: ['array', ['', 'two', '日本'], 'string'],
    scores: ['array', [0.5, -1.5], 'f32'],
    kinds: ['array', [1, 2, 3], 'i32'],
    flags: ['array', [true, false], 'bool'],
    nested: ['array', [[1, 2], [3]], 'array'],
    none: ['array', [], 'string'],
  };
  for (const version of [2, 3]) {
    const file = open({ version, metadata });
    expect(file.version).toBe(version);
    expect(Object.fromEntries(file.metadata)).toEqual({
      u8: 200,
      i8: -100,
      u16: 60_000,
      i16: -30_000,
      u32: 4_000_000_000,
      i32: -2_000_000_000,
      u64: 2 ** 40,
      huge: 2n ** 63n,
      i64: -(2 ** 40),
      f32: 0.5,
      f64: 0.1,
      yes: true,
      no: false,
      text: 'größer',
      words: ['', 'two', '日本'],
      scores: Float32Array.of(0.5, -1.5),
      kinds: Int32Array.of(1, 2, 3),
      flags: [true, false],
      nested: [Int32Array.of(1, 2), Int32Array.of(3)],
      none: [],
    });
    file.close();
  }
});

test('a vocabulary larger than the read window comes back whole and keeps the heap small', () => {
  const words = Array.from({ length: 250_000 }, (_, i) => `word${i}${'x'.repeat(i % 7)}`);
  const path = write(ggufBytes({ metadata: { words: ['array', words, 'string'], after: ['u32', 42] } }));
  const before = process.memoryUsage().heapUsed;
  const file = GgufFile.open(path);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(100 << 20);
  expect(file.metadata.get('after')).toBe(42);
  expect(file.metadata.get('words')).toEqual(words);
  file.close();
});

test('tensors are read through a translation of names, which may leave some out', () => {
  const file = open({ tensors: [a, b] });
  expect(file.tensorShape('a')).toEqual([2, 3]);
  expect(file.readVector('b')).toBeUndefined();
  const source = file.source((name) => (name === 'a' ? null : { name: 'model.b', shift: -1, rowOrder: { kind: 'rope-interleaved', headDim: 4 } }));
  expect([...source.names()]).toEqual(['model.b']);
  const found = source.find('model.b')!;
  expect(found).toMatchObject({ format: 'q8_0', shape: [64], sizeBytes: 68, shift: -1 });
  expect(source.read(found)).toEqual(b.bytes);
  source.close();
});

test('a tensor of a type that is not read is named when it is asked for, with its type', () => {
  const file = open({ tensors: [a, { name: 'k', shape: [256], bytes: new Uint8Array(144), type: 40 }] });
  const source = file.source((name) => ({ name }));
  expect(source.find('a')).toBeDefined();
  expect(() => source.find('k')).toThrow(
    expect.objectContaining({ code: 'WEIGHTS_FORMAT_UNSUPPORTED', message: expect.stringContaining('tensor k') }),
  );
  expect(() => source.find('k')).toThrow(/NVFP4/);
  source.close();
});

test('a part of a split model says how to join the parts', () => {
  expect(() => open({ metadata: { 'split.count': ['u16', 3] } })).toThrow(expect.objectContaining({ code: 'WEIGHTS_FORMAT_UNSUPPORTED' }));
});

const whole = ggufBytes({ metadata: { text: ['string', 'abc'] }, tensors: [a, b] });
const patched = (at: number, value: bigint, base: Uint8Array = whole) => {
  const bytes = Buffer.from(base);
  bytes.writeBigUInt64LE(value, at);
  return bytes;
};
const hostile: readonly (readonly [what: string, bytes: Uint8Array, says: RegExp])[] = [
  ['empty file', new Uint8Array(0), /too short/],
  ['other magic', Buffer.concat([Buffer.from('GGML'), whole.subarray(4)]), /not a GGUF file/],
  ['version 1', ggufBytes({ version: 1 }), /version is not read/],
  ['big-endian version', ggufBytes({ version: 0x03000000 }), /big-endian/],
  ['2^60 tensors', patched(8, 2n ** 60n), /number of tensors/],
  ['2^64 - 1 metadata entries', patched(16, 2n ** 64n - 1n), /number of metadata entries/],
  ['key of 2^40 bytes', patched(24, 2n ** 40n), /length of metadata key/],
  ['string past the end', patched(24 + 8 + 4 + 4, 2n ** 32n), /length of metadata text/],
  ['cut inside the metadata', whole.subarray(0, 42), /truncated|cannot be true|too short/],
  ['cut inside the data', whole.subarray(0, whole.length - 40), /outside the file/],
  [
    'array of 2^50 strings',
    patched(24 + 8 + 1 + 4 + 4, 2n ** 50n, ggufBytes({ metadata: { w: ['array', ['x'], 'string'] } })),
    /count of metadata array/,
  ],
  ['array of 2^50 numbers', patched(24 + 8 + 1 + 4 + 4, 2n ** 50n, ggufBytes({ metadata: { w: ['array', [1], 'f32'] } })), /count of metadata array/],
  ['alignment of 24', ggufBytes({ metadata: { 'general.alignment': ['u32', 24] } }), /alignment/],
  ['alignment of 0', ggufBytes({ metadata: { 'general.alignment': ['u32', 0] } }), /alignment/],
  ['alignment that is a string', ggufBytes({ metadata: { 'general.alignment': ['string', '32'] } }), /alignment/],
  ['offset off the alignment', ggufBytes({ tensors: [a, { ...b, offset: 33 }] }), /not aligned/],
  ['overlapping tensors', ggufBytes({ tensors: [a, { ...b, offset: 0 }] }), /a and b overlap/],
  ['one tensor name twice', ggufBytes({ tensors: [a, { ...a, offset: 32 }] }), /twice|outside/],
  ['rows that are not whole blocks', ggufBytes({ tensors: [{ ...b, shape: [2, 32 - 1] }] }), /whole q8_0 blocks/],
  ['shape of 2^120 elements', ggufBytes({ tensors: [{ ...a, shape: [2 ** 40, 2 ** 40, 2 ** 40] }] }), /claims|not a length/],
  ['nine dimensions', ggufBytes({ tensors: [{ ...a, shape: Array(9).fill(1) }] }), /too many dimensions/],
];

test.each(hostile)('%s is refused with one clear error', (_, bytes, says) => {
  const path = write(bytes);
  expect(() => GgufFile.open(path)).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID', message: expect.stringMatching(says) }));
  expect(() => GgufFile.open(path)).toThrow(path);
});

test('arrays nested without end are refused', () => {
  const levels = Buffer.concat(Array.from({ length: 50 }, () => Buffer.from('090000000100000000000000', 'hex')));
  const file = Buffer.concat([
    ggufBytes({}).subarray(0, 16),
    Buffer.from('0100000000000000', 'hex'),
    Buffer.from('010000000000000077', 'hex'),
    Buffer.from('09000000', 'hex'),
    levels,
  ]);
  expect(() => GgufFile.open(write(file))).toThrow(/nested too deeply/);
});
