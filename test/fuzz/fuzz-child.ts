/**
 * Fuzzes the readers of files until a number of milliseconds has passed, or one round that a seed names:
 *
 *   node --import tsx test/fuzz/fuzz-child.ts SEED MILLISECONDS [TARGET]
 *   node --import tsx test/fuzz/fuzz-child.ts SEED 0 TARGET        # that round again
 *
 * A process of its own, so that a crash, a hang and memory can be seen from outside. The round under way is kept in the file MILLRACE_FUZZ_ROUND.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MillraceError } from '../../src/base/errors.ts';
import { randomNumbers } from './mutate.ts';
import { type FuzzTarget, targets } from './targets.ts';

const [seed, milliseconds, only] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
const roundFile = process.env.MILLRACE_FUZZ_ROUND;
const folder = mkdtempSync(join(tmpdir(), 'millrace-fuzz-'));
const counts: Record<string, { read: number; refused: number; slowestMs: number }> = {};
const codes: Record<string, number> = {};

/** Codes that blame nobody but us: a configuration must be refused before it becomes a plan that cannot be. */
const ours: ReadonlySet<string> = new Set(['INTERNAL', 'PLAN_INVALID']);

async function round(target: FuzzTarget, roundSeed: number): Promise<void> {
  const files = target.damage(target.files, randomNumbers(roundSeed));
  const path = join(folder, 'model');
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(path, name), bytes);
  counts[target.name] ??= { read: 0, refused: 0, slowestMs: 0 };
  const count = counts[target.name];
  const start = performance.now();
  try {
    await target.read(path);
    count.read++;
  } catch (thrown) {
    if (!(thrown instanceof MillraceError) || ours.has(thrown.code)) throw thrown;
    if (thrown.message.length > 3000) throw new Error(`the message has ${thrown.message.length} characters: ${thrown.message.slice(0, 200)}`);
    count.refused++;
    codes[thrown.code] = (codes[thrown.code] ?? 0) + 1;
  }
  count.slowestMs = Math.max(count.slowestMs, Math.round(performance.now() - start));
}

/** Targets by kind of file, so that the many configurations do not crowd out the rest. */
const kinds = new Map<string, FuzzTarget[]>();
for (const target of targets) {
  const kind = target.name.split(' of ')[0];
  if (only === undefined || target.name === only) kinds.set(kind, [...(kinds.get(kind) ?? []), target]);
}
const chosen = [...kinds.values()];
const pick = randomNumbers(seed);
const end = performance.now() + milliseconds;
let rounds = 0;
try {
  do {
    const kind = chosen[pick(chosen.length)];
    const target = kind[pick(kind.length)];
    const roundSeed = milliseconds === 0 ? seed : seed * 1_000_000 + rounds;
    if (roundFile !== undefined) writeFileSync(roundFile, `${roundSeed} 0 ${JSON.stringify(target.name)}`);
    try {
      await round(target, roundSeed);
    } catch (thrown) {
      throw new Error(`${target.name}, seed ${roundSeed}: ${String(thrown)}`, { cause: thrown });
    }
    rounds++;
  } while (performance.now() < end);
  // kilobytes
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  process.stdout.write(`${JSON.stringify({ rounds, peakBytes, codes, counts })}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
