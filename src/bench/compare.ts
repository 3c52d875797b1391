/**
 * Engines side by side: in each round a fresh process of each, one after the other, so that what changes on the machine meets all of them. Medians
 * and ranges over the rounds are shown, and ratios of medians of this run only.
 */
import { spawn } from 'node:child_process';
import { MillraceError } from '../base/errors.ts';
import type { OfflineResult } from './offline.ts';
import { type Spread, spread } from './statistics.ts';

/** What every engine is asked for. */
export interface ComparePhases {
  readonly threads: number;
  /** Prompt tokens of the prefill measurement, one row. */
  readonly inputLen: number;
  /** Rows that decode at once, one measurement each. */
  readonly batchSizes: readonly number[];
  /** Prompt tokens a row before these decode. */
  readonly decodeInputLen: number;
  /** Tokens generated a row. */
  readonly outputLen: number;
  /** Prompt lengths behind which one row decodes, measured once a process. */
  readonly depths: readonly number[];
  /** Measurements a process; its median counts. */
  readonly repetitions: number;
}

export interface ComparedEngine {
  readonly name: string;
  /** Whether it is ours: ratios are of ours to the others. */
  readonly isOurs: boolean;
  measure(phases: ComparePhases): Promise<readonly OfflineResult[]>;
}

/** Median and range over the rounds of one engine in one phase. */
export interface ComparedCell extends Spread {
  readonly rounds: readonly number[];
}

export interface CompareReport {
  readonly phases: ComparePhases;
  /** Names of the columns, in order. */
  readonly columns: readonly string[];
  readonly engines: readonly { readonly name: string; readonly isOurs: boolean; readonly cells: Readonly<Record<string, ComparedCell>> }[];
  /** Engines that did not finish a round, and why. */
  readonly failures: readonly string[];
}

export interface CompareHooks {
  onProgress?(text: string): void;
}

/** Column of a measurement. */
export function columnOf({ phase, batchSize, inputLen }: Pick<OfflineResult, 'phase' | 'batchSize' | 'inputLen'>, phases: ComparePhases): string {
  if (phase === 'prefill') return `prefill ${inputLen}`;
  return inputLen === phases.decodeInputLen ? `decode ${batchSize}` : `decode ${batchSize} at ${inputLen}`;
}

