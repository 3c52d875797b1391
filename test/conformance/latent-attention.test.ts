import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend, ForwardBatch, KvDtype } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { PlanBuilder } from '../../src/plan/builder.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { type Chunk, TestRows } from '../fixtures/rows.ts';
import { normals } from '../fixtures/weights.ts';
import { candidates, normalisedError, remembered } from './backends.ts';
import { compile } from './single-op.ts';

interface Case {
  name: string;
  numHeads: number;
  rank: number;
  rotary: number;
  dtype: KvDtype;
  blockSize: number;
  /** Contexts: they end within, at and beyond splits of 256. */
  lengths: readonly number[];
}

const plain: Case = { name: 'plain', numHeads: 4, rank: 32, rotary: 16, dtype: 'f32', blockSize: 16, lengths: [1, 16, 17, 255, 257, 530] };
const cases: Case[] = [
  plain,
  { ...plain, name: 'one head, odd sizes, blocks of 4', numHeads: 1, rank: 18, rotary: 6, dtype: 'f16', blockSize: 4 },
  { ...plain, name: 'as DeepSeek-V2-Lite stores it', numHeads: 16, rank: 512, rotary: 64, dtype: 'bf16', lengths: [3, 60] },
  { ...plain, name: 'more heads than an item holds', numHeads: 72, rank: 20, rotary: 4, dtype: 'bf16', blockSize: 64, lengths: [30, 257] },
  { ...plain, name: 'int8', dtype: 'int8' },
  { ...plain, name: 'fp8, odd sizes, blocks of 4', numHeads: 3, rank: 18, rotary: 6, dtype: 'fp8', blockSize: 4 },
  { ...plain, name: 'int4, an odd row, blocks of 2', numHeads: 5, rank: 19, rotary: 6, dtype: 'int4', blockSize: 2 },
  { ...plain, name: 'a prime number of heads', numHeads: 67, rank: 8, rotary: 4, lengths: [30, 257] },
];

/** Queries against the compressed part, queries against the rotary part, a row for each token in; attention out. The second layer is read. */
function latentPlan({ numHeads, rank, rotary }: Case): Plan {
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const widths = [numHeads * rank, numHeads * rotary, rank, rotary];
  const input = builder.embeddings(widths.reduce((a, b) => a + b, 0));
  builder.cacheGroup({ name: 'g', kind: 'latent', numLayers: 2, numKvHeads: 1, headDim: rank + rotary });
  let at = 0;
  const [qLatent, qRotary, latent, key] = widths.map((width, i) => {
    const view = builder.view(`part${i}`, input, at, width);
    at += width;
    return view;
  });
  builder.emit('latent-write', 'w0', { inputs: [builder.view('other', input, 0, rank), key], attrs: { group: 0, layer: 0 } });
  builder.emit('latent-write', 'w1', { inputs: [latent, key], attrs: { group: 0, layer: 1 } });
  const out = builder.value('out', 'tokens', numHeads * rank);
  const attrs = { group: 0, layer: 1, numHeads, scale: (rank + rotary) ** -0.5 };
  builder.emit('latent-attention', 'a', { inputs: [qLatent, qRotary], outputs: [out], attrs });
  return builder.build('latent-attention', { out });
}

/** Contexts; then decode rows and a fresh row, then a chunk and a decode row, together. */
function scriptOf({ lengths }: Case): Chunk[][] {
  return [
    ...lengths.map((length, row) => [{ row, tokenIds: Array<number>(length).fill(0) }]),
    [...lengths.map((_, row) => ({ row, tokenIds: [0] })), { row: 8, tokenIds: [0, 0, 0] }],
    [
      { row: lengths.length - 1, tokenIds: Array<number>(9).fill(0) },
      { row: 0, tokenIds: [0] },
    ],
  ];
}
const maxTokens = 530;
const reference = new ReferenceBackend();
const expected = remembered<Float32Array[]>();

async function runScript(backend: Backend, plan: Plan, options: Case): Promise<Float32Array[]> {
  const { blockSize, dtype } = options;
  const { width } = plan.values[plan.input.value];
  const rows = new TestRows(plan.cacheGroups, { blockSize, numBlocks: Math.ceil(1300 / blockSize) + 9, dtype });
  const cache = await backend.createCache(rows.spec);
  const { run, program } = await compile(backend, plan, maxTokens);
  await poison(run, rows, cache, width);
  const all: Float32Array[] = [];
  for (const [i, chunks] of scriptOf(options).entries()) {
    const batch = rows.batch(chunks);
    all.push((await run(normals(i, batch.numTokens * width), batch, cache)).out);
  }
  program.close();
  cache.close();
  return all;
}

