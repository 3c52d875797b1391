/**
 * The cache of Hugging Face's tools on disk, so that a file is downloaded once for all of them:
 * `models--org--name/{refs/<revision>, blobs/<etag>, snapshots/<commit>/<path>}`, a snapshot's files being links to blobs.
 * Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
 */
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import type { HubFile } from './listing.ts';

const COMMIT = /^[0-9a-f]{40}$/;

export class RepoCache {
  readonly cacheFolder: string;
  readonly folder: string;
  readonly locks: string;

  constructor(cacheFolder: string, repo: string) {
    const name = `models--${repo.replaceAll('/', '--')}`;
    this.cacheFolder = cacheFolder;
    this.folder = join(cacheFolder, name);
    this.locks = join(cacheFolder, '.locks', name);
  }

  /** The commit that a revision stood for when it was last looked up; a commit stands for itself. */
  async commitOf(revision: string): Promise<string | null> {
    if (COMMIT.test(revision)) return revision;
    const text = await readFile(join(this.folder, 'refs', revision), 'utf8').catch(() => '');
    return COMMIT.test(text.trim()) ? text.trim() : null;
  }

  async writeRef(revision: string, commit: string): Promise<void> {
    if (COMMIT.test(revision) || (await this.commitOf(revision)) === commit) return;
    await this.#replace(join(this.folder, 'refs', revision), (path) => writeFile(path, commit));
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  pathOf(commit: string, path: string): string {
    return join(this.snapshot(commit), ...path.split('/'));
  }

  blob(etag: string): string {
    return join(this.folder, 'blobs', etag);
  }

  /** A file of a snapshot is there whole. `sizeBytes` null: whatever its size. */
  async has(commit: string, path: string, sizeBytes: number | null): Promise<boolean> {
    return isWhole(this.pathOf(commit, path), sizeBytes);
  }

  async hasBlob({ etag, sizeBytes }: HubFile): Promise<boolean> {
    return isWhole(this.blob(etag), sizeBytes);
  }

  /** Makes a blob appear in a snapshot: a relative link, or a copy where the system refuses links. */
  async link(commit: string, { path, etag }: HubFile): Promise<void> {
    const target = this.pathOf(commit, path);
    const blob = this.blob(etag);
    await this.#replace(target, async (temporary) => {
      const fromTarget = relative(dirname(target), blob).split(sep).join('/');
      await symlink(fromTarget, temporary).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EPERM' && error.code !== 'ENOSYS' && error.code !== 'ENOTSUP') throw error;
        return copyFile(blob, temporary);
      });
    });
  }

  /** Paths of a snapshot's files, `/` between their parts. */
  async list(commit: string): Promise<string[]> {
    const folder = this.snapshot(commit);
    const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
    const files = entries.filter((entry) => !entry.isDirectory());
    return files
      .map((entry) =>
        relative(folder, join(entry.parentPath ?? entry.path, entry.name))
          .split(sep)
          .join('/'),
      )
      .sort();
  }

  /** Writes beside a path and renames, so that nobody sees half of it. @throws HUB_CACHE_UNUSABLE, DISK_FULL */
  async #replace(path: string, write: (temporary: string) => Promise<unknown>): Promise<void> {
    const temporary = `${path}.${process.pid}.${Math.floor(Math.random() * 2 ** 32).toString(16)}`;
    try {
      await mkdir(dirname(path), { recursive: true });
      await write(temporary);
      await rename(temporary, path);
    } catch (thrown) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw cacheError(path, thrown);
    }
  }
}

async function isWhole(path: string, sizeBytes: number | null): Promise<boolean> {
  const found = await stat(path).catch(() => null);
  return found?.isFile() === true && (sizeBytes === null || found.size === sizeBytes);
}

/** What a failed write into the cache means. */
export function cacheError(path: string, thrown: unknown): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') {
    return new MillraceError('DISK_FULL', {
      message: `There is no room for ${path} (${code}).`,
      hint: 'make room, or put the cache elsewhere with HF_HUB_CACHE; what has been downloaded is kept, and the next start goes on from there',
      cause: thrown,
    });
  }
  const reasons: Readonly<Record<string, string>> = {
    EACCES: 'this user may not write there',
    EPERM: 'this user may not write there',
    EROFS: 'it lies on a read-only file system',
    ENOTDIR: 'a part of its path is no folder',
  };
  return new MillraceError('HUB_CACHE_UNUSABLE', {
    message: `The cache cannot be written at ${path}: ${reasons[code] ?? (code || String(thrown))}.`,
    hint: 'put the cache elsewhere with HF_HUB_CACHE or HF_HOME',
    cause: thrown,
  });
}
