import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { greedy } from '../../../test/fixtures/rows.ts';
import { normals } from '../../../test/fixtures/weights.ts';
import { Sampler } from '../../sampling/sampler.ts';
import type { SamplingBatch } from '../../sampling/sampling-batch.ts';
import { plainShaping, shapingFields } from '../../sampling/shaping.ts';
import { loadAddon } from './load-addon.ts';

const addon = await loadAddon().catch(() => null);
const device = addon?.createDevice('', 2).device;
afterAll(() => {
  if (addon !== null && device !== undefined) addon.closeHandle(device);
});

async function sampleNatively(logits: Float32Array, vocabSize: number, batch: SamplingBatch, masks: Uint32Array | null) {
  if (addon === null || device === undefined) throw new Error('skipped');
  const { sampleMs, ...sampled } = await addon.sample(device, { logits, vocabSize, batch, masks, program: null, output: 0 });
  expect(sampleMs).toBeGreaterThanOrEqual(0);
  return sampled;
}

/** One row of parameters, most of them odd on purpose. */
const rowArbitrary = fc.record({
  temperature: fc.oneof(fc.constant(0), fc.constantFrom(1, 0.7, 1e-3, 100), fc.float({ min: Math.fround(0.01), max: 5, noNaN: true })),
  topP: fc.oneof(fc.constant(1), fc.float({ min: 0, max: 1, noNaN: true })),
  topK: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 60 }), fc.constant(1 << 30)),
  minP: fc.oneof(fc.constant(0), fc.float({ min: 0, max: 1, noNaN: true })),
  repetition: fc.constantFrom(1, 1.2, 0.5),
  presence: fc.constantFrom(0, 0.7, -2),
  frequency: fc.constantFrom(0, 0.3, -1),
  seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  position: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  numLogprobs: fc.constantFrom(-1, 0, 1, 20),
  history: fc.array(fc.integer({ min: -2, max: 3000 }), { maxLength: 12 }),
  bias: fc.array(fc.tuple(fc.integer({ min: -2, max: 3000 }), fc.constantFrom(-Infinity, -3.5, 0.1, 100)), { maxLength: 6 }),
  shaping: fc.record({
    typicalP: fc.constantFrom(1, 1, 0.2, 0.95),
    topNSigma: fc.constantFrom(0, 0, 0.5, 1.5, 3),
    xtcThreshold: fc.constantFrom(0, 0.01, 0.1, 0.5),
    xtcProbability: fc.constantFrom(0, 0, 0.5, 1),
    dynatempRange: fc.constantFrom(0, 0, 0.5, 3),
    dynatempExponent: fc.constantFrom(1, 0.4, 3),
    mirostatMode: fc.constantFrom(0, 0, 0, 2),
    mirostatMu: fc.constantFrom(10, 4, 0.5, -1),
    mirostatTau: fc.constantFrom(5, 2),
    mirostatEta: fc.constantFrom(0.1, 0.7),
  }),
  wanted: fc.array(fc.integer({ min: -2, max: 3000 }), { maxLength: 4 }),
  spread: fc.constantFrom(0, 1e-3, 1, 8, 200),
  odd: fc.constantFrom('none', 'none', 'none', 'ties', 'nan', 'infinite', 'forbidden', 'zeros', 'peaked'),
});
type Row = typeof rowArbitrary extends fc.Arbitrary<infer T> ? T : never;

function batchOf(rows: Row[]): SamplingBatch {
  const starts = (lists: unknown[][]) => Int32Array.from([0, ...lists.map((_, i) => lists.slice(0, i + 1).flat(1).length)]);
  const bias = rows.map((row) => row.bias.map(([id, value]) => ({ id, value })));
  return greedy(rows.length, {
    temperature: Float32Array.from(rows, (r) => r.temperature),
    topP: Float32Array.from(rows, (r) => r.topP),
    topK: Int32Array.from(rows, (r) => r.topK),
    minP: Float32Array.from(rows, (r) => r.minP),
    repetitionPenalty: Float32Array.from(rows, (r) => r.repetition),
    presencePenalty: Float32Array.from(rows, (r) => r.presence),
    frequencyPenalty: Float32Array.from(rows, (r) => r.frequency),
    seed: Uint32Array.from(rows.flatMap((r) => [r.seed, r.seed ^ 0x5555])),
    choice: Uint32Array.from(rows, (_, i) => i % 3),
    position: Uint32Array.from(rows, (r) => r.position),
    numLogprobs: Int32Array.from(rows, (r) => r.numLogprobs),
    historyIds: Int32Array.from(rows.flatMap((r) => r.history)),
    historyStart: starts(rows.map((r) => r.history)),
    historyPrompt: Int32Array.from(rows, (r) => Math.floor(r.history.length / 2)),
    biasIds: Int32Array.from(bias.flat(), ({ id }) => id),
    biasValues: Float32Array.from(bias.flat(), ({ value }) => value),
    biasStart: starts(bias),
    shaping: Float32Array.from(rows.flatMap((r) => shapingFields.map((field) => ({ ...plainShaping, ...r.shaping })[field]))),
    wantedIds: Int32Array.from(rows.flatMap((r) => r.wanted)),
    wantedStart: starts(rows.map((r) => r.wanted)),
  });
}

