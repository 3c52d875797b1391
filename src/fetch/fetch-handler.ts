import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import type { Engine } from '../engine/engine.ts';
import type { ServerOptions } from '../server/options.ts';
import { createServer, type DetachedAnswer } from '../server/server.ts';

export interface FetchOptions extends Omit<ServerOptions, 'host' | 'port'> {
  /** What the paths begin with where the API is mounted, such as `/llm`; it is cut off. */
  readonly basePath?: string;
}

/** The API as functions: nothing listens. */
export interface FetchHandler {
  /**
   * Answers a request; streams arrive as they are made, no faster than they are read. Aborting the request's signal, or cancelling the body, aborts
   * the generation. Refusals are answers; this does not throw.
   */
  fetch(request: Request): Promise<Response>;
  /** The same for servers of Node's own kind: `http.createServer`, Express and Connect (before any body parser). */
  node(request: IncomingMessage, response: ServerResponse): void;
  /** Refuses new work, waits for what runs, ends the rest (`drainMs`). Engines stay open. */
  close(): Promise<void>;
}

const withoutBody: ReadonlySet<number> = new Set([204, 205, 304]);

/**
 * The endpoints of `millrace serve` for Hono, Next.js, Express and whatever else can call a function. The `Host` header is not checked, since the
 * server around it answers for that; API keys are, where some are given.
 * @param engines name -> engine, as for a server; owned by the caller
 * @throws CONFIG_INVALID when two engines want one name, an API key is empty or the base path does not begin with a slash
 */
export async function createFetchHandler(
  engines: ReadonlyMap<string, Engine>,
  { basePath = '', ...options }: FetchOptions = {},
): Promise<FetchHandler> {
  const base = basePath.replace(/\/+$/, '');
  const server = createServer({ engines, options: { allowedHosts: ['*'], ...options } });
  const { inject, route } = await server.detached();
  const pathOf = (path: string) =>
    base !== '' && (path === base || path.startsWith(`${base}/`) || path.startsWith(`${base}?`)) ? path.slice(base.length) || '/' : path;
  return {
    fetch: async (request) => {
      const { pathname, search } = new URL(request.url);
      const payload = request.body === null ? undefined : Readable.fromWeb(request.body as NodeReadableStream);
      const url = pathOf(pathname) + search;
      try {
        return await webResponse(
          inject({ method: request.method, url, headers: Object.fromEntries(request.headers), signal: request.signal, payload }),
        );
      } catch (thrown) {
        if (!request.signal.aborted) throw thrown;
        return new Response(null, { status: 499 }); // nobody reads this
      }
    },
    node: (request, response) => {
      request.url = pathOf(request.url ?? '/');
      route(request, response);
    },
    close: () => server.close(),
  };
}

async function webResponse(answered: Promise<DetachedAnswer>): Promise<Response> {
  const { statusCode, headers, body } = await answered;
  const shown = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name === 'connection' || name === 'transfer-encoding') continue;
    for (const each of Array.isArray(value) ? value : [value]) shown.append(name, String(each));
  }
  if (withoutBody.has(statusCode)) return new Response(null, { status: statusCode, headers: shown });
  return new Response(Readable.toWeb(body) as ReadableStream, { status: statusCode, headers: shown });
}
