/** What a loaded model may take: its file and 15 % of it, the KV cache, the activation arena. Measured in a process that does nothing else. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { createNativeBackend } from '../../src/backends/native/native-backend.ts';
import { readMachine } from '../../src/base/machine.ts';
import { writeLargeCheckpoint } from '../fixtures/large-checkpoint.ts';

const MIB = 2 ** 20;
const repository = resolve(import.meta.dirname, '../..');

/** Why it cannot be measured here, or an empty string. */
async function obstacle(): Promise<string> {
  if (!existsSync('/proc/self/status')) return 'no /proc';
  if (readMachine().availableMemoryBytes < 2048 * MIB) return 'less than 2 GiB of free memory';
  const { bavail, bsize } = statfsSync(tmpdir());
  if (bavail * bsize < 1024 * MIB) return 'less than 1 GiB of free disk';
  try {
    await (await createNativeBackend({ numThreads: 1 })).close();
    return '';
  } catch (error) {
    return (error as Error).message.slice(0, 200);
  }
}

interface Measured {
  readonly bare: number;
  readonly loaded: number;
  readonly generated: number;
  readonly heapLoaded: number;
  readonly memory: { readonly weightBytes: number; readonly arenaBytes: number; readonly cacheBytes: number };
  readonly numTokens: number;
}

const why = await obstacle();

describe.skipIf(why !== '')(`a checkpoint of hundreds of megabytes${why === '' ? '' : ` (not here: ${why})`}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-resident-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each(['q8_0', 'q2_k'] as const)(
    'in %s takes its size and 15 % more, its KV cache and its arena, and little of the JavaScript heap',
    async (format) => {
      const path = join(folder, `${format}.gguf`);
      const fileBytes = writeLargeCheckpoint(path, format);
      expect(fileBytes).toBeGreaterThan(250 * MIB);
      const options = { backend: 'cpu', threads: 1, maxModelLen: 1024, maxNumSeqs: 4, maxNumBatchedTokens: 64, kvCacheMemoryBytes: 32 * MIB };
      const args = ['--import', 'tsx', 'test/fixtures/load-in-child.ts', path, JSON.stringify(options)];
      const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: repository });
      const { bare, loaded, generated, heapLoaded, memory, numTokens } = JSON.parse(stdout) as Measured;
      expect(numTokens).toBe(8);
      const bound = fileBytes * 1.15 + memory.cacheBytes + memory.arenaBytes;
      expect(loaded - bare).toBeLessThan(bound);
      expect(generated - bare).toBeLessThan(bound);
      // the weights are really there, so the bound means something
      expect(loaded - bare).toBeGreaterThan(0.95 * fileBytes);
      expect(memory.weightBytes).toBeLessThan(1.05 * fileBytes);
      expect(heapLoaded).toBeLessThan(100 * MIB);
    },
    180_000,
  );
});
