/**
 * Questions to the hub: what a repository holds at a revision, and the bytes of its files. Retries what may pass; says of the rest what it
 * means. The API: https://huggingface.co/docs/hub/api.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { MillraceError } from '../base/errors.ts';
import { ConnectionFailure, type GetOptions, type HubAnswer, HubHttp, invalidAnswer, readBody, shown } from './http.ts';
import { type HubListing, readListing } from './listing.ts';
import type { HubModelId } from './model-id.ts';
import type { HubSettings } from './settings.ts';

/** Waiting, apart from the real time in tests. */
export type Wait = (ms: number, signal?: AbortSignal) => Promise<unknown>;

export const realWait: Wait = (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal });

/** Attempts at one request, and the waits between them: 0.5, 1, 2, 4 s. */
export const MOST_ATTEMPTS = 5;
const FIRST_WAIT_MS = 500;
/** Longer waits than this are the user's to decide on. */
const LONGEST_WAIT_MS = 60_000;
/** The largest listings are a few megabytes. */
const MOST_LISTING_BYTES = 64 << 20;
const MOST_ERROR_BYTES = 1 << 20;

export class HubClient {
  readonly settings: HubSettings;
  readonly #http: HubHttp;
  readonly #wait: Wait;

  constructor(settings: HubSettings, wait: Wait = realWait) {
    this.settings = settings;
    this.#http = new HubHttp(settings);
    this.#wait = wait;
  }

  /**
   * The commit that a revision stands for, and its files with sizes and hashes.
   * @param attempts 1 when there is a cached copy to fall back to
   * @throws HUB_NOT_FOUND, HUB_ACCESS_DENIED, HUB_RATE_LIMITED, HUB_UNREACHABLE, HUB_RESPONSE_INVALID
   */
  list(id: HubModelId, attempts = MOST_ATTEMPTS, signal?: AbortSignal): Promise<HubListing> {
    const url = this.#http.url('api', 'models', id.repo, 'revision');
    url.pathname += `/${encodeURIComponent(id.revision)}`;
    url.search = '?blobs=true';
    return this.retrying(id, attempts, signal, async () => {
      const timeoutMs = this.settings.metadataTimeoutMs;
      const deadline = AbortSignal.timeout(6 * timeoutMs);
      const within = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
      const answer = await this.#http.get(url, { timeoutMs, signal: within }).catch((thrown: unknown) => {
        throw deadline.aborted && signal?.aborted !== true ? new ConnectionFailure(`${url.host}: no whole answer in time`) : thrown;
      });
      if (answer.status !== 200) throw await this.#refusal(url, answer, id, null);
      const bytes = await readBody(url, answer, MOST_LISTING_BYTES);
      return readListing(url, bytes);
    });
  }

  /** Address of a file at a commit. */
  fileUrl(repo: string, commit: string, path: string): URL {
    return this.#http.url(repo, 'resolve', commit, path);
  }

  /**
   * One attempt at a file or a part of it. The answer has status 200, 206 or 416.
   * @throws ConnectionFailure or `Passing` for what may pass; HUB_NOT_FOUND, HUB_ACCESS_DENIED, HUB_RESPONSE_INVALID
   */
  async open(id: HubModelId, commit: string, path: string, options: GetOptions): Promise<HubAnswer> {
    const url = this.fileUrl(id.repo, commit, path);
    const answer = await this.#http.get(url, options);
    if (answer.status === 200 || answer.status === 206 || answer.status === 416) return answer;
    throw await this.#refusal(url, answer, id, path);
  }

  /** Bytes `[first, first + length)` of a file. @throws as `list` does; HUB_RESPONSE_INVALID when the server does not give parts */
  readRange(
    id: HubModelId,
    commit: string,
    path: string,
    { first, length, signal }: { readonly first: number; readonly length: number; readonly signal?: AbortSignal | undefined },
  ): Promise<Buffer> {
    return this.retrying(id, MOST_ATTEMPTS, signal, async () => {
      const last = first + length - 1;
      const answer = await this.open(id, commit, path, { range: { first, last }, timeoutMs: this.settings.metadataTimeoutMs, signal });
      const url = this.fileUrl(id.repo, commit, path);
      if (answer.status !== 206) {
        answer.body.destroy();
        throw invalidAnswer(url, 'the server does not give parts of files (HTTP Range)');
      }
      const bytes = await readBody(url, answer, length);
      if (bytes.length !== length) throw new ConnectionFailure(`${url.host}: ${bytes.length} of ${length} bytes came`);
      return bytes;
    });
  }

  /** Runs `attempt` until it succeeds, fails for good, or has had its attempts. `attempt` may say that it came further: that counts anew. */
  async retrying<T>(id: HubModelId, attempts: number, signal: AbortSignal | undefined, attempt: (advanced: () => void) => Promise<T>): Promise<T> {
    let failures = 0;
    for (;;) {
      try {
        return await attempt(() => {
          failures = 0;
        });
      } catch (thrown) {
        signal?.throwIfAborted();
        if (!(thrown instanceof ConnectionFailure)) throw thrown;
        failures++;
        const asked = thrown instanceof Passing ? thrown.waitMs : null;
        if (failures >= attempts || (asked ?? 0) > LONGEST_WAIT_MS) throw givenUp(id, thrown);
        await this.#wait(asked ?? FIRST_WAIT_MS * 2 ** (failures - 1), signal);
      }
    }
  }

  /** What a status other than success means. */
  async #refusal(url: URL, answer: HubAnswer, id: HubModelId, path: string | null): Promise<Error> {
    const { status, headers } = answer;
    const said = await readBody(url, answer, MOST_ERROR_BYTES).then(messageOf, () => '');
    const code = String(headers['x-error-code'] ?? '');
    const reason = plainText(String(headers['x-error-message'] ?? '') || said);
    if (status === 429) return new Passing(`${url.host} answers 429, too many requests`, waitAsked(headers), 'HUB_RATE_LIMITED');
    if (status === 408 || status >= 500) return new Passing(`${url.host} answers ${status}`, waitAsked(headers), 'HUB_UNREACHABLE');
    if (status === 401 || status === 403) return this.#denied(id, status, code, reason);
    if (status === 404 || status === 410) return notFound(id, path, code, this.settings.token !== null);
    return invalidAnswer(url, `its status is ${status}${reason === '' ? '' : ` (${reason})`}`);
  }

  #denied(id: HubModelId, status: number, code: string, reason: string): MillraceError {
    const { endpoint, token } = this.settings;
    const page = `${shown(endpoint).replace(/\/$/, '')}/${id.repo}`;
    const account = `set HF_TOKEN to an access token (${endpoint.origin}/settings/tokens)`;
    const gated = code === 'GatedRepo' || (status === 403 && token !== null);
    const said = reason === '' ? '' : ` The hub says: ${reason}.`;
    if (gated) {
      return new MillraceError('HUB_ACCESS_DENIED', {
        message: `Access to ${id.repo} is granted by its authors to those who ask.${said}`,
        hint: `ask for access on ${page}, then ${token === null ? account : 'use a token of the account that has it, with the right to read gated repositories'}`,
      });
    }
    if (token === null) {
      // the hub does not tell strangers which private names exist
      return new MillraceError('HUB_ACCESS_DENIED', {
        message: `The hub shows no ${id.repo} to someone without a token: it does not exist, or it is private or gated.${said}`,
        hint: `check the name on ${page}; if the model is private or gated, ${account}`,
      });
    }
    return new MillraceError('HUB_ACCESS_DENIED', {
      message: `The token in HF_TOKEN does not open ${id.repo} (HTTP ${status}).${said}`,
      hint: account,
    });
  }
}

