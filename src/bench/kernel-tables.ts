/** Tables of docs/kernels.md from recorded reports of `millrace bench kernels --save`. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { KernelReport, KernelRow } from './kernels.ts';

export interface RecordedKernels extends KernelReport {
  readonly file: string;
  readonly date: string;
  readonly machine: string;
}

/** The reports in a folder, by file name. */
export function readRecordedKernels(folder: string): RecordedKernels[] {
  if (!existsSync(folder)) return [];
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  return files.sort().map((file) => ({ ...(JSON.parse(readFileSync(path.join(folder, file), 'utf8')) as Omit<RecordedKernels, 'file'>), file }));
}

/** One row a record: when and where it was made, and what the machine allowed then. */
export function kernelLimitRows(records: readonly RecordedKernels[]): string[] {
  const rows = records.map(({ file, date, machine, backend, limits }) => {
    const { read } = limits;
    const gop = (value: number): string => (value === 0 ? 'none' : value.toFixed(0));
    return `| [${file}](benchmarks/kernels/${file}) | ${date} | ${machine}, ${backend.numThreads} threads | ${backend.isa} | ${read.median.toFixed(1)} (${read.min.toFixed(1)} to ${read.max.toFixed(1)}) | ${gop(limits.int8)} | ${gop(limits.bf16)} | ${gop(limits.f32)} |`;
  });
  return ['| record | date | machine | variant | memory GB/s (regions) | int8 GOP/s | bf16 | f32 |', '|---|---|---|---|---|---|---|---|', ...rows];
}

/** Ops whose weights or K and V count: one row a format and variant, shares of the nearer limit by rows. */
export function kernelShareRows(records: readonly RecordedKernels[], ops: readonly string[]): string[] {
  const rows = records.flatMap(({ backend, rows }) => rows.filter(({ op }) => ops.includes(op)).map((row) => ({ ...row, isa: backend.isa })));
  const columns = [...new Set(rows.map((row) => row.rows))];
  const lines = new Map<string, Map<string, string>>();
  for (const row of rows) {
    const key = `${row.op} | ${row.format} | ${row.isa} | \`${row.kernel}\``;
    const cells = lines.get(key) ?? new Map<string, string>();
    cells.set(row.rows, shareText(row));
    lines.set(key, cells);
  }
  const body = [...lines].map(([key, cells]) => `| ${[key, ...columns.map((column) => cells.get(column) ?? '')].join(' | ')} |`);
  return [`| op | format | variant | kernel | ${columns.join(' | ')} |`, `|${'---|'.repeat(columns.length + 4)}`, ...body];
}

const letters = { memory: 'm', int8: 'i', bf16: 'b', f32: 'f' } as const;

function shareText({ share, limit }: KernelRow): string {
  return share === null || limit === null ? '' : `${(100 * share).toFixed(0)} % ${letters[limit]}`;
}

/** The rest: microseconds of one node. */
export function kernelTimeRows(records: readonly RecordedKernels[], ops: readonly string[]): string[] {
  const rows = records.flatMap(({ backend, rows }) => rows.filter(({ op }) => !ops.includes(op)).map((row) => ({ ...row, isa: backend.isa })));
  const body = rows.map(({ op, isa, rows: count, microseconds, gbPerSecond }) => {
    const rate = gbPerSecond === 0 ? '' : gbPerSecond.toFixed(1);
    return `| ${op} | ${isa} | ${count} | ${microseconds.toFixed(1)} | ${rate} |`;
  });
  return ['| op | variant | rows | us | GB/s |', '|---|---|---|---|---|', ...body];
}

/** All tables by name, as scripts/check-docs.mjs writes them. */
export function kernelTables(folder: string): Record<string, string[]> {
  const records = readRecordedKernels(folder);
  return {
    'kernel-limits': kernelLimitRows(records),
    'kernel-linear': kernelShareRows(records, ['linear', 'expert-linear']),
    'kernel-attention': kernelShareRows(records, ['attention']),
    'kernel-times': kernelTimeRows(records, ['linear', 'expert-linear', 'attention']),
  };
}
