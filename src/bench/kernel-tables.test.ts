import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { createNativeBackend } from '../backends/native/native-backend.ts';
import { activationFor } from '../models/activation.ts';
import { linearProgram } from './kernel-jobs.ts';
import { kernelLimitRows, kernelShareRows, kernelTimeRows, type RecordedKernels, readRecordedKernels } from './kernel-tables.ts';

const folder = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../docs/benchmarks/kernels');

const row = { op: 'linear', format: 'q8_0', kernel: 'k', activation: 'int8-group32', microseconds: 2, gbPerSecond: 3, gopPerSecond: 4 } as const;
const record: RecordedKernels = {
  file: 'a.json',
  date: '2026-01-02',
  machine: 'M, 2 cores',
  backend: { name: 'cpu', isa: 'avx2', numThreads: 2 },
  limits: { read: { median: 50, min: 40, max: 60 }, int8: 900, bf16: 0, f32: 200 },
  rows: [
    { ...row, rows: '1', share: 0.914, limit: 'memory' },
    { ...row, rows: '16', share: 0.5, limit: 'int8' },
    { ...row, format: 'f32', rows: '16', share: 1.2, limit: 'f32' },
    { ...row, op: 'rope', format: '', rows: '1', share: null, limit: null },
  ],
};

test('a record becomes a row of limits, shares by rows and times of the rest', () => {
  expect(kernelLimitRows([record]).at(-1)).toBe(
    '| [a.json](benchmarks/kernels/a.json) | 2026-01-02 | M, 2 cores, 2 threads | avx2 | 50.0 (40.0 to 60.0) | 900 | none | 200 |',
  );
  expect(kernelShareRows([record], ['linear'])).toEqual([
    '| op | format | variant | kernel | 1 | 16 |',
    '|---|---|---|---|---|---|',
    '| linear | q8_0 | avx2 | `k` | 91 % m | 50 % i |',
    '| linear | f32 | avx2 | `k` |  | 120 % f |',
  ]);
  expect(kernelTimeRows([record], ['linear']).slice(2)).toEqual(['| rope | avx2 | 1 | 2.0 | 3.0 |']);
});

test('what docs/kernels.md records for this instruction set are the kernels that run today (else: bench kernels --save, then check-docs --write)', async () => {
  const backend = await createNativeBackend();
  try {
    for (const { backend: recorded, rows } of readRecordedKernels(folder)) {
      if (recorded.isa !== backend.info.isa) continue;
      const kernels = new Map(rows.filter(({ op }) => op === 'linear').map((each) => [each.format, each.kernel]));
      for (const [format, kernel] of kernels) {
        const name = format as Parameters<typeof linearProgram>[0];
        const { plan } = linearProgram(name, activationFor(name, 256, 'auto', 'auto'), { hidden: 256, inner: 256 }, 8, 1, [1]);
        const { kernels: now } = await backend.describe(plan, { maxTokens: 1, maxLogitRows: 1 });
        expect(now[0].kernel, format).toBe(kernel);
      }
    }
  } finally {
    await backend.close();
  }
});