/** A refusal that may pass: too many requests, or the server is in trouble. */
export class Passing extends ConnectionFailure {
  readonly waitMs: number | null;
  readonly code: 'HUB_RATE_LIMITED' | 'HUB_UNREACHABLE';

  constructor(message: string, waitMs: number | null, code: 'HUB_RATE_LIMITED' | 'HUB_UNREACHABLE') {
    super(message);
    this.waitMs = waitMs;
    this.code = code;
  }
}

function givenUp(id: HubModelId, failure: ConnectionFailure): MillraceError {
  if (failure instanceof Passing && failure.code === 'HUB_RATE_LIMITED') {
    const seconds = failure.waitMs === null ? null : Math.ceil(failure.waitMs / 1000);
    return new MillraceError('HUB_RATE_LIMITED', {
      message: `The hub takes no more requests for ${id.repo} now.`,
      hint: `${seconds === null ? 'wait a while' : `wait ${seconds} s`}, and set HF_TOKEN: who is known may ask more often`,
      cause: failure,
    });
  }
  return new MillraceError('HUB_UNREACHABLE', {
    message: `The hub cannot be reached for ${id.repo}: ${failure.message}.`,
    hint: 'check the network, HF_ENDPOINT and the proxy settings; HF_HUB_OFFLINE=1 uses only what is in the cache',
    cause: failure,
  });
}

function notFound(id: HubModelId, path: string | null, code: string, hasToken: boolean): MillraceError {
  if (code === 'RevisionNotFound') {
    return new MillraceError('HUB_NOT_FOUND', {
      message: `${id.repo} has no revision ${id.revision}.`,
      expected: 'a branch, a tag, refs/pr/N or a commit',
      hint: `leave out @${id.revision} for the newest`,
    });
  }
  if (path !== null) return new MillraceError('HUB_NOT_FOUND', `${id.repo} has no file ${path} at this revision.`);
  return new MillraceError('HUB_NOT_FOUND', {
    message: `There is no model ${id.repo} on the hub${hasToken ? ' that this token can see' : ''}, nor a path of that name here.`,
    hint: 'check the spelling; a path may be written as ./path',
  });
}

/** The wait that a server asks for, in its `Retry-After` (seconds or a date) or the hub's own `RateLimit`. */
function waitAsked(headers: HubAnswer['headers']): number | null {
  const after = headers['retry-after'];
  if (typeof after === 'string') {
    const ms = /^\d+$/.test(after.trim()) ? Number(after) * 1000 : Date.parse(after) - Date.now();
    if (Number.isFinite(ms)) return Math.max(0, ms);
  }
  const limit = headers.ratelimit;
  const seconds = typeof limit === 'string' ? /\bt=(\d+)/.exec(limit)?.[1] : undefined;
  return seconds === undefined ? null : Number(seconds) * 1000;
}

function messageOf(bytes: Buffer): string {
  try {
    const { error } = JSON.parse(bytes.toString('utf8')) as { error?: unknown };
    return typeof error === 'string' ? error : '';
  } catch {
    return '';
  }
}

/** A stranger's sentence for our message: one line, no controls, of some length, without its last full stop. */
function plainText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out
  const line = text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trim();
  return line.slice(0, 300).replace(/\.$/, '');
}
