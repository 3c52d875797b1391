/** What besides token ids decides the K and V of a prefix, or who may share it. */
import { createHash } from 'node:crypto';

export interface NamespaceParts {
  /** Given by the caller (`cache_salt`): only requests with an equal one share. */
  readonly cacheSalt?: string | undefined;
  /** An adapter by the digest of its content and its scale: never by its name, under which another may be loaded tomorrow. */
  readonly adapter?: { readonly digest: string; readonly scale: number } | undefined;
}

/**
 * Names a namespace of the prefix cache: empty where nothing sets a request apart, else SHA-256 over all parts with their lengths, so that no two
 * different lists of parts, whatever they hold, read alike.
 */
export function namespaceOf({ cacheSalt = '', adapter }: NamespaceParts): string {
  if (cacheSalt === '' && adapter === undefined) return '';
  const hash = createHash('sha256');
  for (const part of [cacheSalt, adapter?.digest ?? '', adapter === undefined ? '' : String(adapter.scale)]) {
    const bytes = Buffer.from(part);
    hash.update(`${bytes.byteLength}:`).update(bytes);
  }
  return hash.digest('hex');
}
