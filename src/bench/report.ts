/** Reports as text for people. */
import type { OfflineReport } from './offline.ts';
import type { ServeLoadReport } from './serve-load.ts';
import type { Distribution } from './statistics.ts';

/** Columns padded to the same width; `align` says `l` or `r` for each, the first left and the others right when absent. */
export function textTable(rows: readonly (readonly string[])[], align?: string): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const pad = (cell: string, i: number): string =>
    (align?.[i] ?? (i === 0 ? 'l' : 'r')) === 'l' ? cell.padEnd(widths[i]) : cell.padStart(widths[i]);
  return rows.map((row) => row.map(pad).join('  ').trimEnd()).join('\n');
}

const oneDecimal = (value: number): string => value.toFixed(1);

export function offlineText(report: OfflineReport): string {
  const rows = [['phase', 'batch', 'input', 'output', 'tokens/s', 'range', 'JS ms/step']];
  for (const result of report.results) {
    const rate = result.tokensPerSecond;
    rows.push([
      result.phase,
      String(result.batchSize),
      String(result.inputLen),
      String(result.outputLen),
      rate === null ? 'output too short' : oneDecimal(rate.median),
      rate === null ? '' : `${oneDecimal(rate.min)} to ${oneDecimal(rate.max)}`,
      result.hostMsPerStep === null ? '' : `${result.hostMsPerStep.median.toFixed(2)} (p99 ${result.hostMsPerStep.p99.toFixed(2)})`,
    ]);
  }
  return `${report.engine}, ${report.model}\n${textTable(rows)}`;
}

export function serveText(report: ServeLoadReport): string {
  const lines = [
    `${report.completed} requests completed, ${report.failed} failed, in ${(report.durationMs / 1000).toFixed(2)} s; at most ${report.peakConcurrency} at a time`,
    `${oneDecimal(report.requestsPerSecond)} requests/s, ${oneDecimal(report.outputTokensPerSecond)} output tokens/s, ${oneDecimal(report.totalTokensPerSecond)} tokens/s in all`,
  ];
  if (report.goodRequestsPerSecond !== null) lines.push(`goodput ${report.goodRequestsPerSecond.toFixed(2)} requests/s`);
  for (const error of report.errors) lines.push(`failed: ${error}`);
  const names = Object.keys(report.e2el?.percentiles ?? {});
  const row = (name: string, latency: Distribution | null): string[] => {
    if (latency === null) return [name, '', ...names.map(() => ''), ''];
    return [name, oneDecimal(latency.mean), ...names.map((key) => oneDecimal(latency.percentiles[key])), oneDecimal(latency.max)];
  };
  const table = [
    ['milliseconds', 'mean', ...names, 'max'],
    row('TTFT', report.ttft),
    row('TPOT', report.tpot),
    row('ITL', report.itl),
    row('E2E', report.e2el),
  ];
  return `${lines.join('\n')}\n\n${textTable(table)}`;
}
