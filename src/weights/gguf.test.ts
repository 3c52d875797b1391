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

/** Writes the parts of a split model; `change` alters what a part says of itself. */
function writeParts(change: (part: number, metadata: Record<string, GgufEntry>) => Record<string, GgufEntry> = (_, metadata) => metadata): string[] {
  const name = `split${made++}`;
  return [[], [a], [b]].map((tensors, i) => {
    const own: Record<string, GgufEntry> = { 'split.no': ['u16', i], 'split.count': ['u16', 3], 'split.tensors.count': ['i32', 2] };
    const metadata = change(i, i === 0 ? { ...own, 'general.architecture': ['string', 'llama'] } : own);
    return writeFile(join(folder, `${name}-0000${i + 1}-of-00003.gguf`), ggufBytes({ metadata, tensors }));
  });
}

test('any part of a split model opens the whole, with the metadata of the first', () => {
  const paths = writeParts();
  for (const path of paths) {
    const file = GgufFile.open(path);
    expect(file.metadata.get('general.architecture')).toBe('llama');
    expect(file.path).toBe(paths[0]);
    const source = file.source((name) => ({ name }));
    expect(source.files.map((each) => each.path)).toEqual(paths);
    const tensor = source.find('a')!;
    expect([...new Float32Array(source.read(tensor).buffer as ArrayBuffer)]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(source.read(source.find('b')!)).toEqual(b.bytes);
    expect([tensor.file, source.find('b')?.file]).toEqual(paths.slice(1));
    source.close();
  }
});

test('a split model whose part is missing says which', () => {
  const [first, second] = writeParts();
  rmSync(second);
  expect(() => GgufFile.open(first)).toThrow(expect.objectContaining({ code: 'MODEL_NOT_FOUND', message: expect.stringContaining(second) }));
});

test.each<[string, Parameters<typeof writeParts>[0]]>([
  ['a part says that it is another', (i, metadata) => (i === 1 ? { ...metadata, 'split.no': ['u16', 2] } : metadata)],
  ['a part is of a model of more parts', (i, metadata) => (i === 2 ? { ...metadata, 'split.count': ['u16', 4] } : metadata)],
  ['a part is not of a split model', (i, metadata) => (i === 1 ? {} : metadata)],
  ['fewer tensors are there than promised', (_, metadata) => ({ ...metadata, 'split.tensors.count': ['i32', 3] })],
  ['there are absurdly many parts', (_, metadata) => ({ ...metadata, 'split.count': ['u16', 60_000] })],
  ['the number of parts is no number', (_, metadata) => ({ ...metadata, 'split.count': ['string', '3'] })],
])('a split model is refused when %s', (_, change) => {
  expect(() => GgufFile.open(writeParts(change)[0])).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID' }));
});

test('a part under a name that does not say which it is says what the name must be', () => {
  expect(() => open({ metadata: { 'split.count': ['u16', 3], 'split.no': ['u16', 1] } })).toThrow(/-00002-of-00003\.gguf/);
});

test('tensors of one name in two parts are refused', () => {
  const name = `twice${made++}`;
  const [first] = [0, 1].map((i) => {
    const metadata: Record<string, GgufEntry> = { 'split.no': ['u16', i], 'split.count': ['u16', 2] };
    return writeFile(join(folder, `${name}-0000${i + 1}-of-00002.gguf`), ggufBytes({ metadata, tensors: [a] }));
  });
  expect(() => GgufFile.open(first)).toThrow(/occurs twice/);
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
