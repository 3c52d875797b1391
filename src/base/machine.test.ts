import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { readMachine } from './machine.ts';

const host = { numCpus: 16, totalMemoryBytes: 64 * 2 ** 30, freeMemoryBytes: 40 * 2 ** 30 };
const roots: string[] = [];

function machineWith(files: Record<string, string>): ReturnType<typeof readMachine> {
  const root = mkdtempSync(join(tmpdir(), 'millrace machine '));
  roots.push(root);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return readMachine(root, host);
}

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true });
});

test('a machine without limits is taken as it is', () => {
  expect(machineWith({})).toMatchObject({ numCpus: 16, totalMemoryBytes: 64 * 2 ** 30, availableMemoryBytes: 40 * 2 ** 30 });
});

test('the limits of a version 2 control group hold, those of its ancestors included', () => {
  const machine = machineWith({
    'proc/self/cgroup': '0::/pod/app\n',
    'proc/meminfo': `MemTotal: ${64 * 2 ** 20} kB\nMemFree: 1 kB\nMemAvailable: ${32 * 2 ** 20} kB\n`,
    'sys/fs/cgroup/cgroup.controllers': 'cpu memory\n',
    'sys/fs/cgroup/pod/app/cpu.max': 'max 100000\n',
    'sys/fs/cgroup/pod/cpu.max': '250000 100000\n',
    'sys/fs/cgroup/pod/memory.max': `${8 * 2 ** 30}\n`,
    'sys/fs/cgroup/pod/memory.current': `${3 * 2 ** 30}\n`,
    'sys/fs/cgroup/pod/memory.stat': `anon 5\ninactive_file ${2 ** 30}\n`,
    'sys/fs/cgroup/pod/app/memory.max': 'max\n',
  });
  expect(machine).toMatchObject({ numCpus: 2, totalMemoryBytes: 8 * 2 ** 30, availableMemoryBytes: 6 * 2 ** 30 });
  expect(machine.reasons.join(' ')).toContain("container's");
});

test('the limits of a version 1 control group hold', () => {
  const machine = machineWith({
    'proc/self/cgroup': '5:cpu,cpuacct:/\n7:memory:/\n',
    'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '50000\n',
    'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    'sys/fs/cgroup/memory/memory.limit_in_bytes': `${2 ** 30}\n`,
    'sys/fs/cgroup/memory/memory.usage_in_bytes': `${2 ** 28}\n`,
  });
  expect(machine).toMatchObject({ numCpus: 1, totalMemoryBytes: 2 ** 30, availableMemoryBytes: 3 * 2 ** 28 });
});

test('an unlimited version 1 group says so with absurd numbers, which limit nothing', () => {
  const machine = machineWith({
    'proc/self/cgroup': '5:cpu:/\n7:memory:/\n',
    'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
    'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
  });
  expect(machine).toMatchObject({ numCpus: 16, totalMemoryBytes: 64 * 2 ** 30 });
});
