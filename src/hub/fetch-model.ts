/** A model's name -> a path on this disk: a local path as it is, a hub name by way of the cache and, if need be, the network. */
import { existsSync, statSync } from 'node:fs';
import { readFile, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { RepoCache } from './cache.ts';
import { type DownloadContext, downloadBlob } from './download.ts';
import { HubClient, realWait, type Wait } from './hub-client.ts';
import type { HubFile, HubListing } from './listing.ts';
import { type HubModelId, parseHubId, servedNameOf } from './model-id.ts';
import { type Selection, selectFiles, shardsOfIndex } from './select-files.ts';
import { type HubSettings, readHubSettings } from './settings.ts';

export interface FetchOptions {
  /** False: configuration and tokenizer of a Hugging Face repository are enough. */
  readonly weights?: boolean;
  /** `download`, in bytes of all files. */
  onProgress?(stage: string, done: number, total: number): void;
  onNotice?(line: string): void;
  readonly signal?: AbortSignal | undefined;
  readonly settings?: HubSettings;
  /** For tests. */
  readonly wait?: Wait;
  readonly openFile?: DownloadContext['openFile'];
}

export interface FetchedModel {
  readonly path: string;
  /** What the model was asked for as; null for a path, whose last part is its name. */
  readonly servedName: string | null;
}

/** Files fetched at once. */
const PARALLEL = 4;
/** No tokenizer or configuration is larger, and no model has more of them. */
const MOST_SMALL_BYTES = 256 << 20;
const MOST_SMALL_FILES = 200;

/**
 * Finds a model. What exists here, or cannot be a hub name, is a path and touches no network. A hub name is looked up on the hub each time; when the
 * hub cannot be asked, a cached copy serves and a notice says so. With HF_HUB_OFFLINE, or for a commit whose files are there, nothing is asked.
 * @throws MODEL_NOT_FOUND, HUB_* codes, DISK_FULL, WEIGHTS_FORMAT_UNSUPPORTED, CONFIG_INVALID
 */
export async function fetchModel(name: string, options: FetchOptions = {}): Promise<FetchedModel> {
  const id = hubIdOf(name);
  if (id === null) return { path: name, servedName: null };
  const repository = await openRepository(id, options);
  const path = repository.listing === null ? repository.cachedPath : await download(repository, repository.listing, options);
  return { path, servedName: servedNameOf(id) };
}

/** null for what is, or must be, a path. @throws MODEL_NOT_FOUND for a name that may be either, but is not here */
export function hubIdOf(name: string): HubModelId | null {
  if (existsSync(name)) return null;
  const id = parseHubId(name);
  if (id === null || id.explicit) return id;
  if (/\.(?:gguf|safetensors|json|bin)$/i.test(id.repo)) return null;
  const [folder] = id.repo.split('/');
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) return id;
  throw new MillraceError('MODEL_NOT_FOUND', {
    message: `${name} does not exist, though there is a folder ${folder} here.`,
    hint: `check the path; to fetch a model of that name from the hub, write hf.co/${name}`,
  });
}

/** A repository at a revision: listed by the hub, or as the cache has it. */
export type Repository = {
  readonly id: HubModelId;
  readonly client: HubClient;
  readonly cache: RepoCache;
} & ({ readonly listing: HubListing } | { readonly listing: null; readonly cachedPath: string });

/** Asks the hub unless it must not or need not be asked. @throws as `fetchModel` */
export async function openRepository(id: HubModelId, options: FetchOptions): Promise<Repository> {
  const settings = options.settings ?? readHubSettings();
  const client = new HubClient(settings, options.wait);
  const cache = new RepoCache(settings.cacheFolder, id.repo);
  const cachedPath = await findCached(id, cache);
  if (cachedPath !== null && (settings.offline || /^[0-9a-f]{40}$/.test(id.revision))) return { id, client, cache, listing: null, cachedPath };
  if (settings.offline) throw notCached(id, cache);
  try {
    return { id, client, cache, listing: await client.list(id, cachedPath === null ? undefined : 1, options.signal) };
  } catch (thrown) {
    if (cachedPath === null || !(thrown instanceof MillraceError)) throw thrown;
    options.onNotice?.(`using the copy of ${id.repo} in the cache, because: ${thrown.message}`);
    return { id, client, cache, listing: null, cachedPath };
  }
}

/** A whole copy in the cache of what the revision last stood for, or null. */
async function findCached(id: HubModelId, cache: RepoCache): Promise<string | null> {
  const commit = await cache.commitOf(id.revision);
  if (commit === null) return null;
  try {
    const paths = await cache.list(commit);
    const selection = selectFiles(id, paths);
    const weights = await weightsOf(id, selection, paths, () => readFile(cache.pathOf(commit, 'model.safetensors.index.json'), 'utf8'));
    for (const path of weights) if (!(await cache.has(commit, path, null))) return null;
    return selection.kind === 'gguf' ? cache.pathOf(commit, weights[0]) : cache.snapshot(commit);
  } catch {
    return null; // parts of it are missing
  }
}

/** Paths of the weights; the index, if that says, is read. */
export async function weightsOf(
  id: HubModelId,
  selection: Selection,
  paths: readonly string[],
  readIndex: () => Promise<string>,
): Promise<readonly string[]> {
  if (selection.kind === 'gguf') return selection.parts;
  return selection.index === null ? selection.weights : shardsOfIndex(id, await readIndex(), paths);
}

