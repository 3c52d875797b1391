import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend, ForwardBatch, KvDtype } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { PlanBuilder } from '../../src/plan/builder.ts';
import type { CacheGroup, Plan } from '../../src/plan/plan.ts';
import { type Chunk, TestRows } from '../fixtures/rows.ts';
import { normals } from '../fixtures/weights.ts';
import { candidates, emulatedGpu, normalisedError, remembered } from './backends.ts';
import { compile } from './single-op.ts';

interface Case {
  name: string;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  window: number;
  softCap: number;
  sinks: boolean;
  /** ALiBi. */
  slopes?: boolean;
  dtype: KvDtype;
  blockSize: number;
  /** rope-kv-write in place of kv-write. */
  fused: boolean;
  /** `bf16`: queries and weights are rounded. */
  activation?: 'bf16';
}

const plain: Case = {
  name: 'plain',
  numHeads: 4,
  numKvHeads: 2,
  headDim: 32,
  window: 0,
  softCap: 0,
  sinks: false,
  dtype: 'f32',
  blockSize: 16,
  fused: false,
};
const cases: Case[] = [
  plain,
  { ...plain, name: 'one KV head for five, odd head size', numHeads: 5, numKvHeads: 1, headDim: 20 },
  { ...plain, name: 'head size 128 in bf16', numHeads: 2, numKvHeads: 2, headDim: 128, dtype: 'bf16' },
  { ...plain, name: 'head size 6 in f16, blocks of 4', numHeads: 3, numKvHeads: 3, headDim: 6, dtype: 'f16', blockSize: 4 },
  { ...plain, name: 'window of 20', window: 20 },
  { ...plain, name: 'window of 300 in bf16', window: 300, dtype: 'bf16', blockSize: 64 },
  { ...plain, name: 'soft cap', softCap: 5 },
  { ...plain, name: 'sinks', sinks: true },
  { ...plain, name: 'all at once in f16', numHeads: 8, window: 270, softCap: 10, sinks: true, dtype: 'f16', blockSize: 32 },
  { ...plain, name: 'slopes', slopes: true },
  { ...plain, name: 'slopes, window of 270 and soft cap in bf16, head size 20', slopes: true, window: 270, softCap: 10, headDim: 20, dtype: 'bf16' },
  { ...plain, name: 'rope-kv-write', fused: true },
  { ...plain, name: 'rope-kv-write in bf16, window 20', fused: true, dtype: 'bf16', window: 20, headDim: 34 },
  { ...plain, name: 'int8', dtype: 'int8' },
  { ...plain, name: 'fp8, one KV head for five, head size 64, blocks of 32', numHeads: 5, numKvHeads: 1, headDim: 64, dtype: 'fp8', blockSize: 32 },
  { ...plain, name: 'int4, seven heads a KV head', numHeads: 7, numKvHeads: 1, dtype: 'int4' },
  { ...plain, name: 'int8, head size 21, blocks of 1', headDim: 21, dtype: 'int8', blockSize: 1 },
  { ...plain, name: 'fp8, head size 6, blocks of 4', numHeads: 3, numKvHeads: 3, headDim: 6, dtype: 'fp8', blockSize: 4 },
  { ...plain, name: 'int4, head size 9, blocks of 2', numHeads: 3, numKvHeads: 3, headDim: 9, dtype: 'int4', blockSize: 2 },
  { ...plain, name: 'int4, one head of 20, blocks of 1', numHeads: 1, numKvHeads: 1, headDim: 20, dtype: 'int4', blockSize: 1 },
  { ...plain, name: 'window of 300 in int4', window: 300, dtype: 'int4', blockSize: 64 },
  { ...plain, name: 'all at once in int8', numHeads: 8, window: 270, softCap: 10, sinks: true, dtype: 'int8', blockSize: 32 },
  { ...plain, name: 'rope-kv-write in int8, head size 34', fused: true, dtype: 'int8', headDim: 34 },
  ...(
    [
      { name: 'bf16', dtype: 'bf16' },
      { name: 'bf16, seven heads a KV head of 64, blocks of 32', numHeads: 14, headDim: 64, dtype: 'bf16', blockSize: 32 },
      { name: 'bf16, head size 21, blocks of 1', headDim: 21, dtype: 'bf16', blockSize: 1 },
      { name: 'bf16, window of 21, blocks of 4, head size 20', window: 21, headDim: 20, blockSize: 4, dtype: 'bf16' },
      { name: 'bf16, window of 300, soft cap, sinks, blocks of 64', window: 300, softCap: 10, sinks: true, dtype: 'bf16', blockSize: 64 },
      { name: 'bf16, slopes', slopes: true, dtype: 'bf16' },
      { name: 'int8, head size 48', headDim: 48, dtype: 'int8' },
      {
        name: 'int8, one KV head for eleven, window of 270, head size 18',
        numHeads: 11,
        numKvHeads: 1,
        window: 270,
        headDim: 18,
        dtype: 'int8',
        blockSize: 32,
      },
      { name: 'fp8', dtype: 'fp8' },
      { name: 'fp8, head size 6, blocks of 2', headDim: 6, dtype: 'fp8', blockSize: 2 },
      { name: 'int4', dtype: 'int4' },
      { name: 'int4, head size 9, window of 19, blocks of 8', headDim: 9, window: 19, dtype: 'int4', blockSize: 8 },
      { name: 'int4, head size 80, sinks, blocks of 32', headDim: 80, sinks: true, dtype: 'int4', blockSize: 32 },
      { name: 'f16', dtype: 'f16' },
      { name: 'f32, window of 20', window: 20 },
    ] satisfies Partial<Case>[]
  ).map((options): Case => ({ ...plain, ...options, name: `by bf16: ${options.name}`, activation: 'bf16' })),
];
const quantised = ['int8', 'fp8', 'int4'] as const;

