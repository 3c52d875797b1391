/** `kv-rotate` and `kv-compress`: what they leave in the cache, seen through attention, is what the reference leaves. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend, Cache, ForwardBatch, KvDtype } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { kvDtypes } from '../../src/kv/layout.ts';
import { PlanBuilder } from '../../src/plan/builder.ts';
import type { CacheGroup, Plan } from '../../src/plan/plan.ts';
import { TestRows } from '../fixtures/rows.ts';
import { normals } from '../fixtures/weights.ts';
import { candidates, normalisedError, remembered } from './backends.ts';
import { compile } from './single-op.ts';

interface Case {
  readonly name: string;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly rotaryDim: number;
  readonly style: 'half' | 'interleaved';
  readonly softCap: number;
  readonly dtype: KvDtype;
  readonly blockSize: number;
}

const plain: Case = { name: 'plain', numHeads: 4, numKvHeads: 2, headDim: 32, rotaryDim: 32, style: 'half', softCap: 0, dtype: 'f32', blockSize: 16 };
const cases: Case[] = [
  plain,
  {
    ...plain,
    name: 'interleaved, part of an odd head, five heads on one',
    style: 'interleaved',
    headDim: 21,
    rotaryDim: 14,
    numHeads: 5,
    numKvHeads: 1,
  },
  { ...plain, name: 'no rotation, blocks of 4, soft cap', rotaryDim: 0, blockSize: 4, softCap: 4 },
  ...(Object.keys(kvDtypes) as KvDtype[]).slice(1).map((dtype) => ({ ...plain, name: dtype, dtype })),
  { ...plain, name: 'int4, odd head, blocks of 2', dtype: 'int4', headDim: 9, rotaryDim: 8, blockSize: 2 },
];

const groupOf = ({ numKvHeads, headDim }: Case): CacheGroup => ({ name: 'g', kind: 'full', numLayers: 2, numKvHeads, headDim });
const frequencies = (rotaryDim: number) => Float32Array.from({ length: rotaryDim / 2 }, (_, i) => 100 ** ((-2 * i) / rotaryDim));

/** q, k, v side by side in; the second layer is written and, with `reads`, read. */
function planOf(options: Case, last: 'attention' | 'kv-compress' | 'write'): Plan {
  const { numHeads, numKvHeads, headDim, rotaryDim, style, softCap } = options;
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const [qWidth, kvWidth] = [numHeads * headDim, numKvHeads * headDim];
  const input = builder.embeddings(qWidth + 2 * kvWidth);
  builder.cacheGroup(groupOf(options));
  let q = builder.view('q', input, 0, qWidth);
  let k = builder.view('k', input, qWidth, kvWidth);
  const v = builder.view('v', input, qWidth + kvWidth, kvWidth);
  if (rotaryDim > 0) {
    const constants = [builder.constant('f', frequencies(rotaryDim))];
    const attrs = { headDim, rotaryDim, style, magnitude: 1 };
    q = builder.map('rope', 'rq', q, { constants, attrs });
    k = builder.map('rope', 'rk', k, { constants, attrs });
  }
  if (last !== 'kv-compress') builder.emit('kv-write', 'w', { inputs: [k, v], attrs: { group: 0, layer: 1 } });
  const shape = { group: 0, layer: 1, numHeads, headDim, scale: headDim ** -0.5, softCap };
  if (last === 'kv-compress') {
    builder.emit('kv-compress', 'c', { inputs: [q], attrs: shape });
    return builder.build('compress', {});
  }
  const out = builder.value('out', 'tokens', qWidth);
  builder.emit('attention', 'a', { inputs: [q], outputs: [out], attrs: { ...shape, window: 0 } });
  return builder.build('attention', { out });
}

function rotatePlan(options: Case): Plan {
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const ids = builder.tokenIds();
  builder.cacheGroup(groupOf(options));
  const constants = [builder.constant('f', frequencies(options.rotaryDim))];
  builder.emit('kv-rotate', 'r', { inputs: [ids], constants, attrs: { group: 0, layer: 1, rotaryDim: options.rotaryDim, style: options.style } });
  return builder.build('rotate', {});
}

