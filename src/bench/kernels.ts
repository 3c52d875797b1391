/**
 * Each op of the backend that serves, timed through plans of that op alone, beside what memory and arithmetic of this machine allow, measured in the same
 * process with the same threads. The share of the roofline (Williams, Waterman, Patterson 2009) is the least time that either limit allows, over the time taken.
 */
import type { Backend, BackendInfo, Cache } from '../backends/backend.ts';
import type { Plan } from '../plan/plan.ts';
import type { WeightSource } from '../weights/weight-source.ts';
import type { KernelProgram, KernelRun, PeakKind } from './kernel-jobs.ts';
import { textTable } from './report.ts';
import { percentile, type Spread, spread } from './statistics.ts';

/** GB/s and GOP/s, all threads together. */
export interface KernelLimits extends Readonly<Record<PeakKind, number>> {
  /** Over regions of memory: on some machines they differ. */
  readonly read: Spread;
}

export interface KernelRow {
  readonly op: string;
  readonly format: string;
  /** Name of the code that ran. */
  readonly kernel: string;
  readonly activation: string | null;
  readonly rows: string;
  /** Of one node. */
  readonly microseconds: number;
  readonly gbPerSecond: number;
  readonly gopPerSecond: number;
  /** Of the nearer limit, 0 to 1 (above 1 what comes from caches); null for ops without multiply-adds. */
  readonly share: number | null;
  readonly limit: 'memory' | PeakKind | null;
}

export interface KernelReport {
  readonly backend: Pick<BackendInfo, 'name' | 'isa' | 'numThreads'>;
  readonly limits: KernelLimits;
  readonly rows: readonly KernelRow[];
}

export interface KernelBenchHost {
  readonly backend: Backend;
  /** Random weights for a plan. */
  weightsFor(plan: Plan): WeightSource;
  /** Measured anew before, between and after the ops; the median of memory counts. */
  measureLimits(): Promise<{ readonly readBytesPerSecond: Iterable<number> } & Readonly<Record<PeakKind, number>>>;
  onProgress?(done: number, total: number): void;
}

/** Least milliseconds and runs that a median is made of. */
const LEAST_MS = 150;
const LEAST_RUNS = 3;
const MOST_RUNS = 200;

export async function benchKernels(programs: readonly KernelProgram[], host: KernelBenchHost): Promise<KernelReport> {
  const { backend } = host;
  const rows: (Omit<KernelRow, 'share' | 'limit'> & { readonly peak: PeakKind | null })[] = [];
  const reads: number[] = [];
  const peaks: Record<PeakKind, number> = { int8: 0, bf16: 0, f32: 0 };
  const measure = async (): Promise<void> => {
    const limits = await host.measureLimits();
    for (const rate of limits.readBytesPerSecond) reads.push(rate / 1e9);
    for (const kind of ['int8', 'bf16', 'f32'] as const) peaks[kind] = Math.max(peaks[kind], limits[kind] / 1e9);
  };
  await measure();
  for (const [i, program] of programs.entries()) {
    rows.push(...(await runProgram(program, host)));
    host.onProgress?.(i + 1, programs.length);
    if (i + 1 === programs.length || i + 1 === programs.length >> 1) await measure();
  }
  const { name, isa, numThreads } = backend.info;
  const limits: KernelLimits = { ...peaks, read: spread(reads) ?? { median: Number.NaN, min: Number.NaN, max: Number.NaN } };
  return { backend: { name, isa, numThreads }, limits, rows: rows.map(({ peak, ...row }) => ({ ...row, ...shareOf(row, peak, limits) })) };
}

function shareOf(
  row: Pick<KernelRow, 'gbPerSecond' | 'gopPerSecond'>,
  peak: PeakKind | null,
  limits: KernelLimits,
): Pick<KernelRow, 'share' | 'limit'> {
  if (peak === null) return { share: null, limit: null };
  // a set without bf16 dot products multiplies in f32, one without int8 ones too
  const kind = limits[peak] > 0 ? peak : 'f32';
  const [memory, arithmetic] = [row.gbPerSecond / limits.read.median, row.gopPerSecond / limits[kind]];
  return memory > arithmetic ? { share: memory, limit: 'memory' } : { share: arithmetic, limit: kind };
}

