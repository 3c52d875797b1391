import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend, ForwardBatch, HostStage, Step } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { bodyPlan, type DecoderOptions, decoderPlan, headPlan } from '../fixtures/decoder.ts';
import { type Chunk, greedy, TestRows } from '../fixtures/rows.ts';
import { randomSource } from '../fixtures/weights.ts';
import { candidates, emulatedGpu, normalisedError } from './backends.ts';

const VOCAB = 97;
const limits = { maxTokens: 128, maxLogitRows: 128 };
const prompt = Array.from({ length: 70 }, (_, i) => (i * 31 + 5) % VOCAB);

/** One decoder on one backend, with a cache of its own per call of `start`. */
async function decoder(backend: Backend, options: Partial<DecoderOptions> = {}) {
  const plan = decoderPlan(options);
  const program = await backend.compile(plan, randomSource(plan), limits);
  const start = async (scatter = 7) => {
    const rows = new TestRows(plan.cacheGroups, { scatter });
    const cache = await backend.createCache(rows.spec);
    const run = (batch: ForwardBatch, more: Partial<Step> = {}) =>
      backend.execute({ entries: [{ program, cache, batch }], sampling: null, readOutputs: ['logits'], ...more });
    const chunk = (chunks: Chunk[], more: Partial<Step> = {}) => run(rows.batch(chunks), more);
    return { rows, cache, run, chunk };
  };
  return { plan, program, start };
}

const decoders: [string, Partial<DecoderOptions>][] = [
  ['f32', {}],
  ['bf16 with two cache groups', { format: 'bf16', activation: 'bf16', window: 20, bias: true, qkNorm: true }],
  [
    'q8_0 with int8 activations, soft caps and sinks',
    { format: 'q8_0', activation: 'int8-group32', attentionSoftCap: 30, logitSoftCap: 20, sinks: true },
  ],
];