/** Fills every slot with NaN: whoever looks beyond what is visible is found out. */
async function poison(
  run: Awaited<ReturnType<typeof compile>>['run'],
  rows: TestRows,
  cache: Parameters<typeof run>[2],
  width: number,
): Promise<void> {
  const numSlots = rows.spec.groups[0].numBlocks * rows.spec.blockSize;
  for (let begin = 0; begin < numSlots; begin += maxTokens) {
    const count = Math.min(maxTokens, numSlots - begin);
    const zeros = new Int32Array(count);
    const batch: ForwardBatch = {
      numTokens: count,
      numRows: 1,
      numLogitRows: 0,
      tokenIds: zeros,
      positions: zeros,
      rowStart: Int32Array.of(0, count),
      cacheIndex: zeros,
      visibleEnd: zeros,
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

for (const { name, open } of await candidates()) {
  describe(name, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(cases)('latent attention is the reference’s for rows of many lengths: $name', async (options) => {
      const plan = latentPlan(options);
      const actual = await runScript(backend, plan, options);
      const right = await expected(options.name, () => runScript(reference, plan, options));
      right.forEach((expected, i) => {
        expect(expected.every(Number.isFinite), `step ${i} sees nothing but what is visible`).toBe(true);
        expect(normalisedError(actual[i], expected), `step ${i}`).toBeLessThan(1e-11);
      });
    });

    test.each([4, 20])('a row’s latent attention over %i heads is the same bits alone, in any chunks and beside other rows', async (numHeads) => {
      const options = { ...plain, numHeads, rank: 12, rotary: 4, dtype: 'bf16' as const };
      const plan = latentPlan(options);
      const { width } = plan.values[plan.input.value];
      const { run } = await compile(backend, plan, maxTokens);
      const length = 520;
      const input = normals(3, length * width);
      const lastOf = async (chunkSize: number, beside: boolean): Promise<Float32Array> => {
        const rows = new TestRows(plan.cacheGroups, { numBlocks: 128, dtype: 'bf16', scatter: chunkSize });
        const cache = await backend.createCache(rows.spec);
        let out = new Float32Array(0);
        for (let begin = 0; begin < length; begin += chunkSize) {
          const count = Math.min(chunkSize, length - begin);
          const others = beside && count < 500 ? [1, 2, 3].map((row) => ({ row, tokenIds: [0, 0] })) : [];
          const batch = rows.batch([...others, { row: 0, tokenIds: Array<number>(count).fill(0) }]);
          const data = new Float32Array([...normals(begin, others.length * 2 * width), ...input.subarray(begin * width, (begin + count) * width)]);
          out = (await run(data, batch, cache)).out as Float32Array<ArrayBuffer>;
        }
        cache.close();
        return out.slice(-numHeads * options.rank);
      };
      const whole = await lastOf(length, false);
      expect(await lastOf(64, true)).toEqual(whole);
      expect(await lastOf(37, false)).toEqual(whole);
      expect(await lastOf(519, false)).toEqual(whole); // the last token alone
    });

    test('draft tokens that name their ancestors attend as the linear computation does, bit for bit', async () => {
      const plan = latentPlan(plain);
      const { width } = plan.values[plan.input.value];
      const { run } = await compile(backend, plan, maxTokens);
      const context = 254; // the drafts cross a split
      const input = normals(4, (context + 4) * width);
      const tokens = (...indices: number[]) => new Float32Array(indices.flatMap((i) => [...input.subarray(i * width, (i + 1) * width)]));
      const all = Array.from({ length: context }, (_, i) => i);
      const linear = async (drafts: number[]): Promise<Float32Array> => {
        const rows = new TestRows(plan.cacheGroups);
        const cache = await backend.createCache(rows.spec);
        const batch = rows.batch([{ row: 0, tokenIds: Array<number>(context + drafts.length).fill(0) }]);
        return (await run(tokens(...all, ...drafts), batch, cache)).out.slice(-plain.numHeads * plain.rank);
      };
      const rows = new TestRows(plan.cacheGroups);
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
      const row = (i: number) => out.slice(i * plain.numHeads * plain.rank, (i + 1) * plain.numHeads * plain.rank);
      expect(row(0)).toEqual(await linear([context]));
      expect(row(1)).toEqual(await linear([context, context + 1]));
      expect(row(2)).toEqual(await linear([context, context + 3]));
      expect(row(3)).toEqual(await linear([context, context + 1, context + 2]));
    });

    test('a block of latent rows is copied as far as it is asked', async () => {
      const plan = latentPlan(plain);
      const { width } = plan.values[plan.input.value];
      const { run } = await compile(backend, plan, maxTokens);
      const input = normals(5, 11 * width);
      const next = normals(6, width);
      const outputOf = async (copied: boolean): Promise<Float32Array> => {
        const rows = new TestRows(plan.cacheGroups);
        const cache = await backend.createCache(rows.spec);
        await run(input, rows.batch([{ row: 0, tokenIds: Array<number>(11).fill(0) }]), cache);
        const batch = rows.batch([{ row: 0, tokenIds: [0] }]);
        if (!copied) return (await run(next, batch, cache)).out;
        const [block] = batch.blockTables;
        const other = block === 0 ? 1 : 0;
        const moved = {
          ...batch,
          blockTables: Int32Array.of(other),
          slotMapping: Int32Array.of(other * 16 + 11),
          copies: Int32Array.of(0, block, other, 11),
          numCopies: 1,
        };
        return (await run(next, moved, cache)).out;
      };
      expect(await outputOf(true)).toEqual(await outputOf(false));
    });
  });
}