/** q, k, v side by side in; attention out. Two layers of the cache are written, the second is read. */
function attentionPlan({ numHeads, numKvHeads, headDim, window, softCap, sinks, slopes, fused, activation }: Case, reach = window): Plan {
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const [qWidth, kvWidth] = [numHeads * headDim, numKvHeads * headDim];
  const input = builder.embeddings(qWidth + 2 * kvWidth);
  const group: CacheGroup = { name: 'g', kind: window > 0 ? 'window' : 'full', ...(window > 0 ? { window } : {}), numLayers: 2, numKvHeads, headDim };
  builder.cacheGroup(group);
  let q = builder.view('q', input, 0, qWidth);
  const k = builder.view('k', input, qWidth, kvWidth);
  const v = builder.view('v', input, qWidth + kvWidth, kvWidth);
  if (fused) {
    const constants = [
      builder.constant(
        'f',
        Float32Array.from({ length: headDim / 2 }, (_, i) => 10000 ** ((-2 * i) / headDim)),
      ),
    ];
    const rotated = builder.value('rotated', 'tokens', qWidth);
    const attrs = { headDim, rotaryDim: headDim, style: 'half', magnitude: 1, group: 0, layer: 1 } as const;
    builder.emit('rope-kv-write', 'w', { inputs: [q, k, v], outputs: [rotated], constants, attrs });
    q = rotated;
  } else {
    builder.emit('kv-write', 'w0', { inputs: [v, k], attrs: { group: 0, layer: 0 } });
    builder.emit('kv-write', 'w1', { inputs: [k, v], attrs: { group: 0, layer: 1 } });
  }
  const out = builder.value('out', 'tokens', qWidth);
  const weights = sinks ? [builder.vector('sinks', numHeads)] : [];
  const constants = slopes
    ? [
        builder.constant(
          'slopes',
          Float32Array.from({ length: numHeads }, (_, i) => 2 ** -(i + 1)),
        ),
      ]
    : [];
  const attrs = {
    group: 0,
    layer: 1,
    numHeads,
    headDim,
    scale: headDim ** -0.5,
    softCap,
    window: reach,
    ...(activation === undefined ? {} : { activation }),
  };
  builder.emit('attention', 'a', { inputs: [q], outputs: [out], weights, constants, attrs });
  return builder.build('attention', { out });
}

/** Heads, by element, that quantisation could stumble on. */
const nasty: ((i: number) => number)[] = [
  () => 0,
  (i) => i - 20,
  (i) => (i % 2 === 0 ? 0.5 : 127),
  (i) => (i - 20) / 7.5,
  (i) => 3 + Math.sin(i),
  (i) => -3 - Math.sin(i),
  (i) => (i === 7 ? 3e4 : Math.sin(i) / 100),
  (i) => (i === 39 ? -448 : 2 ** -(i % 20)),
  (i) => Math.sin(i) * 449,
  (i) => Math.sin(i) * 1e-30,
  (i) => i * 1e-45,
  (i) => Math.sin(i) * 1e-38,
  (i) => (i === 0 ? 2e38 : 1e38 * Math.cos(i)),
  (i) => (i === 0 ? 1e-3 : -3e38),
  (i) => (i === 21 ? NaN : i),
  (i) => (i === 39 ? -Infinity : i),
  (i) => Math.sin(i * i) * 2 ** (i % 13),
];

