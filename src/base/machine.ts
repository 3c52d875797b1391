/** What this process may use of the machine: the container's limits where they are tighter than the host's. */
import { readFileSync } from 'node:fs';
import { availableParallelism, freemem, totalmem } from 'node:os';
import { join } from 'node:path';

export interface MachineFacts {
  readonly numCpus: number;
  readonly totalMemoryBytes: number;
  /** Bytes that can be had now without pushing anything out. */
  readonly availableMemoryBytes: number;
  /** Where the figures are from, a line each. */
  readonly reasons: readonly string[];
}

/** What the host says when nothing limits the process; given by tests. */
export interface HostFacts {
  readonly numCpus: number;
  readonly totalMemoryBytes: number;
  readonly freeMemoryBytes: number;
}

/**
 * Reads `/proc` and the control group (version 2, else 1) of this process. Where there is neither, the host's own figures stand.
 * @param root where `/proc` and `/sys` are looked for
 */
export function readMachine(root = '/', host: HostFacts = readHost()): MachineFacts {
  const groups = controlGroups(root);
  const cpus = limitedCpus(root, groups, host);
  const memory = limitedMemory(root, groups, host);
  return { numCpus: cpus.value, totalMemoryBytes: memory.total, availableMemoryBytes: memory.available, reasons: [cpus.reason, memory.reason] };
}

function readHost(): HostFacts {
  return { numCpus: availableParallelism(), totalMemoryBytes: totalmem(), freeMemoryBytes: freemem() };
}

/** Folders whose limits hold for this process: its own control group and all above it, by controller. */
function controlGroups(root: string): { readonly cpu: readonly string[]; readonly memory: readonly string[]; readonly version: 1 | 2 } {
  const lines = (text(root, 'proc/self/cgroup') ?? '').split('\n');
  const pathOf = (controller: string) => {
    const line = lines.find((l) => l.split(':')[1]?.split(',').includes(controller));
    return line?.split(':').slice(2).join(':') ?? '/';
  };
  if (text(root, 'sys/fs/cgroup/cgroup.controllers') !== null) {
    const folders = ancestors('sys/fs/cgroup', pathOf(''));
    return { cpu: folders, memory: folders, version: 2 };
  }
  return { cpu: ancestors('sys/fs/cgroup/cpu', pathOf('cpu')), memory: ancestors('sys/fs/cgroup/memory', pathOf('memory')), version: 1 };
}

/** In a container the path may be the host's, of which only the mount point is seen: missing folders are simply not read. */
function ancestors(mount: string, path: string): string[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '..');
  return names.map((_, i) => join(mount, ...names.slice(0, names.length - i))).concat(mount);
}

function limitedCpus(root: string, groups: ReturnType<typeof controlGroups>, host: HostFacts): { value: number; reason: string } {
  let quota = Infinity;
  for (const folder of groups.cpu) {
    const [most, period] =
      groups.version === 2
        ? (text(root, join(folder, 'cpu.max')) ?? '').trim().split(/\s+/)
        : [text(root, join(folder, 'cpu.cfs_quota_us'))?.trim(), text(root, join(folder, 'cpu.cfs_period_us'))?.trim()];
    const cpus = Number(most) / Number(period);
    if (Number.isFinite(cpus) && cpus > 0) quota = Math.min(quota, cpus);
  }
  if (quota >= host.numCpus) return { value: host.numCpus, reason: `numCpus = ${host.numCpus}: processors that this process may run on` };
  const value = Math.max(1, Math.floor(quota));
  return { value, reason: `numCpus = ${value}: the container's quota of ${quota.toFixed(2)} of ${host.numCpus} processors` };
}

function limitedMemory(
  root: string,
  groups: ReturnType<typeof controlGroups>,
  host: HostFacts,
): { total: number; available: number; reason: string } {
  const info = text(root, 'proc/meminfo') ?? '';
  const kibibytes = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(info)?.[1] ?? NaN) * 1024;
  let total = kibibytes('MemTotal') || host.totalMemoryBytes;
  let available = kibibytes('MemAvailable') || host.freeMemoryBytes;
  let from = 'the machine';
  const [limitName, usedName, cacheName] =
    groups.version === 2
      ? ['memory.max', 'memory.current', 'inactive_file']
      : ['memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'];
  for (const folder of groups.memory) {
    const limit = Number(text(root, join(folder, limitName))?.trim());
    if (!Number.isFinite(limit) || limit <= 0 || limit >= total) continue;
    total = limit;
    const used = Number(text(root, join(folder, usedName))?.trim()) || 0;
    // file pages that nobody has touched for a while are given up before anything fails
    const droppable = Number(new RegExp(`^${cacheName} (\\d+)`, 'm').exec(text(root, join(folder, 'memory.stat')) ?? '')?.[1] ?? 0);
    available = Math.min(available, Math.max(0, limit - used + droppable));
    from = "the container's limit";
  }
  return { total, available, reason: `memory = ${gibibytes(available)} free of ${gibibytes(total)}: ${from}` };
}

function text(root: string, path: string): string | null {
  try {
    return readFileSync(join(root, path), 'utf8');
  } catch {
    return null;
  }
}

/** A size for people: `9.4 GiB`. */
export function gibibytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  return bytes >= 2 ** 20 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${Math.round(bytes / 1024)} KiB`;
}
