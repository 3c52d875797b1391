import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend, HostStage, StepResult } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { SamplingBatch } from '../../src/sampling/sampling-batch.ts';
import { plainShaping, shapingFields } from '../../src/sampling/shaping.ts';
import { singleOpPlan } from '../fixtures/decoder.ts';
import { greedy } from '../fixtures/rows.ts';
import { normals } from '../fixtures/weights.ts';
import { candidates, emulatedGpu } from './backends.ts';
import { compile, plainBatch } from './single-op.ts';

/** The logits are the embeddings that come in, so every backend samples from the same numbers. */
function passThrough(vocabSize: number) {
  return singleOpPlan(vocabSize, { format: 'f32', activation: 'f32' }, (builder, input, value) => {
    const logits = value('logits', vocabSize, 'logits');
    builder.emit('select-rows', 'select', { inputs: [input], outputs: [logits], attrs: {} });
    return { logits };
  });
}

const numRows = 48;
const pick = <T>(values: readonly T[], row: number, stride: number) => values[Math.floor(row / stride) % values.length];

/** Every way of shaping a distribution, alone and together. */
function shapingOf(row: number): number[] {
  const shaping = {
    ...plainShaping,
    typicalP: pick([1, 1, 0.5, 0.95], row, 1),
    topNSigma: pick([0, 1.5, 0, 0.3], row, 2),
    xtcThreshold: pick([0.1, 0.01, 0.4], row, 1),
    xtcProbability: pick([0, 1, 0.5], row, 3),
    dynatempRange: pick([0, 0.5, 2], row, 2),
    dynatempExponent: pick([1, 0.5, 2], row, 5),
    mirostatMode: pick([0, 0, 0, 0, 2], row, 1),
    mirostatMu: pick([10, 3, 0.1], row, 5),
  };
  return shapingFields.map((field) => shaping[field]);
}

/** Every row another mixture of parameters. */
function mixture(vocabSize: number, step: number): SamplingBatch {
  const rows = Array.from({ length: numRows }, (_, row) => row);
  const history = rows.map((row) =>
    row % 3 === 0 ? [] : Array.from({ length: 9 + row }, (_, i) => (i * i * 7 + row) % (i % 4 === 0 ? 5 : vocabSize)),
  );
  const bias = rows.map((row) => (row % 4 === 0 ? [] : Array.from({ length: row % 7 }, (_, i) => (i * 31 + row) % vocabSize)));
  const starts = (lists: number[][]) => Int32Array.from([0, ...lists.map((_, i) => lists.slice(0, i + 1).flat().length)]);
  return greedy(numRows, {
    temperature: Float32Array.from(rows, (row) => pick([0, 1, 0.7, 1.9, 1e-3], row, 1)),
    topK: Int32Array.from(rows, (row) => pick([0, 1, 5, 40, 1 << 20], row, 2)),
    topP: Float32Array.from(rows, (row) => pick([1, 0.9, 0.5, 0, 0.999], row, 3)),
    minP: Float32Array.from(rows, (row) => pick([0, 0.05, 0, 0.5, 1], row, 5)),
    repetitionPenalty: Float32Array.from(rows, (row) => pick([1, 1.3, 0.8], row, 1)),
    presencePenalty: Float32Array.from(rows, (row) => pick([0, 0.5, -1], row, 2)),
    frequencyPenalty: Float32Array.from(rows, (row) => pick([0, 0.25, 1.1], row, 1)),
    seed: Uint32Array.from({ length: 2 * numRows }, (_, i) => Math.imul(i + 1, 0x9e3779b9) + step),
    choice: Uint32Array.from(rows, (row) => row % 3),
    position: Uint32Array.from(rows, (row) => row * 100 + step),
    numLogprobs: Int32Array.from(rows, (row) => pick([-1, 0, 5, 20], row, 1)),
    historyIds: Int32Array.from(history.flat()),
    historyStart: starts(history),
    historyPrompt: Int32Array.from(history, (ids) => Math.floor(ids.length / 2)),
    biasIds: Int32Array.from(bias.flat()),
    biasValues: Float32Array.from(bias.flat(), (_, i) => (i % 5 === 0 ? -Infinity : (i % 9) - 4)),
    biasStart: starts(bias),
    shaping: step < 2 ? new Float32Array(0) : Float32Array.from(rows.flatMap((row) => shapingOf(row + step))),
    wantedIds: Int32Array.from(rows.filter((row) => row % 3 === 0)),
    wantedStart: Int32Array.from({ length: numRows + 1 }, (_, row) => Math.ceil(row / 3)),
  });
}

/** Rows of several shapes: bell, flat, peaked, with ties, infinities, a NaN, nothing allowed. */
function logitsOf(vocabSize: number, step: number): Float32Array {
  const logits = normals(100 + step, numRows * vocabSize, 3);
  for (let row = 0; row < numRows; row++) {
    const values = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    if (row % 6 === 1) for (let i = 0; i < values.length; i++) values[i] *= 1e-3;
    if (row % 6 === 2) values[(row * 7) % vocabSize] = 30;
    if (row % 6 === 3) for (let i = 0; i < values.length; i++) values[i] = Math.round(values[i]);
    if (row % 6 === 4) for (let i = row % 2; i < values.length; i += 2) values[i] = -Infinity;
  }
  logits[40 * vocabSize + 3] = Infinity;
  logits[40 * vocabSize + 5] = Infinity;
  logits[41 * vocabSize + 1] = NaN;
  logits.fill(-Infinity, 42 * vocabSize, 43 * vocabSize);
  logits.fill(0, 43 * vocabSize, 44 * vocabSize);
  return logits;
}

const timeless = (result: StepResult) => ({ ...result, forwardMs: 0, sampleMs: 0 });

for (const { name, open } of [...(await candidates()), await emulatedGpu()]) {
  describe(name, () => {
    let backend: Backend;
    const reference = new ReferenceBackend();
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each([7, 100, 1500, 5000])('sampling from %i logits gives the reference’s tokens and log probabilities bit for bit', async (vocabSize) => {
      const plan = passThrough(vocabSize);
      const [a, b] = await Promise.all([backend, reference].map((x) => compile(x, plan, numRows)));
      const words = Math.ceil(vocabSize / 32);
      const masks = Uint32Array.from({ length: numRows * words }, (_, i) => (i % 3 === 0 ? 0xffffffff : Math.imul(i, 0x85ebca6b) | 1));
      for (let step = 0; step < 6; step++) {
        const host: HostStage = { needsLogits: false, deadlineMs: 10_000, process: async () => masks };
        const common = { sampling: mixture(vocabSize, step), readOutputs: [], ...(step % 2 === 1 ? { host } : {}) };
        const entry = { cache: null, batch: plainBatch(numRows), embeddings: logitsOf(vocabSize, step) };
        const actual = await backend.execute({ ...common, entries: [{ ...entry, program: a.program }] });
        const expected = await reference.execute({ ...common, entries: [{ ...entry, program: b.program }] });
        expect(timeless(actual)).toEqual(timeless(expected));
      }
    });
  });
}
