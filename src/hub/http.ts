/** GET requests to the hub: redirects, the token kept to its origin, timeouts, bounded bodies. */
import type { IncomingMessage } from 'node:http';
import { MillraceError } from '../base/errors.ts';
import { version } from '../base/version.ts';
import { openRequest } from './connect.ts';
import type { HubSettings } from './settings.ts';

const MOST_REDIRECTS = 8;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** A network failure: whoever asked may try again. */
export class ConnectionFailure extends Error {}

export interface HubAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Must be read or destroyed. */
  readonly body: IncomingMessage;
}

export interface GetOptions {
  /** First byte, and last if bounded. */
  readonly range?: { readonly first: number; readonly last?: number };
  /** Longest silence, before the head of the answer and in its body. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export class HubHttp {
  readonly #settings: HubSettings;

  constructor(settings: HubSettings) {
    this.#settings = settings;
  }

  /** An address below the endpoint; parts are encoded. */
  url(...parts: readonly string[]): URL {
    const { endpoint } = this.#settings;
    const path = parts.flatMap((part) => part.split('/').map(encodeURIComponent)).join('/');
    return new URL(`${endpoint.origin}${endpoint.pathname.replace(/\/+$/, '')}/${path}`);
  }

  /**
   * Follows redirects. The token goes to the endpoint's origin and nowhere else; once a redirect has left that origin, it stays behind.
   * @throws ConnectionFailure; HUB_RESPONSE_INVALID for redirects that go nowhere good
   */
  async get(start: URL, options: GetOptions): Promise<HubAnswer> {
    const { endpoint, token } = this.#settings;
    let url = start;
    let trusted = true;
    for (let redirects = 0; redirects <= MOST_REDIRECTS; redirects++) {
      trusted &&= url.origin === endpoint.origin;
      const answer = await this.#once(url, trusted ? token : null, options);
      const { location } = answer.headers;
      if (!REDIRECTS.has(answer.status) || typeof location !== 'string') return answer;
      answer.body.destroy();
      url = redirectTarget(url, location);
    }
    throw invalidAnswer(start, `it redirects more than ${MOST_REDIRECTS} times`);
  }

  async #once(url: URL, token: string | null, { range, timeoutMs, signal }: GetOptions): Promise<HubAnswer> {
    const headers: Record<string, string> = { 'user-agent': `millrace/${version}; node/${process.versions.node}`, 'accept-encoding': 'identity' };
    if (token !== null) headers.authorization = `Bearer ${token}`;
    if (range !== undefined) headers.range = `bytes=${range.first}-${range.last ?? ''}`;
    signal?.throwIfAborted();
    try {
      const request = await openRequest(url, { headers, ...(signal === undefined ? {} : { signal }) }, this.#settings.proxies, timeoutMs);
      return await new Promise((resolve, reject) => {
        request.setTimeout(timeoutMs, () => request.destroy(new Error(`nothing came for ${timeoutMs / 1000} s`)));
        request.once('error', reject);
        request.once('response', (body) => resolve({ status: body.statusCode ?? 0, headers: body.headers, body }));
        request.end();
      });
    } catch (thrown) {
      signal?.throwIfAborted();
      throw failure(url, thrown);
    }
  }
}

/** Reads a whole body. @throws HUB_RESPONSE_INVALID above `mostBytes`; ConnectionFailure when it is cut */
export async function readBody(url: URL, { body }: HubAnswer, mostBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > mostBytes) throw invalidAnswer(url, `it is larger than ${mostBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (thrown) {
    throw thrown instanceof MillraceError ? thrown : failure(url, thrown);
  }
  return Buffer.concat(chunks);
}

/** Where an answer sends us, if that may be followed. */
function redirectTarget(from: URL, location: string): URL {
  if (!URL.canParse(location, from.href)) throw invalidAnswer(from, 'it redirects to something that is no address');
  const target = new URL(location, from);
  const downgrade = from.protocol === 'https:' && target.protocol !== 'https:';
  if (downgrade || (target.protocol !== 'https:' && target.protocol !== 'http:')) {
    throw invalidAnswer(from, `it redirects to an address of ${target.protocol} that is not followed`);
  }
  return target;
}

/** Addresses of content networks carry signatures in their query, so only host and path are shown. */
export function shown(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

export function invalidAnswer(url: URL, what: string): MillraceError {
  return new MillraceError('HUB_RESPONSE_INVALID', {
    message: `The answer of ${shown(url)} cannot be used: ${what}.`,
    hint: 'check HF_ENDPOINT and the proxy settings',
  });
}

export function failure(url: URL, thrown: unknown): ConnectionFailure {
  const error = thrown as NodeJS.ErrnoException;
  const code = typeof error?.code === 'string' && !error.message?.includes(error.code) ? ` (${error.code})` : '';
  return new ConnectionFailure(`${url.host}: ${error?.message || 'the connection failed'}${code}`, { cause: thrown });
}
