/**
 * Blocks in a directory that outlives the process: one checksummed file each, the least recently used deleted first. Whatever the file system does, the worst
 * that happens is a miss: a file that does not read as its block is deleted, a write that fails is given up, and after a failure writing pauses.
 *
 * Files lie in a folder for each class (model, layout, instruction set), so those that another model left count against the bound, are the first to go when
 * they are the oldest, and are never read. Several processes may share a directory: files appear whole, by renaming, and one that another deleted is a miss.
 */
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { type Clock, realClock } from '../../base/clock.ts';
import { MillraceError } from '../../base/errors.ts';
import { decodeBlockFile, encodeBlockFile, HEADER_BYTES } from './block-file.ts';
import type { KvTier, StoredBlock, TierStats } from './tier.ts';

export interface DiskTierOptions {
  readonly directory: string;
  readonly limitBytes: number;
  readonly classDigest: string;
  readonly clock?: Clock;
}

interface Entry {
  readonly groups: number;
  readonly sizeBytes: number;
  /** Being written: not to be found yet. */
  isPending: boolean;
}

/** Bytes that may wait to be written; beyond them blocks are not stored. */
const MAX_PENDING_BYTES = 256 * 2 ** 20;
const WRITES_AT_ONCE = 2;
/** Writing pauses for so long after a failure: a full disk is not asked with every block. */
const PAUSE_MS = 30_000;
/** A draft older than that belongs to a process that died. */
const STALE_MS = 3_600_000;
const FILE = /^([0-9a-f]{64})\.([0-9a-f]{1,8})\.kv$/;
const CLASS = /^[0-9a-f]{16}$/;

export class DiskTier implements KvTier {
  readonly name = 'disk';
  readonly #options: DiskTierOptions;
  readonly #class: string;
  readonly #clock: Clock;
  /** By path below the directory, in order of last use. */
  readonly #entries = new Map<string, Entry>();
  /** Name of this class's block -> its path. */
  readonly #paths = new Map<string, string>();
  readonly #waiting: { key: string; path: string; block: StoredBlock }[] = [];
  #pendingBytes = 0;
  #numWriting = 0;
  #sizeBytes = 0;
  #pausedUntilMs = -Infinity;
  #idle: (() => void)[] = [];
  readonly #deletions = new Set<Promise<unknown>>();
  readonly #counts = { numStored: 0, numFailedStores: 0, numLoaded: 0, numFailedLoads: 0, numEvicted: 0 };

  private constructor(options: DiskTierOptions) {
    this.#options = options;
    this.#clock = options.clock ?? realClock;
    this.#class = createHash('sha256').update(options.classDigest).digest('hex').slice(0, 16);
  }

