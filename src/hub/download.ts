/** Brings one blob into the cache: goes on where an earlier attempt stopped, checks the hash, appears by a rename. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { cacheError, type RepoCache } from './cache.ts';
import { failure, type HubAnswer, invalidAnswer } from './http.ts';
import { type HubClient, MOST_ATTEMPTS, type Wait } from './hub-client.ts';
import type { HubFile } from './listing.ts';
import { acquireLock } from './lock.ts';
import type { HubModelId } from './model-id.ts';

export interface DownloadContext {
  readonly client: HubClient;
  readonly cache: RepoCache;
  readonly id: HubModelId;
  readonly commit: string;
  readonly wait: Wait;
  readonly signal?: AbortSignal | undefined;
  /** Bytes of this file that are there; falls when an attempt has to begin anew. */
  onBytes(file: HubFile, sizeBytes: number): void;
  onNotice(line: string): void;
  /** For tests: opens the partial file. */
  readonly openFile?: typeof open;
}

/** Times that a file with a wrong hash is fetched anew. */
const MOST_WRONG = 1;

/** @throws HUB_FILE_CORRUPT, DISK_FULL, HUB_CACHE_UNUSABLE and what the client throws */
export async function downloadBlob(file: HubFile, context: DownloadContext): Promise<void> {
  const { cache, wait, signal } = context;
  const done = () => cache.hasBlob(file);
  const finished = () => context.onBytes(file, file.sizeBytes);
  if (await done()) return finished();
  const onWait = () => context.onNotice(`another process downloads ${file.path}; waiting for it`);
  const lock = await acquireLock(`${cache.locks}/${file.etag}.millrace.lock`, { wait, done, onWait, signal });
  if (lock === null) return finished();
  try {
    if (await done()) return finished();
    const partial = `${cache.blob(file.etag)}.incomplete`;
    await fillPartial(partial, file, context);
    if (!(await lock.isOurs())) throw lostLock(file);
    await rename(partial, cache.blob(file.etag)).catch(async (thrown: unknown) => {
      if (!(await done())) throw cacheError(cache.blob(file.etag), thrown);
    });
  } finally {
    await lock.release();
  }
}

async function fillPartial(partial: string, file: HubFile, context: DownloadContext): Promise<void> {
  let furthest = 0;
  for (let wrong = 0; ; wrong++) {
    const found = await context.client.retrying(context.id, MOST_ATTEMPTS, context.signal, (advanced) =>
      attempt(partial, file, context, (at) => {
        // a server that gives no parts and always cuts does not come further
        if (at <= furthest) return;
        furthest = at;
        advanced();
      }),
    );
    if (found === file.etag) return;
    await rm(partial, { force: true });
    context.onBytes(file, 0);
    if (wrong < MOST_WRONG) {
      context.onNotice(`${file.path} came with a wrong hash; fetching it once more`);
      continue;
    }
    throw new MillraceError('HUB_FILE_CORRUPT', {
      message: `${file.path} of ${context.id.repo} is not what the hub lists, twice in a row; nothing of it is kept.`,
      expected: `${file.hash} ${file.etag}`,
      received: found,
      hint: 'try again; if it stays so, something on the way changes files (a proxy, a mirror)',
    });
  }
}

