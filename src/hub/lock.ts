/**
 * One process at a time per blob: a file that only one can create. It tells who holds it; who died, or has not been heard of for long on another
 * machine, loses it. It spares a second download and nothing hangs on it: a blob appears by a rename, after its hash has been checked.
 */
import { link, mkdir, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { cacheError } from './cache.ts';
import type { Wait } from './hub-client.ts';

const HEARTBEAT_MS = 10_000;
const SILENT_MS = 60_000;
const POLL_MS = 200;

export interface Lock {
  /** False once somebody else has taken it, thinking us dead. */
  isOurs(): Promise<boolean>;
  release(): Promise<void>;
}

/**
 * Waits for the lock, or until `done` says that there is nothing left to do: then null.
 * @param onWait called once, when somebody else holds it
 */
export async function acquireLock(
  path: string,
  { wait, done, onWait, signal }: { wait: Wait; done: () => Promise<boolean>; onWait: () => void; signal?: AbortSignal | undefined },
): Promise<Lock | null> {
  const owner = JSON.stringify({ pid: process.pid, host: hostname(), id: Math.random().toString(36).slice(2) });
  for (let waited = false; ; waited = true) {
    if (await create(path, owner)) return held(path, owner);
    if (await done()) return null;
    if (await isAbandoned(path)) {
      await takeAway(path);
      continue;
    }
    if (!waited) onWait();
    await wait(POLL_MS, signal);
  }
}

async function create(path: string, owner: string): Promise<boolean> {
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(path, 'wx');
    await file.writeFile(owner).finally(() => file.close());
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw cacheError(path, thrown);
  }
}

function held(path: string, owner: string): Lock {
  const isOurs = async () => (await readFile(path, 'utf8').catch(() => '')) === owner;
  const heartbeat = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, HEARTBEAT_MS).unref();
  return {
    isOurs,
    release: async () => {
      clearInterval(heartbeat);
      if (await isOurs()) await rm(path, { force: true }).catch(() => undefined);
    },
  };
}

async function isAbandoned(path: string): Promise<boolean> {
  const [found, text] = await Promise.all([stat(path).catch(() => null), readFile(path, 'utf8').catch(() => '')]);
  if (found === null) return false;
  const silentMs = Date.now() - found.mtimeMs;
  const { pid, host } = parseOwner(text);
  if (pid === null || host !== hostname()) return silentMs > SILENT_MS;
  try {
    process.kill(pid, 0);
    return false;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

function parseOwner(text: string): { pid: number | null; host: string | null } {
  try {
    const { pid, host } = JSON.parse(text) as Record<string, unknown>;
    if (typeof pid === 'number' && Number.isInteger(pid) && pid > 0 && typeof host === 'string') return { pid, host };
  } catch {
    // its writer died before it had written, or has not yet
  }
  return { pid: null, host: null };
}

/** Of many who find a lock abandoned, one succeeds in renaming it; then all try to create theirs. One that was renewed meanwhile is put back. */
async function takeAway(path: string): Promise<void> {
  const aside = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  await rename(path, aside).catch(() => undefined);
  if ((await stat(aside).catch(() => null)) === null) return;
  if (!(await isAbandoned(aside))) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}