function logitsOf(rows: Row[], vocabSize: number, seed: number): Float32Array {
  const logits = normals(seed, rows.length * vocabSize);
  rows.forEach(({ spread, odd }, row) => {
    const values = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    for (let i = 0; i < vocabSize; i++) {
      values[i] *= spread;
      if (odd === 'ties') values[i] = Math.round(values[i]);
      if (odd === 'zeros') values[i] = i % 2 === 0 ? -0 : 0;
      if (odd === 'peaked' && i % 83 === 7 && i < 2500) values[i] = 300 - i / 83;
      if (odd === 'forbidden' && i % 7 !== 3) values[i] = -Infinity;
    }
    if (odd === 'nan') values[vocabSize >> 1] = NaN;
    if (odd === 'infinite') values[vocabSize >> 2] = Infinity;
  });
  return logits;
}

/** Rows that allow all, one id, few and scattered ids, most of them, whole stretches, and nothing. */
function masksOf(numRows: number, vocabSize: number): Uint32Array {
  const words = Math.ceil(vocabSize / 32);
  const wordOf = [
    () => -1,
    (i: number) => (i === words >> 1 ? 4 : 0),
    (i: number) => (i % 37 === 5 ? 0x10001 : 0),
    (i: number) => (i % 9 === 0 ? 0xfffdfff7 : -1),
    (i: number) => (i % 64 < 20 ? -1 : 0),
    () => 0,
  ];
  return Uint32Array.from({ length: numRows * words }, (_, i) => wordOf[Math.floor(i / words) % wordOf.length](i % words));
}

describe.skipIf(addon === null)('the native sampler', () => {
  test('gives the tokens, log probabilities and alternatives of the TypeScript one bit for bit', { timeout: 120_000 }, async () => {
    const given = fc.tuple(
      fc.array(rowArbitrary, { minLength: 1, maxLength: 6 }),
      fc.constantFrom(1, 2, 15, 16, 17, 63, 64, 65, 500, 1024, 1025, 2500),
      fc.nat(1e6),
      fc.boolean(),
    );
    const property = fc.asyncProperty(given, async ([rows, vocabSize, seed, masked]) => {
      const batch = batchOf(rows);
      const logits = logitsOf(rows, vocabSize, seed);
      const words = Math.ceil(vocabSize / 32);
      // words that allow nothing, everything, few and many
      const wordOf = (i: number) => [0, -1, 1 << (i & 31), Math.imul(i + seed, 0x9e3779b1)][(i * 7 + seed) & 3];
      const masks = masked ? Uint32Array.from({ length: rows.length * words }, (_, i) => wordOf(i)) : null;
      expect(await sampleNatively(logits, vocabSize, batch, masks)).toEqual(new Sampler(vocabSize).sample(logits, batch, masks));
    });
    await fc.assert(property, { numRuns: 300 });
  });

  test('does so for a vocabulary of 151936', async () => {
    const vocabSize = 151_936;
    const rows = fc.sample(rowArbitrary, { numRuns: 12, seed: 3 });
    const logits = logitsOf(rows, vocabSize, 5);
    const batch = batchOf(rows);
    expect(await sampleNatively(logits, vocabSize, batch, null)).toEqual(new Sampler(vocabSize).sample(logits, batch, null));
    const masks = masksOf(rows.length, vocabSize);
    expect(await sampleNatively(logits, vocabSize, batch, masks)).toEqual(new Sampler(vocabSize).sample(logits, batch, masks));
  });

  test('gives the same bits on every instruction-set class', { timeout: 300_000 }, async () => {
    const rows = fc.sample(rowArbitrary, { numRuns: 40, seed: 11 });
    const logits = logitsOf(rows, 3000, 9);
    const batch = batchOf(rows);
    const masks = masksOf(rows.length, 3000);
    const expected = new Sampler(3000).sample(logits, batch, null);
    const expectedMasked = new Sampler(3000).sample(logits, batch, masks);
    // those with dot products of their own are the others in all but linear layers
    for (const isa of addon?.cpuFeatures().runs.filter((isa) => isa !== 'avxvnni' && isa !== 'neon_dotprod') ?? []) {
      const other = await loadAddon({ isas: [isa] });
      const created = other.createDevice(isa, 1);
      const given = { logits, vocabSize: 3000, batch, program: null, output: 0 };
      const { sampleMs, ...sampled } = await other.sample(created.device, { ...given, masks: null });
      expect(sampled).toEqual(expected);
      expect(await other.sample(created.device, { ...given, masks })).toMatchObject(expectedMasked);
      expect(sampleMs).toBeGreaterThanOrEqual(0);
      other.closeHandle(created.device);
    }
  });

  test('refuses columns that contradict themselves and goes on', async () => {
    const logits = new Float32Array(20);
    const bad: Partial<SamplingBatch>[] = [
      { historyStart: Int32Array.of(0, 5) },
      { biasStart: Int32Array.of(0, -1) },
      { wantedStart: Int32Array.of(0, 3) },
      { shaping: new Float32Array(3) },
      { historyPrompt: Int32Array.of(3) },
      { temperature: Float32Array.of(NaN) },
      { numLogprobs: Int32Array.of(1 << 30) },
    ];
    for (const columns of bad)
      await expect(sampleNatively(logits, 20, greedy(1, columns), null)).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
    await expect(sampleNatively(logits, 20, greedy(1), new Uint32Array(0))).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
    expect((await sampleNatively(logits, 20, greedy(1), null)).tokenIds).toEqual(Int32Array.of(0));
  });
});