  /** Makes the directory if need be and learns what it holds. @throws CONFIG_INVALID where it cannot be used */
  static async open(options: DiskTierOptions): Promise<DiskTier> {
    const tier = new DiskTier(options);
    try {
      // what people asked lies in these files: nobody else's business
      await fs.mkdir(path.join(options.directory, tier.#class), { recursive: true, mode: 0o700 });
      await tier.#scan();
    } catch (cause) {
      throw new MillraceError('CONFIG_INVALID', {
        message: `The directory of option kv-disk-dir cannot be used: ${(cause as Error).message}`,
        expected: 'a directory that can be written, or a path where one can be made',
        received: options.directory,
        cause,
      });
    }
    tier.#evict();
    return tier;
  }

  find(key: string): number {
    const at = this.#paths.get(key);
    const entry = at === undefined ? undefined : this.#entries.get(at);
    return entry === undefined || entry.isPending ? 0 : entry.groups;
  }

  put(key: string, block: StoredBlock): void {
    const size = block.bytes.byteLength + HEADER_BYTES;
    const known = this.#paths.get(key);
    if (known !== undefined) {
      if ((block.groups & ~(this.#entries.get(known)?.groups ?? 0)) === 0) return;
      this.#delete(known);
    }
    const isRefused = size > this.#options.limitBytes || this.#pendingBytes + size > MAX_PENDING_BYTES || this.#clock.nowMs() < this.#pausedUntilMs;
    if (isRefused) {
      this.#counts.numFailedStores++;
      return;
    }
    const at = path.join(this.#class, key.slice(0, 2), `${key}.${block.groups.toString(16)}.kv`);
    this.#add(at, { groups: block.groups, sizeBytes: size, isPending: true });
    this.#pendingBytes += size;
    this.#waiting.push({ key, path: at, block });
    this.#evict();
    this.#writeNext();
  }

  async get(key: string): Promise<StoredBlock | null> {
    const at = this.#paths.get(key);
    if (at === undefined) return this.#missed();
    const file = path.join(this.#options.directory, at);
    try {
      const block = await decodeBlockFile(key, await fs.readFile(file));
      const entry = this.#entries.get(at);
      if (block !== null && block.groups === entry?.groups) {
        this.#entries.delete(at);
        this.#entries.set(at, entry);
        this.#counts.numLoaded++;
        const now = new Date();
        void fs.utimes(file, now, now).catch(() => undefined); // so that the next process knows the order of use
        return block;
      }
    } catch {
      // gone, or the disk does not read: a miss like any other
    }
    this.#delete(at);
    return this.#missed();
  }

  stats(): TierStats {
    const { limitBytes } = this.#options;
    return { name: this.name, numBlocks: this.#paths.size, sizeBytes: this.#sizeBytes, limitBytes, ...this.#counts };
  }

  async close(): Promise<void> {
    if (this.#numWriting > 0 || this.#waiting.length > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    await Promise.all(this.#deletions);
  }

  #missed(): null {
    this.#counts.numFailedLoads++;
    return null;
  }

  #writeNext(): void {
    while (this.#numWriting < WRITES_AT_ONCE) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#numWriting++;
      void this.#write(next).then(() => {
        this.#numWriting--;
        this.#writeNext();
      });
    }
    if (this.#numWriting > 0 || this.#waiting.length > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Never rejects. */
  async #write({ key, path: at, block }: { key: string; path: string; block: StoredBlock }): Promise<void> {
    const entry = this.#entries.get(at);
    this.#pendingBytes -= block.bytes.byteLength + HEADER_BYTES;
    if (entry === undefined || !entry.isPending) return; // evicted before it was written
    const file = path.join(this.#options.directory, at);
    const draft = `${file}.${randomUUID()}.tmp`;
    try {
      const parts = await encodeBlockFile(key, block);
      await fs.mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
      await writeWhole(draft, parts);
      await fs.rename(draft, file);
      entry.isPending = false;
      this.#counts.numStored++;
      if (this.#entries.get(at) !== entry) await fs.rm(file, { force: true }); // evicted while it was written
    } catch {
      this.#counts.numFailedStores++;
      this.#pausedUntilMs = this.#clock.nowMs() + PAUSE_MS;
      if (this.#entries.get(at) === entry) this.#remove(at);
      await fs.rm(draft, { force: true }).catch(() => undefined);
    }
  }

  #evict(): void {
    for (const oldest of this.#entries.keys()) {
      if (this.#sizeBytes <= this.#options.limitBytes) return;
      this.#delete(oldest);
      this.#counts.numEvicted++;
    }
  }

  #delete(at: string): void {
    this.#remove(at);
    const deletion = fs.rm(path.join(this.#options.directory, at), { force: true }).catch(() => undefined);
    this.#deletions.add(deletion);
    void deletion.then(() => this.#deletions.delete(deletion));
  }

  #add(at: string, entry: Entry): void {
    this.#entries.set(at, entry);
    this.#sizeBytes += entry.sizeBytes;
    const [folder, , name] = at.split(path.sep);
    const key = FILE.exec(name ?? '')?.[1];
    if (folder === this.#class && key !== undefined) this.#paths.set(key, at);
  }

  #remove(at: string): void {
    const entry = this.#entries.get(at);
    if (entry === undefined) return;
    this.#entries.delete(at);
    this.#sizeBytes -= entry.sizeBytes;
    const key = FILE.exec(path.basename(at))?.[1];
    if (key !== undefined && this.#paths.get(key) === at) this.#paths.delete(key);
  }

  async #scan(): Promise<void> {
    const { directory } = this.#options;
    const found: { at: string; groups: number; sizeBytes: number; usedMs: number }[] = [];
    for (const folder of (await fs.readdir(directory)).filter((name) => CLASS.test(name))) {
      for (const shelf of await fs.readdir(path.join(directory, folder))) {
        if (!/^[0-9a-f]{2}$/.test(shelf)) continue;
        for (const name of await fs.readdir(path.join(directory, folder, shelf))) {
          const at = path.join(folder, shelf, name);
          const groups = FILE.exec(name)?.[2];
          const stat = await fs.stat(path.join(directory, at)).catch(() => null);
          if (stat === null) continue;
          const isStale = Date.now() - stat.mtimeMs > STALE_MS;
          if (groups === undefined && name.endsWith('.tmp') && isStale) await fs.rm(path.join(directory, at), { force: true });
          else if (groups !== undefined) found.push({ at, groups: Number.parseInt(groups, 16), sizeBytes: stat.size, usedMs: stat.mtimeMs });
        }
      }
    }
    found.sort((a, b) => a.usedMs - b.usedMs);
    for (const { at, groups, sizeBytes } of found) this.#add(at, { groups, sizeBytes, isPending: false });
  }
}

async function writeWhole(file: string, parts: readonly Uint8Array[]): Promise<void> {
  const handle = await fs.open(file, 'wx', 0o600);
  try {
    for (const part of parts) {
      let at = 0;
      while (at < part.byteLength) at += (await handle.write(part, at, part.byteLength - at)).bytesWritten;
    }
  } finally {
    await handle.close();
  }
}
