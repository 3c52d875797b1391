/** Damaged and hostile files of every kind that is read: an error with a code each time; never a crash, a hang or memory over a bound. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runFuzz } from './run-fuzz.ts';
import { targets } from './targets.ts';

/** A minute in CI, a taste elsewhere; `scripts/soak-files.mjs` goes on as long as one likes. */
const SECONDS = process.env.CI ? 60 : 10;
const SEED = Number(process.env.MILLRACE_FUZZ_SEED ?? 1);

test.each(targets)('what is fuzzed is read when it is whole: $name', async ({ files, read }) => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-fuzz-whole-'));
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, name), bytes);
  try {
    await read(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('damaged files of every kind are read or refused with a code', { timeout: (SECONDS + 120) * 1000 }, async () => {
  console.log(`fuzzing files for ${SECONDS} s, seed ${SEED}`);
  const { rounds, counts, peakBytes } = await runFuzz(SEED, SECONDS * 1000);
  console.log(`${rounds} rounds, at most ${peakBytes >> 20} MiB resident`);
  expect(rounds).toBeGreaterThan(targets.length);
  const all = Object.values(counts);
  // damage of both kinds, or nothing is tested
  expect(all.reduce((sum, { read }) => sum + read, 0)).toBeGreaterThan(rounds / 50);
  expect(all.reduce((sum, { refused }) => sum + refused, 0)).toBeGreaterThan(rounds / 10);
});
