/** Runs the fuzzer in a process of its own, under a bound of memory and of time without a round. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** Resident bytes of the process, at most: Node.js with the sources takes about 200 MB. */
export const MOST_RESIDENT_BYTES = 700 << 20;
/** A round that takes longer hangs. */
const SILENT_MS = 30_000;

export interface FuzzReport {
  readonly rounds: number;
  readonly peakBytes: number;
  readonly codes: Readonly<Record<string, number>>;
  readonly counts: Readonly<Record<string, { readonly read: number; readonly refused: number; readonly slowestMs: number }>>;
}

/** @throws naming the round when a file crashes, hangs or bloats the process */
export async function runFuzz(seed: number, milliseconds: number): Promise<FuzzReport> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-fuzz-round-'));
  const roundFile = join(folder, 'round');
  const script = resolve(import.meta.dirname, 'fuzz-child.ts');
  const child = spawn(process.execPath, ['--max-old-space-size=512', '--import', 'tsx', script, String(seed), String(milliseconds)], {
    env: { ...process.env, MILLRACE_FUZZ_ROUND: roundFile },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (bytes) => {
    stdout += bytes;
  });
  child.stderr.on('data', (bytes) => {
    stderr += bytes;
  });
  let problem = '';
  const watch = setInterval(() => {
    const { mtimeMs = Date.now() } = statSync(roundFile, { throwIfNoEntry: false }) ?? {};
    if (Date.now() - mtimeMs > SILENT_MS) problem = `no round ended for ${SILENT_MS / 1000} s`;
    if (residentBytes(child.pid) > MOST_RESIDENT_BYTES) problem = `more than ${MOST_RESIDENT_BYTES >> 20} MiB are resident`;
    if (problem !== '') child.kill('SIGKILL');
  }, 250);
  const code = await new Promise((resolve) => child.once('close', (status, signal) => resolve(status ?? signal)));
  clearInterval(watch);
  const report = code === 0 ? (JSON.parse(stdout) as FuzzReport) : null;
  if (report !== null && report.peakBytes > MOST_RESIDENT_BYTES) problem = `${report.peakBytes >> 20} MiB were resident at most`;
  const lastRound = readRound(roundFile);
  rmSync(folder, { recursive: true, force: true });
  if (report !== null && problem === '') return report;
  throw new Error(
    `seed ${seed}: ${problem || `the process ended with ${code}`}; the round can be run again: node --import tsx test/fuzz/fuzz-child.ts ${lastRound}\n${stderr.slice(-4000)}`,
  );
}

function readRound(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '(none began)';
  }
}

function residentBytes(pid: number | undefined): number {
  try {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0; // not Linux, or it has ended
  }
}
