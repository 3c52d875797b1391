/** Names of models on the hub: `org/name`, with a revision, a file or a quantisation. */
import { MillraceError } from '../base/errors.ts';

export interface HubModelId {
  /** `org/name`. */
  readonly repo: string;
  /** Branch, tag, `refs/pr/N` or commit. */
  readonly revision: string;
  /** A file of the repository (`x.gguf`) or the name of a quantisation (`Q4_K_M`); null when the name says neither. */
  readonly selector: string | null;
  /** It was written with `hf.co/` before it, so that it cannot mean a path. */
  readonly explicit: boolean;
}

const PREFIX = /^(?:hf:\/\/|hf:|(?:https?:\/\/)?(?:www\.)?(?:hf\.co|huggingface\.co)\/)/i;
/** The hub's own rules for the parts of a name. */
const PART = /^(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/;
const REVISION = /^(?!.*(?:\.\.|\/\/|@\{))[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}$/;

/**
 * Reads `org/name`, `org/name@revision`, `org/name:file.gguf`, `org/name:Q4_K_M`, or both in either order; `hf.co/` or `hf:` may come first.
 * @returns null when the text is no such name
 */
export function parseHubId(text: string): HubModelId | null {
  const prefix = PREFIX.exec(text)?.[0] ?? '';
  const match = /^([^/@:\s]+)\/([^/@:\s]+)((?:[@:][^@:]+){0,2})$/.exec(text.slice(prefix.length));
  if (match === null || !PART.test(match[1]) || !PART.test(match[2])) return null;
  let revision: string | null = null;
  let selector: string | null = null;
  for (const [, kind, value] of match[3].matchAll(/([@:])([^@:]+)/g)) {
    if (kind === '@') {
      if (revision !== null || !REVISION.test(value)) return null;
      revision = value;
    } else {
      if (selector !== null || !isSafeRepoPath(value)) return null;
      selector = value === 'latest' ? null : value; // Ollama's word for whatever is meant
    }
  }
  return { repo: `${match[1]}/${match[2]}`, revision: revision ?? 'main', selector, explicit: prefix !== '' };
}

/** The name that a model is served under: as it was written, without where it lies and which revision it is. */
export function servedNameOf({ repo, selector }: HubModelId): string {
  return selector === null ? repo : `${repo}:${selector}`;
}

/** True for a path that stays inside its folder on every system, `/` between its parts. */
export function isSafeRepoPath(path: string): boolean {
  if (path.length === 0 || path.length > 1024) return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  if (/[\\:\u0000-\u001f\u007f]/.test(path)) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && Buffer.byteLength(part) <= 255);
}

/** For callers that were told it is one. @throws CONFIG_INVALID */
export function requireHubId(text: string): HubModelId {
  const id = parseHubId(text);
  if (id !== null) return id;
  throw new MillraceError('CONFIG_INVALID', {
    message: 'This is not the name of a model on the hub.',
    expected: 'org/name, org/name@revision, org/name:file.gguf or org/name:Q4_K_M',
    received: JSON.stringify(text.slice(0, 200)),
  });
}
