import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { readMachine } from '../../base/machine.ts';
import { createNativeBackend, type NativeBackend } from './native-backend.ts';

let backend: NativeBackend | null = null;
afterEach(() => backend?.close());

/** Processors that threads of this process are bound to, of those bound to one. */
function boundTo(): string[] {
  const lists = readdirSync('/proc/self/task').map(
    (task) => /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync(`/proc/self/task/${task}/status`, 'utf8'))?.[1] ?? '',
  );
  return lists.filter((list) => /^\d+$/.test(list));
}

const canPin = process.platform === 'linux' && readMachine().numCpus >= 2;

test.skipIf(!canPin)(
  'pinned threads each have a processor of their own, the thread of JavaScript keeps all, and nothing is pinned unless asked for',
  async () => {
    backend = await createNativeBackend({ numThreads: 2 });
    expect(boundTo()).toEqual([]);
    expect(await backend.pinThreads()).toBe(true);
    const bound = boundTo();
    expect(bound).toHaveLength(2);
    expect(new Set(bound).size).toBe(2);
    await backend.close();
    backend = await createNativeBackend({ numThreads: 2, pinThreads: true });
    expect(boundTo()).toHaveLength(2);
  },
);

test('more threads than processors are left where they are', async () => {
  backend = await createNativeBackend({ numThreads: readMachine().numCpus + 1 });
  expect(await backend.pinThreads()).toBe(false);
});
