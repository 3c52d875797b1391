/**
 * One build at a time: processes that start together wait for the first one's binary instead of compiling the same thing. Only a courtesy: whoever
 * breaks in spoils nothing, since binaries are put in place by a rename.
 */
import { closeSync, openSync, readFileSync, rmSync, statSync, utimesSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const BEAT_MS = 1000;
/** A holder that has not been heard of for so long is gone. */
const STALE_MS = 20_000;

/**
 * Takes the lock at `path`, or waits. Returns a function that gives it up, or null when `isDone` came true meanwhile: then there is nothing left
 * to do.
 */
export async function lockBuild(path: string, isDone: () => boolean): Promise<(() => void) | null> {
  for (;;) {
    const release = tryLock(path);
    if (release !== null) {
      if (!isDone()) return release;
      release();
      return null;
    }
    if (isDone()) return null;
    if (isStale(path)) rmSync(path, { force: true });
    else await sleep(100);
  }
}

function tryLock(path: string): (() => void) | null {
  try {
    const file = openSync(path, 'wx');
    writeSync(file, `${hostname()} ${process.pid}`);
    closeSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null;
    throw error;
  }
  const beat = setInterval(() => {
    try {
      utimesSync(path, new Date(), new Date());
    } catch {
      // somebody took it for stale: both build, and nothing is lost
    }
  }, BEAT_MS).unref();
  return () => {
    clearInterval(beat);
    rmSync(path, { force: true });
  };
}

function isStale(path: string): boolean {
  try {
    if (Date.now() - statSync(path).mtimeMs > STALE_MS) return true;
    const [host, pid] = readFileSync(path, 'utf8').split(' ');
    return host === hostname() && pid !== undefined && !isAlive(Number(pid));
  } catch {
    return false; // it has just been given up
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
