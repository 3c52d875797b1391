import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decodeBlockFile, encodeBlockFile, HEADER_BYTES } from './block-file.ts';
import { DiskTier } from './disk-tier.ts';
import { HostTier } from './host-tier.ts';
import type { StoredBlock } from './tier.ts';
import { TierStack } from './tier-stack.ts';

const key = (n: number) => n.toString(16).padStart(64, '0');
const block = (n: number, size = 100, groups = 1): StoredBlock => ({ groups, bytes: new Uint8Array(size).fill(n) });

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-tier-'));
});
afterEach(() => {
  fs.chmodSync(directory, 0o700);
  fs.rmSync(directory, { recursive: true, force: true });
});

const openDisk = (limitBytes = 10_000, classDigest = 'class a', at = directory) => DiskTier.open({ directory: at, limitBytes, classDigest });

function files(at = directory): string[] {
  return fs
    .readdirSync(at, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
}

/** Waits for writes and deletions, and opens the directory again, as a new process would. */
async function reopened(tier: DiskTier, limitBytes = 10_000): Promise<DiskTier> {
  await tier.close();
  return openDisk(limitBytes);
}

describe('host tier', () => {
  test('gives back what was put, and within its bound keeps what was used last', async () => {
    const tier = new HostTier(300);
    for (let n = 0; n < 3; n++) tier.put(key(n), block(n));
    expect((await tier.get(key(0)))?.bytes[0]).toBe(0);
    tier.put(key(3), block(3));
    expect([0, 1, 2, 3].map((n) => tier.find(key(n)))).toEqual([1, 0, 1, 1]);
    expect(tier.stats()).toMatchObject({ numBlocks: 3, sizeBytes: 300, numEvicted: 1, numStored: 4 });
    expect(await tier.get(key(1))).toBeNull();
    tier.put(key(9), block(9, 301));
    expect(tier.stats()).toMatchObject({ numBlocks: 3, numFailedStores: 1 });
  });
});

describe('disk tier', () => {
  test('a block survives the process, under its name, with its groups', async () => {
    const first = await openDisk();
    first.put(key(1), block(7, 100, 5));
    const second = await reopened(first);
    expect(second.find(key(1))).toBe(5);
    expect(await second.get(key(1))).toEqual(block(7, 100, 5));
    expect(await second.get(key(2))).toBeNull();
    await second.close();
  });

  test('files are for their owner only', async () => {
    const tier = await openDisk();
    tier.put(key(1), block(1));
    await tier.close();
    const [file] = files();
    expect(fs.statSync(file).mode & 0o077).toBe(0);
    expect(fs.statSync(path.dirname(file)).mode & 0o077).toBe(0);
  });

  test('stays within its bound, and forgets what was used longest ago, across restarts too', async () => {
    const limit = 3 * (100 + HEADER_BYTES);
    const first = await openDisk(limit);
    for (let n = 0; n < 3; n++) first.put(key(n), block(n));
    await first.close();
    // the times of use as a file system with seconds keeps them
    files().forEach((file) => {
      const n = Number.parseInt(path.basename(file).slice(0, 64), 16);
      fs.utimesSync(file, 1000 + n, 1000 + n);
    });
    const second = await openDisk(limit);
    await second.get(key(0));
    second.put(key(3), block(3));
    await second.close();
    expect(second.stats()).toMatchObject({ numBlocks: 3, sizeBytes: limit, numEvicted: 1 });
    expect(files()).toHaveLength(3);
    expect([0, 1, 2, 3].map((n) => second.find(key(n)))).toEqual([1, 0, 1, 1]);
    const third = await openDisk(150);
    expect(third.stats().numBlocks).toBe(1);
    await third.close();
    expect(files()).toHaveLength(1);
  });

  test('what another class left is never found, counts against the bound, and goes when it is the oldest', async () => {
    const other = await openDisk(10_000, 'class b');
    other.put(key(1), block(1));
    await other.close();
    const tier = await openDisk(200);
    expect(tier.find(key(1))).toBe(0);
    expect(await tier.get(key(1))).toBeNull();
    tier.put(key(2), block(2));
    await tier.close();
    expect(files().map((file) => path.basename(file).slice(0, 64))).toEqual([key(2)]);
  });

  test.each([
    ['a changed byte', (file: string) => flip(file, HEADER_BYTES + 50)],
    ['a changed checksum', (file: string) => flip(file, 20)],
    ['changed groups', (file: string) => flip(file, 8)],
    ['a wrong magic number', (file: string) => flip(file, 0)],
    ['another version', (file: string) => flip(file, 4)],
    ['a missing end', (file: string) => fs.truncateSync(file, 90)],
    ['nothing in it', (file: string) => fs.truncateSync(file, 0)],
    ['more than it should hold', (file: string) => fs.appendFileSync(file, 'x')],
    ['a folder in its place', (file: string) => [fs.rmSync(file), fs.mkdirSync(file)]],
    ['been deleted by somebody', (file: string) => fs.rmSync(file)],
  ])('a file with %s is a miss, and forgotten', async (_, damage) => {
    const first = await openDisk();
    first.put(key(1), block(1));
    await first.close();
    damage(files()[0]);
    expect(await first.get(key(1))).toBeNull();
    expect(first.find(key(1))).toBe(0);
    expect(first.stats()).toMatchObject({ numFailedLoads: 1, numBlocks: 0, sizeBytes: 0 });
    await first.close();
  });

  test('a file under the name of another block is a miss', async () => {
    const tier = await openDisk();
    tier.put(key(1), block(1));
    tier.put(key(2), block(2));
    await tier.close();
    const [a, b] = files();
    fs.copyFileSync(a, b);
    expect(await tier.get(path.basename(b).slice(0, 64))).toBeNull();
    await tier.close();
  });

  test('a write that fails is no failure: the block is not there, and writing pauses', async () => {
    const tier = await openDisk();
    fs.rmSync(directory, { recursive: true });
    fs.writeFileSync(directory, 'a file where the folder was');
    tier.put(key(1), block(1));
    await tier.close();
    expect(tier.find(key(1))).toBe(0);
    tier.put(key(2), block(2));
    expect(tier.stats()).toMatchObject({ numStored: 0, numFailedStores: 2, sizeBytes: 0 });
    await tier.close();
  });

  test('a full disk is no failure', async () => {
    if (!fs.existsSync('/dev/full')) return;
    // every draft becomes a link to the device that is always full
    const tier = await openDisk();
    const { open } = fs.promises;
    const full = () => open('/dev/full', 'w');
    fs.promises.open = full as typeof open;
    try {
      tier.put(key(1), block(1));
      await tier.close();
    } finally {
      fs.promises.open = open;
    }
    expect(tier.stats()).toMatchObject({ numStored: 0, numFailedStores: 1, sizeBytes: 0 });
    expect(files()).toEqual([]);
  });

  test('a directory that cannot be made is said at once', async () => {
    const file = path.join(directory, 'file');
    fs.writeFileSync(file, '');
    await expect(openDisk(1000, 'a', path.join(file, 'below'))).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  test('drafts of a process that died are cleared away, those of one that writes are not; other files are left alone', async () => {
    const tier = await openDisk();
    tier.put(key(1), block(1));
    await tier.close();
    const [file] = files();
    const [old, young, foreign] = [`${file}.1.tmp`, `${file}.2.tmp`, path.join(directory, 'notes.txt')];
    for (const at of [old, young, foreign]) fs.writeFileSync(at, 'x');
    fs.utimesSync(old, 1000, 1000);
    await (await openDisk()).close();
    expect([old, young, foreign].map((at) => fs.existsSync(at))).toEqual([false, true, true]);
  });

  test('a block that comes again with more groups takes the place of the one with fewer', async () => {
    const tier = await openDisk();
    tier.put(key(1), block(1, 100, 1));
    tier.put(key(1), block(2, 200, 3));
    tier.put(key(1), block(3, 100, 1));
    const again = await reopened(tier);
    expect((await again.get(key(1)))?.bytes).toEqual(block(2, 200).bytes);
    expect(files()).toHaveLength(1);
    await again.close();
  });
});

test('a block file reads back as what was written, and only whole', async () => {
  const parts = await encodeBlockFile(key(5), block(3, 64, 2));
  const file = Buffer.concat(parts);
  expect(await decodeBlockFile(key(5), file)).toEqual(block(3, 64, 2));
  expect(await decodeBlockFile(key(6), file)).toBeNull();
});

describe('tiers together', () => {
  test('what is evicted goes to both, what is computed to disk; the one that has enough is asked, nearest first', async () => {
    const host = new HostTier(1000);
    const disk = await openDisk();
    const stack = new TierStack({ classDigest: 'class a', host, disk });
    stack.put(key(1), block(1), false);
    expect([host.find(key(1)), stack.wants(key(1), 1, true)]).toEqual([0, true]);
    stack.put(key(2), block(2, 100, 3), true);
    await disk.close();
    expect([stack.find(key(1)), stack.find(key(2)), stack.find(key(3))]).toEqual([1, 3, 0]);
    expect(await stack.get(key(2), 2)).toEqual(block(2, 100, 3));
    expect(disk.stats().numLoaded).toBe(0);
    expect((await stack.get(key(1), 1))?.bytes[0]).toBe(1);
    expect(await stack.get(key(1), 2)).toBeNull();
    await stack.close();
  });
});

function flip(file: string, at: number): void {
  const bytes = fs.readFileSync(file);
  bytes[at] ^= 0x10;
  fs.writeFileSync(file, bytes);
}
