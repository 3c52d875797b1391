/** A server on a free port in front of an engine, with the official client: what every test here starts from. */
import OpenAI from 'openai';
import type { Engine } from '../../src/engine/engine.ts';
import type { ServerOptions } from '../../src/server/options.ts';
import { createServer, type MillraceServer } from '../../src/server/server.ts';

export interface Serving<E extends Engine = Engine> extends AsyncDisposable {
  readonly engine: E;
  readonly server: MillraceServer;
  readonly url: string;
  readonly port: number;
  readonly client: OpenAI;
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
}

export async function serve<E extends Engine>(engine: E, options: ServerOptions = {}): Promise<Serving<E>> {
  const name = engine.model.servedNames[0] ?? 'model';
  const server = createServer({ engines: new Map([[name, engine]]), options: { port: 0, drainMs: 2000, ...options } });
  const { url, port } = await server.listen();
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: options.apiKeys?.[0] ?? 'none', maxRetries: 0 });
  return {
    engine,
    server,
    url,
    port,
    client,
    post: (path, body, headers = {}) =>
      fetch(url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    [Symbol.asyncDispose]: async () => {
      await server.close();
      await engine.close();
    },
  };
}

/** The error object of a refused request. */
export async function errorOf(response: Response): Promise<{ message: string; type: string; param: string | null; code: string }> {
  const { error } = (await response.json()) as { error: { message: string; type: string; param: string | null; code: string } };
  return error;
}

/** Waits until `condition` holds; fails after 30 s. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** No request of the engine runs or waits, and no connection is answering. */
export function isQuiet({ engine, server }: Serving): boolean {
  const { numRunning, numWaiting, kvBlocksReferenced } = engine.stats();
  return numRunning + numWaiting + kvBlocksReferenced + server.numOpenRequests === 0;
}