/** Tokens [first, first + count) of a row's cache to slots of its own or another table, `positions` further on. */
function rotation(from: readonly number[], to: readonly number[], first: number, count: number, shift: number, blockSize: number): ForwardBatch {
  const index = Int32Array.from({ length: count }, (_, i) => first + i);
  return {
    numTokens: count,
    numRows: 1,
    numLogitRows: 0,
    tokenIds: new Int32Array(count),
    positions: new Int32Array(count).fill(shift),
    rowStart: Int32Array.of(0, count),
    cacheIndex: index,
    visibleEnd: index.map((i) => i + 1),
    blockTables: Int32Array.from(from),
    maxBlocks: from.length,
    slotMapping: index.map((i) => to[Math.floor(i / blockSize)] * blockSize + (i % blockSize)),
    logitTokens: new Int32Array(0),
    copies: new Int32Array(0),
    numCopies: 0,
  };
}

const reference = new ReferenceBackend();
const expected = remembered<Float32Array>();
const maxTokens = 300;

interface Bench {
  readonly rows: TestRows;
  readonly cache: Cache;
  /** Computes tokens of row 0 with random q, k and v; the attention outputs. */
  feed(seed: number, batch: ForwardBatch): Promise<Float32Array>;
  compress(seed: number, batch: ForwardBatch, kept: readonly number[]): Promise<void>;
  rotate(batch: ForwardBatch): Promise<void>;
}

async function bench(backend: Backend, options: Case): Promise<Bench> {
  const plan = planOf(options, 'attention');
  const { width } = plan.values[plan.input.value];
  const rows = new TestRows(plan.cacheGroups, { ...options, numBlocks: Math.ceil(700 / options.blockSize) });
  const cache = await backend.createCache(rows.spec);
  const attention = await compile(backend, plan, maxTokens);
  const compressor = await compile(backend, planOf(options, 'kv-compress'), maxTokens);
  const { program } = await compile(backend, rotatePlan(options), maxTokens);
  return {
    rows,
    cache,
    feed: async (seed, batch) => (await attention.run(normals(seed, batch.numTokens * width), batch, cache)).out,
    compress: async (seed, batch, kept) =>
      void (await compressor.run(normals(seed, batch.numTokens * width), { ...batch, kept: Int32Array.from(kept) }, cache)),
    rotate: async (batch) => void (await backend.execute({ entries: [{ program, cache, batch }], sampling: null })),
  };
}

const zeros = (count: number) => Array<number>(count).fill(0);

/** Writes keys, turns some on to other blocks and some in place, looks at all of them with one token. */
async function rotated(backend: Backend, options: Case, shift: number, inPlace: boolean): Promise<Float32Array> {
  const { blockSize } = options;
  const { rows, feed, rotate } = await bench(backend, options);
  await feed(1, rows.batch([{ row: 0, tokenIds: zeros(150) }]));
  await feed(2, rows.batch([{ row: 1, tokenIds: zeros(100) }])); // blocks to turn into
  const [own, other] = rows.blocks;
  const first = inPlace ? 3 * blockSize : 0;
  const target = inPlace ? own : [...other];
  await rotate(rotation(own, target, first, inPlace ? 150 - first : 2 * blockSize, shift, blockSize));
  if (!inPlace) own.splice(0, 2, ...other.slice(0, 2));
  return feed(3, rows.batch([{ row: 0, tokenIds: zeros(3) }]));
}

const lengths = [190, 37, 60];
const windows = [8, 5, 6];
const kept = [64, 20, 60];
const pools = [7, 1, 3];