/** Contexts that end within, at and beyond splits of 256; then decode rows, a chunk and a fresh row together. */
const lengths = [1, 15, 16, 17, 255, 256, 257, 530];
const script: Chunk[][] = [
  ...lengths.map((length, row) => [{ row, tokenIds: Array<number>(length).fill(0) }]),
  [...lengths.map((_, row) => ({ row, tokenIds: [0] })), { row: 8, tokenIds: [0, 0, 0] }],
  [
    { row: 4, tokenIds: Array<number>(9).fill(0) },
    { row: 2, tokenIds: [0] },
    { row: 7, tokenIds: Array<number>(70).fill(0) },
  ],
];
const maxTokens = 530;
const reference = new ReferenceBackend();
const expected = remembered<Float32Array[]>();

/** The attention outputs of every step of the script, in a poisoned cache. */
async function runScript(backend: Backend, plan: Plan, { blockSize, dtype }: Case): Promise<Float32Array[]> {
  const { width } = plan.values[plan.input.value];
  const rows = new TestRows(plan.cacheGroups, { blockSize, numBlocks: Math.ceil(1800 / blockSize) + 9, dtype });
  const cache = await backend.createCache(rows.spec);
  const { run, program } = await compile(backend, plan, maxTokens);
  await poison(run, rows, cache, width);
  const all: Float32Array[] = [];
  for (const [i, chunks] of script.entries()) {
    const batch = rows.batch(chunks);
    all.push((await run(normals(i, batch.numTokens * width), batch, cache)).out);
  }
  program.close();
  cache.close();
  return all;
}

/** Fills every slot of the cache with NaN: whoever looks beyond what is visible is found out. */
async function poison(
  run: Awaited<ReturnType<typeof compile>>['run'],
  rows: TestRows,
  cache: Parameters<typeof run>[2],
  width: number,
): Promise<void> {
  const { numBlocks } = rows.spec.groups[0];
  const numSlots = numBlocks * rows.spec.blockSize;
  for (let begin = 0; begin < numSlots; begin += maxTokens) {
    const count = Math.min(maxTokens, numSlots - begin);
    const batch: ForwardBatch = {
      numTokens: count,
      numRows: 1,
      numLogitRows: 0,
      tokenIds: new Int32Array(count),
      positions: new Int32Array(count),
      rowStart: Int32Array.of(0, count),
      cacheIndex: new Int32Array(count),
      visibleEnd: new Int32Array(count),
      blockTables: Int32Array.of(0),
      maxBlocks: 1,
      slotMapping: Int32Array.from({ length: count }, (_, i) => begin + i),
      logitTokens: new Int32Array(0),
      copies: new Int32Array(0),
      numCopies: 0,
    };
    await run(new Float32Array(count * width).fill(NaN), batch, cache);
  }
}

