import { afterAll, beforeAll, expect, test } from 'vitest';
import { createNativeBackend, type NativeBackend } from '../backends/native/native-backend.ts';
import { createDummySource } from '../weights/dummy-source.ts';
import { attentionProgram, elementwiseProgram, expertProgram, linearProgram, tinyStepProgram } from './kernel-jobs.ts';
import { benchKernels, kernelsText } from './kernels.ts';
import { samplerModes, samplerProgram } from './sampler-jobs.ts';

let backend: NativeBackend;
beforeAll(async () => {
  backend = await createNativeBackend({ numThreads: 2 });
});
afterAll(() => backend?.close());

test('what the machine allows is measured in each region of memory that was asked for', async () => {
  const limits = await backend.measureLimits(2, 3);
  expect(limits.readBytesPerSecond).toHaveLength(3);
  expect(Math.min(...limits.readBytesPerSecond)).toBeGreaterThan(0);
  expect(limits.f32).toBeGreaterThan(0);
  for (const [megabytes, regions] of [
    [0, 1],
    [1, 0],
    [1, 65],
  ])
    await expect(backend.measureLimits(megabytes, regions)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});

test('each op is timed through the backend that serves, and its share is that of the nearer limit', async () => {
  const limits = { readBytesPerSecond: [2e9, 1e9, 3e9], int8: 4e9, bf16: 0, f32: 1e9 };
  const shape = { hidden: 64, inner: 128 };
  const programs = [
    linearProgram('q8_0', 'int8-group32', shape, 8.5, 40_000, [1, 4]),
    linearProgram('bf16', 'bf16', shape, 16, 40_000, [2]),
    elementwiseProgram('rms-norm', 64, [3]),
    elementwiseProgram('add-rms-norm', 64, [1]),
    elementwiseProgram('gated-activation', 64, [1]),
    elementwiseProgram('rope', 64, [1]),
    tinyStepProgram([2]),
    ...samplerModes.map((mode) => samplerProgram(mode, 500, [1, 3])),
  ];
  const done: number[] = [];
  const report = await benchKernels(programs, {
    backend,
    weightsFor: createDummySource,
    measureLimits: () => Promise.resolve(limits),
    onProgress: (count) => done.push(count),
  });
  expect(done).toEqual(programs.map((_, i) => i + 1));
  expect(report.limits).toEqual({ int8: 4, bf16: 0, f32: 1, read: { median: 2, min: 1, max: 3 } });
  const [one, four, bf16, norm] = report.rows;
  expect(one).toMatchObject({ op: 'linear', format: 'q8_0', rows: '1', activation: 'int8-group32', kernel: expect.stringContaining('q8_0') });
  // 64 x 128 weights of 34 bytes in 32, twice
  expect(one.gbPerSecond * one.microseconds * 1e3).toBeCloseTo((64 * 128 * 34) / 32, 3);
  expect(four.gopPerSecond).toBeCloseTo((2 * 4 * 64 * 128) / four.microseconds / 1e3, 6);
  const nearer = Math.max(four.gbPerSecond / 2, four.gopPerSecond / 4);
  expect(four.share).toBeCloseTo(nearer, 9);
  expect(four.limit).toBe(four.gbPerSecond / 2 > four.gopPerSecond / 4 ? 'memory' : 'int8');
  expect(bf16.limit).not.toBe('bf16'); // a set without such instructions multiplies in f32
  expect(norm).toMatchObject({ share: null, limit: null, format: '' });
  expect(report.rows.filter(({ op }) => op === 'sampler: top_k 50, top_p 0.9')).toMatchObject([{ rows: '1' }, { rows: '3', share: null }]);
  expect(report.rows.find(({ op }) => op === 'step of 24 tiny layers')).toMatchObject({
    op: 'step of 24 tiny layers',
    rows: '2',
    kernel: '',
    share: null,
  });
  expect(kernelsText(report)).toMatch(/bf16 none, f32 1 GOP\/s[\s\S]*linear +q8_0 +4 /);
});

test('attention reads K and V that have been written, and experts that are known beforehand', async () => {
  const limits = { readBytesPerSecond: [1e9], int8: 1e9, bf16: 1e9, f32: 1e9 };
  const programs = [attentionProgram('int8'), expertProgram('q4_0', 'int8-group32', [1, 16])];
  const report = await benchKernels(
    programs.map((program) => ({ ...program, runs: program.runs.slice(0, 2).filter((run) => run.rows !== '1 at 8192') })),
    { backend, weightsFor: createDummySource, measureLimits: () => Promise.resolve(limits) },
  );
  const [attention, one, sixteen] = report.rows;
  expect(attention).toMatchObject({ op: 'attention', format: 'int8', rows: '1 at 1024' });
  // 2 heads of 64 int8 and their scale, K and V
  expect((attention.gbPerSecond * attention.microseconds) / 1e-3).toBeCloseTo(1024 * 2 * 2 * 66, 0);
  // one row reads 8 of the 64 experts, 16 rows all of them
  const bytes = (row: typeof one) => row.gbPerSecond * row.microseconds;
  expect(bytes(sixteen) / bytes(one)).toBeCloseTo(8, 6);
}, 60_000);