/** The last tokens of some rows decide what stays of them; then they go on, by two tokens each. */
async function compressed(backend: Backend, options: Case, chosen: readonly number[] = [0, 1, 2]): Promise<Float32Array> {
  const { rows, feed, compress } = await bench(backend, options);
  for (const row of chosen) await feed(10 + row, rows.batch([{ row, tokenIds: zeros(lengths[row]) }]));
  for (const row of chosen) rows.lengths[row] -= windows[row];
  const tables = rows.blocks.map((table) => [...table]);
  const observed = rows.batch(chosen.map((row) => ({ row, tokenIds: zeros(windows[row]) })));
  const counts = chosen.flatMap((row) => [kept[row], pools[row]]);
  await compress(
    20,
    withTables(
      observed,
      chosen.map((row) => tables[row]),
      rows.spec.blockSize,
    ),
    counts,
  );
  for (const row of chosen) {
    rows.lengths[row] = kept[row];
    rows.blocks[row] = tables[row].slice(0, Math.ceil(kept[row] / options.blockSize));
  }
  return feed(30, rows.batch(chosen.map((row) => ({ row, tokenIds: zeros(2) }))));
}

/** The batch with other block tables, which must hold all that its tokens see. */
function withTables(batch: ForwardBatch, tables: readonly (readonly number[])[], blockSize: number): ForwardBatch {
  const maxBlocks = Math.max(...tables.map(({ length }) => length));
  const rowOf = (token: number) => batch.rowStart.findIndex((start) => start > token) - 1;
  return {
    ...batch,
    maxBlocks,
    blockTables: Int32Array.from(tables.flatMap((table) => Array.from({ length: maxBlocks }, (_, i) => table[i] ?? -1))),
    slotMapping: batch.cacheIndex.map((index, token) => tables[rowOf(token)][Math.floor(index / blockSize)] * blockSize + (index % blockSize)),
  };
}

for (const { name, open } of await candidates()) {
  describe(name, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(cases)('keys are turned as the reference turns them: $name', async (options) => {
      // a key that is turned before it is rounded may fall to the other side of a rounding
      const error = options.dtype === 'f32' ? 1e-11 : 1e-5;
      for (const [shift, inPlace] of [
        [4096, false],
        [-61, true],
      ] as const) {
        const right = await expected(`${options.name} ${shift}`, () => rotated(reference, options, shift, inPlace));
        const actual = await rotated(backend, options, shift, inPlace);
        expect(actual.every(Number.isFinite)).toBe(true);
        expect(normalisedError(actual, right)).toBeLessThan(error);
      }
    });

    test.each(cases)('the keys that are attended to most stay, as on the reference: $name', async (options) => {
      const right = await expected(`compressed ${options.name}`, () => compressed(reference, options));
      const actual = await compressed(backend, options);
      expect(actual.every(Number.isFinite)).toBe(true);
      expect(normalisedError(actual, right)).toBeLessThan(1e-11);
    });

    test('what stays has the same bits alone and beside other rows', async () => {
      const alone = await compressed(backend, plain, [0]);
      expect((await compressed(backend, plain)).slice(0, alone.length)).toEqual(alone);
    });

    test('a step that compresses rows it does not describe is refused', async () => {
      const { rows, feed, compress } = await bench(backend, plain);
      await feed(1, rows.batch([{ row: 0, tokenIds: zeros(40) }]));
      rows.lengths[0] -= 8;
      const batch = withTables(rows.batch([{ row: 0, tokenIds: zeros(8) }]), [rows.blocks[0]], 16);
      await expect(compress(2, batch, [])).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
      await expect(compress(2, batch, [7, 7])).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
      await expect(compress(2, { ...batch, visibleEnd: batch.visibleEnd.map(() => 40) }, [20, 7])).rejects.toMatchObject({
        code: 'BACKEND_STEP_FAILED',
      });
    });
  });
}

test('a key turned on by a shift is the key of the later position', async () => {
  const { rows, feed, rotate } = await bench(reference, plain);
  await feed(1, rows.batch([{ row: 0, tokenIds: zeros(32) }]));
  const late = rows.batch([{ row: 1, tokenIds: zeros(32) }]);
  await feed(1, { ...late, positions: late.positions.map((p) => p + 777) });
  await rotate(rotation(rows.blocks[0], rows.blocks[0], 0, 32, 777, 16));
  const turned = await feed(5, rows.batch([{ row: 0, tokenIds: [0] }]));
  expect(normalisedError(turned, await feed(5, rows.batch([{ row: 1, tokenIds: [0] }])))).toBeLessThan(1e-9); // angles are rounded to f32
});