for (const { name, open, takes } of [...(await candidates()), await emulatedGpu()]) {
  describe(name, () => {
    const own = decoders.filter(([, { format, activation }]) => takes(format ?? 'f32', activation));
    let backend: Backend;
    const reference = new ReferenceBackend();
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(own)('a small decoder in %s gives the reference’s logits', async (_, options) => {
      const [actual, expected] = await Promise.all(
        [backend, reference].map(async (b) => {
          const { chunk } = await (await decoder(b, options)).start();
          const first = await chunk([0, 1, 2].map((row) => ({ row, tokenIds: prompt.slice(row, 30 + row), logits: 'all' })));
          const second = await chunk([1, 0].map((row) => ({ row, tokenIds: [row + 3] })));
          return [first.outputs.logits, second.outputs.logits];
        }),
      );
      // int8: a last-bit difference before a rounding can move a number by one step of 1/127
      const error = options.activation === 'f32' || options.activation === undefined ? 1e-10 : 1e-3;
      expected.forEach((logits, i) => {
        expect(normalisedError(actual[i], logits)).toBeLessThan(error);
      });
    });

    test.each(own)('in %s, logits are the same bits whole, in chunks and among other rows', async (_, options) => {
      const { start } = await decoder(backend, options);
      const whole = (await (await start()).chunk([{ row: 0, tokenIds: prompt }])).outputs.logits;
      for (const size of [1, 7, 64]) {
        const { chunk } = await start(size);
        let last = new Float32Array(0);
        for (let begin = 0; begin < prompt.length; begin += size) {
          const row = { row: 0, tokenIds: prompt.slice(begin, begin + size) };
          const others = size === 7 ? [1, 2, 3].map((other) => ({ row: other, tokenIds: [other, begin % VOCAB] })) : [];
          last = (await chunk([...others, row])).outputs.logits.slice(-VOCAB);
        }
        expect(last, `chunks of ${size}`).toEqual(whole);
      }
    });

    test.each(own)(
      'in %s, blocks read out of one cache and written to another place of another go on to the same logits bit for bit',
      async (_, options) => {
        const { start, plan } = await decoder(backend, options);
        const computed = await start(7);
        await computed.chunk([{ row: 0, tokenIds: prompt.slice(0, 40) }]);
        const moved = await start(31);
        moved.rows.batch([{ row: 0, tokenIds: prompt.slice(0, 40) }]); // takes the blocks, computes nothing
        const pairs = (blocks: readonly number[]) => Int32Array.from(plan.cacheGroups.flatMap((__, g) => blocks.flatMap((block) => [g, block])));
        expect(moved.rows.blocks[0]).not.toEqual(computed.rows.blocks[0]);
        expect(moved.cache.layout).toBe(computed.cache.layout);
        // given together with the step before and the steps after: each takes its turn
        const bytes = backend.readBlocks(computed.cache, pairs(computed.rows.blocks[0]));
        const expected = computed.chunk([{ row: 0, tokenIds: prompt.slice(40) }]);
        const written = backend.writeBlocks(moved.cache, pairs(moved.rows.blocks[0]), await bytes);
        const actual = moved.chunk([{ row: 0, tokenIds: prompt.slice(40) }]);
        await written;
        expect((await actual).outputs.logits).toEqual((await expected).outputs.logits);
        expect((await bytes).byteLength).toBe(3 * computed.cache.blockBytes.reduce((sum, size) => sum + size, 0));
      },
    );

    test('blocks that there are not, and bytes that are not theirs, are refused', async () => {
      const { cache } = await (await decoder(backend)).start();
      await expect(backend.readBlocks(cache, Int32Array.of(0, 64))).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
      await expect(backend.readBlocks(cache, Int32Array.of(5, 0))).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
      await expect(backend.writeBlocks(cache, Int32Array.of(0, 1), new Uint8Array(5))).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
    });

    test('a plan cut in two programs gives the logits and tokens of the whole bit for bit, in one step', async () => {
      const plans: Plan[] = [decoderPlan(), bodyPlan(), headPlan()];
      const source = randomSource(plans);
      const [whole, body, head] = await Promise.all(plans.map((plan) => backend.compile(plan, source, limits)));
      const rows = new TestRows(plans[0].cacheGroups);
      const batch = rows.batch([{ row: 0, tokenIds: prompt, logits: 'all' }]);
      const caches = [await backend.createCache(rows.spec), await backend.createCache(rows.spec)];
      const more = { sampling: greedy(prompt.length), readOutputs: ['logits'] };
      const expected = await backend.execute({ entries: [{ program: whole, cache: caches[0], batch }], ...more, readOutputs: ['logits', 'hidden'] });
      const split = await backend.execute({
        entries: [
          { program: body, cache: caches[1], batch },
          { program: head, cache: null, batch, embeddings: { entry: 0, output: 'hidden' } },
        ],
        ...more,
      });
      expect(split.outputs.logits).toEqual(expected.outputs.logits);
      expect(split.tokenIds).toEqual(expected.tokenIds);
      const fromHost = await backend.execute({ entries: [{ program: head, cache: null, batch, embeddings: expected.outputs.hidden }], ...more });
      expect(fromHost.outputs.logits).toEqual(expected.outputs.logits);
    });

    test('a negative token id stands for the token that the previous step sampled', async () => {
      const { start } = await decoder(backend);
      const chunks = [0, 1].map((row) => ({ row, tokenIds: prompt.slice(row, 9) }));
      const named = await start();
      const first = await named.chunk(chunks, { sampling: greedy(2) });
      const byName = await named.chunk([{ row: 0, tokenIds: [-2] }]);
      const given = await start();
      await given.chunk(chunks);
      const byId = await given.chunk([{ row: 0, tokenIds: [first.tokenIds[1]] }]);
      expect(byName.outputs.logits).toEqual(byId.outputs.logits);
    });

    test('the host stage changes logits and masks tokens before sampling', async () => {
      const { chunk } = await (await decoder(backend)).start();
      const run = async (process: HostStage['process'], needsLogits: boolean) =>
        chunk([{ row: 0, tokenIds: [5] }], { sampling: greedy(1), host: { needsLogits, deadlineMs: 10_000, process } });
      const prefer42: HostStage['process'] = async (logits) => {
        logits!.fill(0)[42] = 1;
        return null;
      };
      expect((await run(prefer42, true)).tokenIds[0]).toBe(42);
      const mask = new Uint32Array(4);
      mask[2] = 1 << 3; // id 67
      expect((await run(async () => mask, false)).tokenIds[0]).toBe(67);
      const failing = run(() => Promise.reject(new Error('grammar')), false);
      await expect(failing).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
      expect((await run(async () => null, false)).corrupted[0]).toBe(0);
    });

    test('draft tokens that name their ancestors give the logits of the linear computation bit for bit', async () => {
      const { start } = await decoder(backend, { window: 20 });
      const context = prompt.slice(0, 30);
      const [a, b, c, d] = [11, 22, 33, 44]; // branches a-b-c and a-d; batch order a, b, d, c
      const linear = async (ids: number[]) => (await (await start()).chunk([{ row: 0, tokenIds: [...context, ...ids] }])).outputs.logits;
      const { rows, run, chunk } = await start();
      await chunk([{ row: 0, tokenIds: context }]);
      const plain = rows.batch([{ row: 0, tokenIds: [a, b, d, c], logits: 'all' }]);
      const [atA, atB, atD, atC] = plain.slotMapping;
      const slots = [atA, atA, atB, atA, atD, atA, atB, atC];
      const { outputs } = await run({
        ...plain,
        positions: Int32Array.of(30, 31, 31, 32),
        cacheIndex: Int32Array.of(30, 31, 31, 32),
        visibleEnd: new Int32Array(4).fill(30),
        ancestors: { start: Int32Array.of(0, 1, 3, 5, 8), slots: Int32Array.from([...slots, ...slots]) },
      });
      const row = (i: number) => outputs.logits.slice(VOCAB * i, VOCAB * (i + 1));
      expect(row(0)).toEqual(await linear([a]));
      expect(row(1)).toEqual(await linear([a, b]));
      expect(row(2)).toEqual(await linear([a, d]));
      expect(row(3)).toEqual(await linear([a, b, c]));
    });

    test('blocks are copied before a step runs', async () => {
      const { start } = await decoder(backend);
      const { rows, chunk, run } = await start();
      await chunk([{ row: 0, tokenIds: prompt.slice(0, 20) }]);
      const next = await chunk([{ row: 0, tokenIds: [3] }]);
      const twin = new TestRows(rows.spec.groups);
      twin.lengths[1] = 20;
      twin.blocks[1] = [rows.blocks[0][0], 60]; // the first block is shared, the second copied
      const batch = { ...twin.batch([{ row: 1, tokenIds: [3] }]), copies: Int32Array.of(0, rows.blocks[0][1], 60, 4), numCopies: 1 };
      expect((await run(batch)).outputs.logits).toEqual(next.outputs.logits);
    });

    test('arrays longer than their used part give the same', async () => {
      const { start } = await decoder(backend);
      const exact = await (await start()).chunk([{ row: 0, tokenIds: prompt.slice(0, 5) }], { sampling: greedy(1) });
      const { rows, run } = await start();
      const batch = rows.batch([{ row: 0, tokenIds: prompt.slice(0, 5) }]);
      const grown = Object.fromEntries(
        Object.entries(batch).map(([key, value]) => [key, value instanceof Int32Array ? Int32Array.from([...value, -9, -9, 1 << 30]) : value]),
      ) as unknown as ForwardBatch;
      const long = await run(grown, { sampling: { ...greedy(4), numRows: 1 } });
      expect(long.outputs.logits).toEqual(exact.outputs.logits);
      expect(long.tokenIds).toEqual(exact.tokenIds);
    });

    test('a step that breaks a rule of the batch is refused and the next one runs', async () => {
      const { rows, run } = await (await decoder(backend)).start();
      const good = rows.batch([{ row: 0, tokenIds: [5, 6, 7] }]);
      for (const change of [
        { tokenIds: Int32Array.of(VOCAB, 1, 1) },
        { slotMapping: Int32Array.of(0, 1, 1 << 20) },
        { visibleEnd: Int32Array.of(1, 2, 999) },
        { blockTables: Int32Array.of(-1) },
        { logitTokens: Int32Array.of(3) },
        { numTokens: 999 },
      ]) {
        await expect(run({ ...good, ...change }), JSON.stringify(change)).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
      }
      await expect(run(good)).resolves.toBeDefined();
    });
  });
}