async function download(repository: Repository, listing: HubListing, options: FetchOptions): Promise<string> {
  const { id, cache } = repository;
  const { commit, files } = listing;
  const paths = [...files.keys()];
  const selection = selectFiles(id, paths);
  if (selection.kind === 'huggingface') await bring(repository, listing, smallFiles(id, selection.small, files), options);
  const weights = await weightsOf(id, selection, paths, () => readFile(cache.pathOf(commit, 'model.safetensors.index.json'), 'utf8'));
  if (selection.kind === 'gguf' || options.weights !== false) {
    if (selection.kind === 'gguf' && id.selector === null) options.onNotice?.(`${id.repo}: taking ${weights[0]}; ${id.repo}:FILE takes another`);
    await bring(repository, listing, filesOf(weights, files), options);
  }
  await cache.writeRef(id.revision, commit);
  return selection.kind === 'gguf' ? cache.pathOf(commit, weights[0]) : cache.snapshot(commit);
}

/** Files of the listing, which holds every selected path. */
export function filesOf(paths: readonly string[], files: HubListing['files']): HubFile[] {
  return paths.flatMap((path) => files.get(path) ?? []);
}

export function smallFiles(id: HubModelId, paths: readonly string[], files: HubListing['files']): HubFile[] {
  const found = filesOf(paths, files);
  const large = found.find((file) => file.sizeBytes > MOST_SMALL_BYTES);
  if (large === undefined && found.length <= MOST_SMALL_FILES) return found;
  throw new MillraceError('HUB_RESPONSE_INVALID', {
    message:
      large === undefined ? `${id.repo} has ${found.length} files of configuration.` : `${large.path} of ${id.repo} has ${large.sizeBytes} bytes.`,
    expected: large === undefined ? `at most ${MOST_SMALL_FILES}` : `at most ${MOST_SMALL_BYTES} for a configuration or tokenizer`,
  });
}

/** Brings files into a snapshot, some at once. The first failure stops the others; what came stays. */
export async function bring(repository: Repository, { commit }: HubListing, files: readonly HubFile[], options: FetchOptions): Promise<void> {
  const { id, client, cache } = repository;
  const missing: HubFile[] = [];
  for (const file of files) if (!(await cache.has(commit, file.path, file.sizeBytes))) missing.push(file);
  if (missing.length === 0) return;
  await checkRoom(cache, missing);
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  const progress = progressOf(missing, options);
  const { openFile } = options;
  const context: DownloadContext = {
    client,
    cache,
    id,
    commit,
    wait: options.wait ?? realWait,
    signal,
    onBytes: progress,
    onNotice: (line) => options.onNotice?.(line),
    ...(openFile === undefined ? {} : { openFile }),
  };
  const queue = sameBlobs(missing);
  let failed: unknown = null;
  const work = async () => {
    for (let same = queue.shift(); same !== undefined && failed === null; same = queue.shift()) {
      try {
        for (const file of same) {
          await downloadBlob(file, context);
          await cache.link(commit, file);
        }
      } catch (thrown) {
        failed ??= thrown;
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  options.signal?.throwIfAborted();
  if (failed !== null) throw failed;
}

/** Files of equal content are one blob: they come one after the other. */
function sameBlobs(files: readonly HubFile[]): HubFile[][] {
  const groups = new Map<string, HubFile[]>();
  for (const file of files) groups.set(file.etag, [...(groups.get(file.etag) ?? []), file]);
  return [...groups.values()];
}

function progressOf(files: readonly HubFile[], options: FetchOptions): DownloadContext['onBytes'] {
  const total = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const bytes = new Map<HubFile, number>();
  let done = 0;
  return (file, sizeBytes) => {
    done += sizeBytes - (bytes.get(file) ?? 0);
    bytes.set(file, sizeBytes);
    options.onProgress?.('download', done, total);
  };
}

/** Says at once what would fail after hours. @throws DISK_FULL */
async function checkRoom(cache: RepoCache, files: readonly HubFile[]): Promise<void> {
  let wanted = 0;
  for (const file of files) {
    if (await cache.hasBlob(file)) continue;
    const partial = await stat(`${cache.blob(file.etag)}.incomplete`).catch(() => null);
    wanted += Math.max(0, file.sizeBytes - (partial?.size ?? 0));
  }
  let folder = cache.folder;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  const disk = await statfs(folder).catch(() => null); // where it cannot be told, the writes will
  if (disk === null || disk.bavail * disk.bsize >= wanted) return;
  const gigabytes = (bytes: number) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);
  throw new MillraceError('DISK_FULL', {
    message: `The download does not fit the disk of ${cache.cacheFolder}.`,
    expected: `${gigabytes(wanted)} free`,
    received: gigabytes(disk.bavail * disk.bsize),
    hint: 'make room, or put the cache elsewhere with HF_HUB_CACHE',
  });
}

function notCached(id: HubModelId, cache: RepoCache): MillraceError {
  return new MillraceError('HUB_OFFLINE', {
    message: `${id.repo}${id.revision === 'main' ? '' : `@${id.revision}`} is not whole in the cache at ${cache.folder}, and HF_HUB_OFFLINE forbids to fetch it.`,
    hint: 'unset HF_HUB_OFFLINE, or give the path of a folder or GGUF file',
  });
}