async function runProgram(described: KernelProgram, { backend, weightsFor }: KernelBenchHost) {
  const { plan, maxTokens, op } = described;
  const weights = weightsFor(plan);
  const program = await backend.compile(plan, weights, { maxTokens, maxLogitRows: maxTokens });
  const cache = described.cache === null ? null : await backend.createCache(described.cache);
  try {
    if (cache !== null) await fillCache(backend, cache);
    const kernel = program.kernels.find((each) => each.op === op)?.kernel ?? '';
    const rows = [];
    for (const run of described.runs) {
      const input = new Float32Array(run.batch.numTokens * plan.values[plan.input.value].width);
      run.fill?.(input);
      const { batch, sampling = null } = run;
      const milliseconds = await timeOf(async () => {
        const result = await backend.execute({ entries: [{ program, cache, batch, embeddings: input }], sampling });
        return sampling === null ? result.forwardMs : result.sampleMs / sampling.numRows;
      });
      rows.push(rowOf(described, run, kernel, program.weightBytes, milliseconds));
    }
    return rows;
  } finally {
    cache?.close();
    program.close();
  }
}

function rowOf(
  { op, label = op, format, count, peak, activation }: KernelProgram,
  run: KernelRun,
  kernel: string,
  weightBytes: number,
  milliseconds: number,
) {
  const seconds = milliseconds / 1000 / count;
  return {
    op: label,
    format,
    kernel: label === op ? kernel : '',
    activation,
    rows: run.rows,
    peak,
    microseconds: seconds * 1e6,
    gbPerSecond: ((weightBytes / count) * run.weightShare + (run.weightShare > 0 ? 0 : run.bytes)) / seconds / 1e9,
    gopPerSecond: run.operations / seconds / 1e9,
  };
}

/** Median of at least a few runs, after one that does not count. */
async function timeOf(run: () => Promise<number>): Promise<number> {
  await run();
  const times: number[] = [];
  let sum = 0;
  while (times.length < MOST_RUNS && (times.length < LEAST_RUNS || sum < LEAST_MS)) {
    const time = await run();
    times.push(time);
    sum += time;
  }
  return percentile(times, 50);
}

/** Small numbers in every format of K and V: memory that nobody has written is one page of zeros, which would stay in a cache. */
async function fillCache(backend: Backend, cache: Cache): Promise<void> {
  for (let block = 0; block < cache.spec.groups[0].numBlocks; block++) {
    await backend.writeBlocks(cache, Int32Array.of(0, block), new Uint8Array(cache.blockBytes[0]).fill(0x3c));
  }
}

export function kernelsText({ backend, limits, rows }: KernelReport): string {
  const { read } = limits;
  const gop = (value: number): string => (value === 0 ? 'none' : `${value.toFixed(0)} GOP/s`);
  const lines = [
    `${backend.name} ${backend.isa}, ${backend.numThreads} threads`,
    `limits measured in this run: memory ${read.median.toFixed(1)} GB/s (regions ${read.min.toFixed(1)} to ${read.max.toFixed(1)}), int8 ${gop(limits.int8)}, bf16 ${gop(limits.bf16)}, f32 ${gop(limits.f32)}`,
    '',
  ];
  const table = [['op', 'format', 'rows', 'us', 'GB/s', 'GOP/s', 'share', 'of', 'kernel']];
  for (const row of rows) {
    const share = row.share === null ? '' : `${(100 * row.share).toFixed(0)} %`;
    const gops = row.gopPerSecond === 0 ? '' : row.gopPerSecond.toFixed(0);
    table.push([
      row.op,
      row.format,
      row.rows,
      row.microseconds.toFixed(1),
      row.gbPerSecond === 0 ? '' : row.gbPerSecond.toFixed(1),
      gops,
      share,
      row.limit ?? '',
      row.kernel,
    ]);
  }
  return lines.join('\n') + textTable(table, 'llrrrrrll');
}
