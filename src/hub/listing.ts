/** What the hub says that a repository holds. Names, sizes and hashes are a stranger's word: whatever could lead out of the cache is left out. */
import { invalidAnswer } from './http.ts';
import { isSafeRepoPath } from './model-id.ts';

export interface HubFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Name of the blob in the cache: the SHA-256 of a large file, the Git id of a small one. */
  readonly etag: string;
  /** How `etag` is computed: SHA-256 of the bytes, or SHA-1 of Git's header and the bytes. */
  readonly hash: 'sha256' | 'git-sha1';
}

export interface HubListing {
  /** 40 hexadecimal digits. */
  readonly commit: string;
  readonly files: ReadonlyMap<string, HubFile>;
}

const MOST_FILES = 200_000;
const SHA1 = /^[0-9a-f]{40}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** @throws HUB_RESPONSE_INVALID */
export function readListing(url: URL, bytes: Buffer): HubListing {
  let answer: unknown;
  try {
    answer = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw invalidAnswer(url, 'it is not JSON; this may be no hub');
  }
  const { sha, siblings } = fieldsOf(answer);
  if (typeof sha !== 'string' || !SHA1.test(sha)) throw invalidAnswer(url, 'it names no commit');
  if (!Array.isArray(siblings) || siblings.length > MOST_FILES) throw invalidAnswer(url, `it lists no files, or more than ${MOST_FILES}`);
  const files = new Map<string, HubFile>();
  for (const sibling of siblings as unknown[]) {
    const file = readFile(sibling);
    if (file === null) continue;
    if (files.has(file.path)) throw invalidAnswer(url, `it lists ${JSON.stringify(file.path.slice(0, 100))} twice`);
    files.set(file.path, file);
  }
  return { commit: sha, files };
}

/** null for a file whose name is unsafe or whose size or hash is not told: it cannot be chosen. */
function readFile(sibling: unknown): HubFile | null {
  const { rfilename: path, size, blobId, lfs } = fieldsOf(sibling);
  if (typeof path !== 'string' || !isSafeRepoPath(path)) return null;
  const { sha256, size: lfsSize } = fieldsOf(lfs);
  const isSize = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
  if (typeof sha256 === 'string' && SHA256.test(sha256)) {
    const sizeBytes = isSize(lfsSize) ? lfsSize : size;
    return isSize(sizeBytes) ? { path, sizeBytes, etag: sha256, hash: 'sha256' } : null;
  }
  if (lfs !== undefined && lfs !== null) return null;
  return typeof blobId === 'string' && SHA1.test(blobId) && isSize(size) ? { path, sizeBytes: size, etag: blobId, hash: 'git-sha1' } : null;
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