/** Runs all engines `rounds` times in turn. An engine that fails a round is named in `failures` and keeps its other rounds. */
export async function compareEngines(
  engines: readonly ComparedEngine[],
  phases: ComparePhases,
  rounds: number,
  hooks: CompareHooks = {},
): Promise<CompareReport> {
  const measured = engines.map(() => new Map<string, number[]>());
  const failures: string[] = [];
  const columns: string[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const [i, engine] of engines.entries()) {
      hooks.onProgress?.(`round ${round} of ${rounds}: ${engine.name}`);
      try {
        for (const result of await engine.measure(phases)) {
          const column = columnOf(result, phases);
          if (!columns.includes(column)) columns.push(column);
          if (result.tokensPerSecond === null) continue;
          measured[i].set(column, [...(measured[i].get(column) ?? []), result.tokensPerSecond.median]);
        }
      } catch (error) {
        failures.push(`${engine.name}, round ${round}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }
  return {
    phases,
    columns,
    engines: engines.map(({ name, isOurs }, i) => ({
      name,
      isOurs,
      cells: Object.fromEntries([...measured[i]].map(([column, rates]) => [column, cellOf(rates)])),
    })),
    failures,
  };
}

function cellOf(rounds: readonly number[]): ComparedCell {
  return { ...(spread(rounds) ?? { median: Number.NaN, min: Number.NaN, max: Number.NaN }), rounds };
}

/** Markdown: a table of tokens a second, and one of ratios of each engine of ours to each peer and to the best peer of each column. */
export function compareMarkdown(report: CompareReport): string {
  const { columns, engines } = report;
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const head = (title: string): string[] => [row([title, ...columns]), row(['---', ...columns.map(() => '---')])];
  const lines = head('tokens/s');
  for (const { name, cells } of engines) lines.push(row([name, ...columns.map((column) => cellText(cells[column]))]));
  const peers = engines.filter((engine) => !engine.isOurs);
  if (peers.length > 0) {
    lines.push('', ...head('ratio of medians'));
    const best = Object.fromEntries(
      columns.map((column) => [column, Math.max(...peers.map((peer) => peer.cells[column]?.median ?? Number.NaN).filter(Number.isFinite))]),
    );
    for (const ours of engines.filter((engine) => engine.isOurs)) {
      const ratio = (column: string, to: number | undefined): string => {
        const value = (ours.cells[column]?.median ?? Number.NaN) / (to ?? Number.NaN);
        return Number.isFinite(value) && value > 0 ? value.toFixed(2) : '';
      };
      for (const peer of peers)
        lines.push(row([`${ours.name} / ${peer.name}`, ...columns.map((column) => ratio(column, peer.cells[column]?.median))]));
      if (peers.length > 1) lines.push(row([`${ours.name} / best peer`, ...columns.map((column) => ratio(column, best[column]))]));
    }
  }
  for (const failure of report.failures) lines.push('', `Failed: ${failure}`);
  return lines.join('\n');
}

function cellText(cell: ComparedCell | undefined): string {
  if (cell === undefined) return '';
  const digits = cell.median < 100 ? 1 : 0;
  const shown = (value: number): string => value.toFixed(digits);
  return cell.rounds.length < 2 ? shown(cell.median) : `${shown(cell.median)} (${shown(cell.min)} to ${shown(cell.max)})`;
}

/** Processes that compute without end while `work` runs. */
export async function besideBusyProcesses<T>(count: number, work: () => Promise<T>): Promise<T> {
  const busy = Array.from({ length: count }, () => spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }));
  try {
    return await work();
  } finally {
    for (const child of busy) child.kill('SIGKILL');
  }
}

/** The same engine with `count` busy processes beside it. */
export function besideBusy(engine: ComparedEngine, count: number): ComparedEngine {
  return { ...engine, name: besideName(engine.name, count), measure: (phases) => besideBusyProcesses(count, () => engine.measure(phases)) };
}

export function besideName(name: string, count: number): string {
  return `${name}, ${count} busy beside`;
}

/** Markdown: what share of its throughput each engine keeps with the busy processes beside it. */
export function keptMarkdown({ columns, engines }: CompareReport, count: number): string {
  const lines = [`| share kept | ${columns.join(' | ')} |`, `|${' --- |'.repeat(columns.length + 1)}`];
  for (const { name, cells } of engines) {
    const beside = engines.find((each) => each.name === besideName(name, count));
    if (beside === undefined) continue;
    const kept = columns.map((column) => beside.cells[column]?.median / cells[column]?.median);
    lines.push(`| ${[name, ...kept.map((share) => (Number.isFinite(share) ? `${(100 * share).toFixed(0)} %` : ''))].join(' | ')} |`);
  }
  return lines.join('\n');
}

/** An engine behind a program that takes the flags of `millrace bench offline` and prints its JSON report. */
export function programEngine(name: string, command: readonly string[], isOurs = false): ComparedEngine {
  return {
    name,
    isOurs,
    measure: async (phases) => {
      const flags: [string, string | number][] = [
        ['threads', phases.threads],
        ['input-len', phases.inputLen],
        ['batch-size', phases.batchSizes.join(',')],
        ['decode-input-len', phases.decodeInputLen],
        ['output-len', phases.outputLen],
        ['repetitions', phases.repetitions],
        ...(phases.depths.length === 0 ? [] : [['depth', phases.depths.join(',')] as [string, string]]),
      ];
      const [program, ...given] = command;
      const { out } = await programOutput(program, [...given, ...flags.flatMap(([flag, value]) => [`--${flag}`, String(value)])], phases.threads);
      const report = JSON.parse(out.slice(out.indexOf('{'))) as { readonly results: readonly OfflineResult[] };
      return report.results;
    },
  };
}

/** What a program prints, on both streams. @throws MillraceError INTERNAL when it cannot be started or fails */
export function programOutput(program: string, args: readonly string[], threads: number): Promise<{ readonly out: string; readonly errors: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, OMP_NUM_THREADS: String(threads) }, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let errors = '';
    child.stdout.on('data', (bytes) => {
      out += bytes;
    });
    child.stderr.on('data', (bytes) => {
      errors = (errors + bytes).slice(-65_536);
    });
    const fail = (reason: string): void =>
      reject(
        new MillraceError('INTERNAL', { message: `${program} ${reason}.`, received: errors.trim().split('\n').slice(-3).join(' ').slice(0, 500) }),
      );
    child.on('error', (error) => fail(`could not be started (${error.message})`));
    child.on('close', (code, signal) => (code === 0 ? resolve({ out, errors }) : fail(`ended with ${signal ?? `exit code ${code}`}`)));
  });
}