/** One request for what is missing. @returns the hash of all bytes of the partial file @throws ConnectionFailure when it was cut */
async function attempt(partial: string, file: HubFile, context: DownloadContext, reached: (at: number) => void): Promise<string> {
  const handle = await openPartial(partial, context);
  try {
    const hash = newHash(file);
    let have = await resumeAt(partial, handle, file, hash);
    context.onBytes(file, have);
    if (have === file.sizeBytes) return hash.digest('hex');
    const { client, id, commit, signal } = context;
    const range = have > 0 ? { range: { first: have } } : {};
    const answer = await client.open(id, commit, file.path, { ...range, timeoutMs: client.settings.stallTimeoutMs, signal });
    let sink = hash;
    if (answer.status !== 206 && have > 0) {
      // the whole file comes, or the server knows no such part: begin anew
      await handle.truncate(0);
      have = 0;
      sink = newHash(file);
      if (answer.status === 416) {
        answer.body.destroy();
        throw failure(client.fileUrl(id.repo, commit, file.path), new Error('the part that was asked for is not there'));
      }
    }
    if (answer.status === 206) checkRange(answer, have, file, context);
    const total = await receive(answer, handle, have, sink, file, context, reached);
    if (total < file.sizeBytes) throw failure(client.fileUrl(id.repo, commit, file.path), new Error(`cut at ${total} of ${file.sizeBytes} bytes`));
    await handle.sync();
    return sink.digest('hex');
  } catch (thrown) {
    throw thrown instanceof Error && 'syscall' in thrown ? cacheError(partial, thrown) : thrown;
  } finally {
    await handle.close().catch(() => undefined);
  }
}

async function receive(
  { body }: HubAnswer,
  handle: FileHandle,
  start: number,
  hash: Hash,
  file: HubFile,
  context: DownloadContext,
  reached: (at: number) => void,
): Promise<number> {
  const url = context.client.fileUrl(context.id.repo, context.commit, file.path);
  let at = start;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (at + chunk.length > file.sizeBytes) throw invalidAnswer(url, `it is longer than the ${file.sizeBytes} bytes that the hub lists`);
      await writeAll(handle, chunk, at, context.cache.blob(file.etag));
      hash.update(chunk);
      at += chunk.length;
      reached(at);
      context.onBytes(file, at);
    }
  } catch (thrown) {
    context.signal?.throwIfAborted();
    if (thrown instanceof MillraceError) throw thrown;
    throw failure(url, new Error(`cut at ${at} of ${file.sizeBytes} bytes (${(thrown as Error).message})`));
  } finally {
    body.destroy();
  }
  return at;
}

async function writeAll(handle: FileHandle, bytes: Buffer, position: number, path: string): Promise<void> {
  try {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  } catch (thrown) {
    throw cacheError(path, thrown);
  }
}

function newHash(file: HubFile): Hash {
  return file.hash === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${file.sizeBytes}\0`);
}

async function openPartial(partial: string, context: DownloadContext): Promise<FileHandle> {
  const openFile = context.openFile ?? open;
  try {
    await mkdir(dirname(partial), { recursive: true });
    // 'a' would ignore positions; without truncation, made when absent
    const exists = await stat(partial).catch(() => null);
    return await openFile(partial, exists === null ? 'wx+' : 'r+');
  } catch (thrown) {
    throw cacheError(partial, thrown);
  }
}

/** Hashes what an earlier attempt left; more than the file can have is thrown away. @returns its bytes */
async function resumeAt(partial: string, handle: FileHandle, file: HubFile, hash: Hash): Promise<number> {
  const { size } = await handle.stat();
  if (size > file.sizeBytes) {
    await handle.truncate(0);
    return 0;
  }
  let at = 0;
  if (size > 0) {
    for await (const chunk of createReadStream(partial, { end: size - 1, highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
      hash.update(chunk);
      at += chunk.length;
    }
  }
  return at;
}

/** A part must be the one that was asked for. */
function checkRange({ headers, body }: HubAnswer, first: number, file: HubFile, context: DownloadContext): void {
  const match = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(String(headers['content-range'] ?? ''));
  if (match !== null && Number(match[1]) === first && (match[2] === '*' || Number(match[2]) === file.sizeBytes)) return;
  body.destroy();
  const url = context.client.fileUrl(context.id.repo, context.commit, file.path);
  throw invalidAnswer(url, `the part that came is not the one from byte ${first} of ${file.sizeBytes}`);
}

function lostLock(file: HubFile): MillraceError {
  return new MillraceError('HUB_CACHE_UNUSABLE', {
    message: `Another process took over the download of ${file.path}, thinking this one dead.`,
    hint: 'start again: it goes on from what is there',
  });
}
