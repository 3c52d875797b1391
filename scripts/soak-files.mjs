/**
 * Damages files of every kind that is read and reads them, in child processes under a bound of memory, for as long as is asked (default 60 minutes).
 *
 *   node scripts/soak-files.mjs [--minutes N] [--seed N]
 *
 * Each child lives for a minute at most; its seed, and the command that repeats a failed round, are printed.
 */
import { parseArgs } from 'node:util';
import { tsImport } from 'tsx/esm/api';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '60' }, seed: { type: 'string' } } });
const minutes = Number(values.minutes);
let seed = Number(values.seed ?? Date.now() % 1_000_000);
if (!(minutes > 0) || !Number.isInteger(seed)) {
  console.error('usage: node scripts/soak-files.mjs [--minutes N] [--seed N]');
  process.exit(2);
}
const { runFuzz } = await tsImport('../test/fuzz/run-fuzz.ts', import.meta.url);
const end = performance.now() + minutes * 60_000;
const sum = { rounds: 0, peakBytes: 0, codes: {}, targets: {}, failures: 0 };
for (; performance.now() < end; seed++) {
  try {
    const report = await runFuzz(seed, Math.min(60_000, Math.max(1000, end - performance.now())));
    sum.rounds += report.rounds;
    sum.peakBytes = Math.max(sum.peakBytes, report.peakBytes);
    for (const [code, count] of Object.entries(report.codes)) sum.codes[code] = (sum.codes[code] ?? 0) + count;
    for (const [name, { read, refused, slowestMs }] of Object.entries(report.counts)) {
      sum.targets[name] ??= { read: 0, refused: 0, slowestMs: 0 };
      const target = sum.targets[name];
      target.read += read;
      target.refused += refused;
      target.slowestMs = Math.max(target.slowestMs, slowestMs);
    }
    console.log(`seed ${seed}: ${report.rounds} rounds, ${report.peakBytes >> 20} MiB at most`);
  } catch (thrown) {
    sum.failures++;
    console.error(thrown.message);
  }
}
console.table(sum.targets);
console.log(JSON.stringify(sum.codes));
console.log(`${sum.rounds} rounds, at most ${sum.peakBytes >> 20} MiB resident, ${sum.failures} failures`);
process.exitCode = sum.failures === 0 ? 0 : 1;