for (const { name, open, keeps } of [...(await candidates()), await emulatedGpu()]) {
  // the GPU kernels multiply f32 only
  const rounds = (activation: Case['activation']) => activation === undefined || !name.startsWith('cuda');
  describe(name, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(cases.filter(({ dtype, activation }) => keeps(dtype) && rounds(activation)))(
      'attention is the reference’s for rows of many lengths: $name',
      async (options) => {
        const plan = attentionPlan(options);
        const actual = await runScript(backend, plan, options);
        const right = await expected(options.name, () => runScript(reference, plan, options));
        // A k that is rotated before it is rounded may differ in its last f32 bit, and so fall to the other side of a rounding.
        const wrong = options.dtype === 'int8' ? 1e-5 : 1e-7;
        // A weight whose exponential differs in its last bits may fall to the other side of a rounding to bf16 too: one in hundreds, by 2^-8 of itself.
        const error = (options.fused && options.dtype !== 'f32') || options.activation === 'bf16' ? wrong : 1e-11;
        right.forEach((expected, i) => {
          expect(expected.every(Number.isFinite), `step ${i} sees nothing but what is visible`).toBe(true);
          expect(normalisedError(actual[i], expected), `step ${i}`).toBeLessThan(error);
        });
      },
    );

    const variants: [dtype: KvDtype, given: Partial<Case>][] = [
      ['bf16', {}],
      ['bf16', { slopes: true }],
      ['int8', {}],
      ['fp8', {}],
      ['int4', {}],
      ['bf16', { activation: 'bf16' }],
      ['int8', { activation: 'bf16', window: 75, headDim: 20 }],
      ['fp8', { activation: 'bf16' }],
      ['int4', { activation: 'bf16', window: 301 }],
    ];
    test.each(variants.filter(([dtype, { activation }]) => keeps(dtype) && rounds(activation)))(
      'a row’s attention is the same bits alone, in any chunks and beside other rows, in %s: %o',
      async (dtype, given) => {
        const options: Case = { ...plain, dtype, ...given };
        const plan = attentionPlan(options);
        const { width } = plan.values[plan.input.value];
        const { run } = await compile(backend, plan, maxTokens);
        const length = 520;
        const input = normals(3, length * width);
        const part = (begin: number, end: number) => input.subarray(begin * width, end * width);
        const lastOf = async (chunkSize: number, beside: boolean): Promise<Float32Array> => {
          const rows = new TestRows(plan.cacheGroups, { numBlocks: 128, dtype, scatter: chunkSize });
          const cache = await backend.createCache(rows.spec);
          let out = new Float32Array(0);
          for (let begin = 0; begin < length; begin += chunkSize) {
            const count = Math.min(chunkSize, length - begin);
            const others = beside && count < 500 ? [1, 2, 3].map((row) => ({ row, tokenIds: [0, 0] })) : [];
            const batch = rows.batch([...others, { row: 0, tokenIds: Array<number>(count).fill(0) }]);
            const data = new Float32Array([...normals(begin, others.length * 2 * width), ...part(begin, begin + count)]);
            out = (await run(data, batch, cache)).out as Float32Array<ArrayBuffer>;
          }
          return out.slice(-options.numHeads * options.headDim);
        };
        const whole = await lastOf(length, false);
        expect(await lastOf(64, true)).toEqual(whole);
        expect(await lastOf(37, false)).toEqual(whole);
      },
    );

    test.each(quantised.filter(keeps))('a head stored as %s becomes the same bits as on the reference, whatever is in it', async (dtype) => {
      // one key alone: its value comes out as it was stored
      const headDim = 40;
      const plan = attentionPlan({ ...plain, numHeads: 1, numKvHeads: 1, headDim, dtype });
      const outputOf = async (on: Backend) => {
        const rows = new TestRows(plan.cacheGroups, { numBlocks: nasty.length, dtype });
        const cache = await on.createCache(rows.spec);
        const { run, program } = await compile(on, plan, maxTokens);
        const data = nasty.flatMap((head) => [...new Float32Array(2 * headDim), ...Array.from({ length: headDim }, (_, i) => head(i))]);
        const { out } = await run(new Float32Array(data), rows.batch(nasty.map((_, row) => ({ row, tokenIds: [0] }))), cache);
        program.close();
        cache.close();
        return Array.from({ length: nasty.length }, (_, row) => out.slice(row * headDim, (row + 1) * headDim));
      };
      const right = await outputOf(reference);
      const actual = await outputOf(backend);
      actual.forEach((row, i) => {
        expect(row, `head ${i}: ${nasty[i]}`).toEqual(right[i]);
        const broken = Array.from({ length: headDim }, (_, at) => nasty[i](at)).some((x) => !Number.isFinite(Math.fround(x)));
        expect(row.every(broken ? Number.isNaN : Number.isFinite), `head ${i}: ${nasty[i]}`).toBe(true);
      });
    });

    test.each([0, -1, -9, -260])('tokens of whole texts see them on both sides, as far as the window reaches: %i', async (window) => {
      const plan = attentionPlan(plain, window);
      const { width } = plan.values[plan.input.value];
      const texts = [1, 40, 17, 300].map((length, row) => ({ row, tokenIds: Array<number>(length).fill(0) }));
      const outputOf = async (on: Backend, chosen: typeof texts) => {
        const rows = new TestRows(plan.cacheGroups);
        const cache = await on.createCache(rows.spec);
        const { run, program } = await compile(on, plan, maxTokens);
        await poison(run, rows, cache, width);
        const batch = rows.batch(chosen);
        const ends = chosen.flatMap(({ tokenIds }) => tokenIds.map(() => tokenIds.length));
        const data = chosen.flatMap(({ row, tokenIds }) => [...normals(row, tokenIds.length * width)]);
        const { out } = await run(new Float32Array(data), { ...batch, visibleEnd: Int32Array.from(ends) }, cache);
        program.close();
        cache.close();
        return out;
      };
      const together = await outputOf(backend, texts);
      expect(together.every(Number.isFinite)).toBe(true);
      expect(
        normalisedError(together, await expected(`texts ${window}`, async () => [await outputOf(reference, texts)]).then(([out]) => out)),
      ).toBeLessThan(1e-11);
      expect(await outputOf(backend, texts.slice(3))).toEqual(together.slice(-300 * plain.numHeads * plain.headDim));
    });

    const broken: Partial<Case>[] = [
      { dtype: 'bf16' },
      { dtype: 'bf16', activation: 'bf16' },
      { dtype: 'int8', activation: 'bf16' },
      { dtype: 'int4', activation: 'bf16', headDim: 20 },
    ];
    test.each(broken.filter(({ activation }) => rounds(activation)))(
      'tokens before a broken one are the same bits as without it: %o',
      async (given) => {
        const options: Case = { ...plain, ...given };
        const plan = attentionPlan(options);
        const { width } = plan.values[plan.input.value];
        const { run } = await compile(backend, plan, maxTokens);
        const outputOf = async (broken: number | null) => {
          const rows = new TestRows(plan.cacheGroups, { dtype: options.dtype });
          const cache = await backend.createCache(rows.spec);
          const data = normals(8, 12 * width);
          if (broken !== null) data.fill(NaN, broken * width, (broken + 1) * width);
          return (await run(data, rows.batch([{ row: 0, tokenIds: Array<number>(12).fill(0) }]), cache)).out;
        };
        const whole = await outputOf(null);
        const length = options.numHeads * options.headDim;
        for (const broken of [5, 6]) {
          const out = await outputOf(broken);
          expect(out.subarray(0, broken * length)).toEqual(whole.subarray(0, broken * length));
          expect(out.subarray(broken * length).every(Number.isNaN)).toBe(true);
        }
      },
    );

    const drafted: Partial<Case>[] = [{}, { activation: 'bf16', dtype: 'bf16' }, { activation: 'bf16', dtype: 'int4', headDim: 20 }];
    test.each(drafted.filter(({ activation }) => rounds(activation)))(
      'draft tokens that name their ancestors attend as the linear computation does, bit for bit: %o',
      async (given) => {
        const options: Case = { ...plain, window: 250, ...given };
        const plan = attentionPlan(options);
        const { width } = plan.values[plan.input.value];
        const { run } = await compile(backend, plan, maxTokens);
        const context = 254; // the drafts cross a split
        const input = normals(4, (context + 4) * width);
        const tokens = (...indices: number[]) => new Float32Array(indices.flatMap((i) => [...input.subarray(i * width, (i + 1) * width)]));
        const all = Array.from({ length: context }, (_, i) => i);
        const linear = async (drafts: number[]): Promise<Float32Array> => {
          const rows = new TestRows(plan.cacheGroups, { dtype: options.dtype });
          const cache = await backend.createCache(rows.spec);
          const batch = rows.batch([{ row: 0, tokenIds: Array<number>(context + drafts.length).fill(0) }]);
          return (await run(tokens(...all, ...drafts), batch, cache)).out.slice(-options.numHeads * options.headDim);
        };
        const rows = new TestRows(plan.cacheGroups, { dtype: options.dtype });
        const cache = await backend.createCache(rows.spec);
        await run(tokens(...all), rows.batch([{ row: 0, tokenIds: Array<number>(context).fill(0) }]), cache);
        const flat = rows.batch([{ row: 0, tokenIds: [0, 0, 0, 0] }]);
        const [a, b, d, c] = flat.slotMapping; // branches a-b-c and a-d
        const batch = {
          ...flat,
          cacheIndex: Int32Array.of(context, context + 1, context + 1, context + 2),
          visibleEnd: new Int32Array(4).fill(context),
          ancestors: { start: Int32Array.of(0, 1, 3, 5, 8), slots: Int32Array.of(a, a, b, a, d, a, b, c) },
        };
        const { out } = await run(tokens(context, context + 1, context + 3, context + 2), batch, cache);
        const row = (i: number) => out.slice(i * options.numHeads * options.headDim, (i + 1) * options.numHeads * options.headDim);
        const at = context;
        expect(row(0)).toEqual(await linear([at]));
        expect(row(1)).toEqual(await linear([at, at + 1]));
        expect(row(2)).toEqual(await linear([at, at + 3]));
        expect(row(3)).toEqual(await linear([at, at + 1, at + 2]));
      },
    );
  });
}
