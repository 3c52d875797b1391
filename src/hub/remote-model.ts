/** A model on the hub that is looked at and not downloaded: its small files come into the cache, its weights stay where they are. */
import { readFile } from 'node:fs/promises';
import { bring, type FetchOptions, filesOf, openRepository, smallFiles, weightsOf } from './fetch-model.ts';
import { type HubModelId, servedNameOf } from './model-id.ts';
import { selectFiles } from './select-files.ts';

export interface RemoteModel {
  readonly servedName: string;
  /** Folder of the small files, or the name of the GGUF file. */
  readonly path: string;
  /** For people: where the model lies. */
  readonly address: string;
  /** `name` is the last part of `path`, its place in the repository. */
  readonly weights: readonly { readonly name: string; readonly path: string; readonly sizeBytes: number }[];
  /** @throws HUB_* codes; HUB_RESPONSE_INVALID when the server gives no parts of files */
  readRange(path: string, first: number, length: number, signal?: AbortSignal): Promise<Buffer>;
}

/** null when the cache serves: offline, or the hub cannot be asked, or the files are there. @throws as `fetchModel` */
export async function openRemoteModel(id: HubModelId, options: FetchOptions): Promise<RemoteModel | null> {
  const repository = await openRepository(id, options);
  if (repository.listing === null) return null;
  const { client, cache, listing } = repository;
  const { commit, files } = listing;
  const paths = [...files.keys()];
  const selection = selectFiles(id, paths);
  if (selection.kind === 'huggingface') await bring(repository, listing, smallFiles(id, selection.small, files), options);
  const weights = filesOf(await weightsOf(id, selection, paths, () => readFile(cache.pathOf(commit, 'model.safetensors.index.json'), 'utf8')), files);
  const present = await Promise.all(weights.map(({ path, sizeBytes }) => cache.has(commit, path, sizeBytes)));
  if (present.every((each) => each)) return null;
  const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);
  return {
    servedName: servedNameOf(id),
    path: selection.kind === 'gguf' ? nameOf(weights[0].path) : cache.snapshot(commit),
    address: client.fileUrl(id.repo, commit, selection.kind === 'gguf' ? weights[0].path : '').href.replace(/\/$/, ''),
    weights: weights.map(({ path, sizeBytes }) => ({ name: nameOf(path), path, sizeBytes })),
    readRange: (path, first, length, signal) => client.readRange(id, commit, path, { first, length, signal }),
  };
}
