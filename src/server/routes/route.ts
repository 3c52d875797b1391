import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Static, TSchema } from 'typebox';
import type { Dialect } from '../dialect.ts';
import type { Exchange } from '../exchange.ts';
import type { Health } from '../health.ts';
import type { KeptStreams } from '../kept-streams.ts';
import type { ServerMetrics } from '../metrics.ts';
import type { ModelTable } from '../model-table.ts';
import type { ResolvedServerOptions } from '../options.ts';
import type { ResponseStore } from '../responses/store.ts';

/** What every endpoint may use. */
export interface ServerContext {
  readonly models: ModelTable;
  readonly options: ResolvedServerOptions;
  readonly metrics: ServerMetrics;
  /** Streams that a client may come back to. */
  readonly kept: KeptStreams;
  /** Responses that later requests may name. */
  readonly responses: ResponseStore;
  health(): Health;
}

/** One call of an endpoint; `body` has passed its schema. */
export interface Call<Body> {
  readonly context: ServerContext;
  readonly body: Body;
  readonly exchange: Exchange;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

/** An endpoint: one file in this folder, one line in `index.ts`. */
export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** The first is the canonical one. A segment `:id` takes one segment; a last one `*` takes the rest of the path, slashes included. */
  readonly paths: readonly [string, ...string[]];
  /** Reachable without an API key, and while the server drains. */
  readonly isOpen: boolean;
  /** For administrators only. */
  readonly isAdmin?: boolean;
  /** Whose errors it answers; OpenAI's when absent. */
  readonly dialect?: Dialect;
  /** One line for the docs. */
  readonly summary: string;
  readonly body: TSchema | null;
  /** Returns the body of the answer; `undefined` when the reply was hijacked. Throws MillraceErrors. */
  handle(call: Call<unknown>): unknown;
}

type Paths = Route['paths'];

/** The same endpoint, for administrators only. */
export function forAdmins(route: Route): Route {
  return { ...route, isAdmin: true };
}

/** The same endpoint, with errors as that family of APIs writes them. */
export function inDialect(dialect: Dialect, route: Route): Route {
  return { ...route, dialect };
}

export function get(paths: Paths, summary: string, handle: (call: Call<unknown>) => unknown, { isOpen = false } = {}): Route {
  return { method: 'GET', paths, isOpen, summary, body: null, handle };
}

export function remove(paths: Paths, summary: string, handle: (call: Call<unknown>) => unknown): Route {
  return { method: 'DELETE', paths, isOpen: false, summary, body: null, handle };
}

export function post<Body extends TSchema>(paths: Paths, summary: string, body: Body, handle: (call: Call<Static<Body>>) => unknown): Route {
  // The schema has vouched for the type by the time of the call.
  return { method: 'POST', paths, isOpen: false, summary, body, handle: handle as Route['handle'] };
}
