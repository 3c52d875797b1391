import { AsyncLocalStorage } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Readable } from 'node:stream';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type InjectOptions, LogController } from 'fastify';
import { MillraceError } from '../base/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { ApiKeyCheck, adminCheck } from './auth.ts';
import { crossOrigin } from './cross-origin.ts';
import { openAi } from './dialect.ts';
import { errorBody, errorHeaders, fromThrown, routeUnknown } from './errors.ts';
import { Exchange, OpenExchanges, requestIdOf } from './exchange.ts';
import { readHealth } from './health.ts';
import { hostCheck } from './host-check.ts';
import { KeptStreams } from './kept-streams.ts';
import { ServerMetrics } from './metrics.ts';
import { ModelTable } from './model-table.ts';
import { type ResolvedServerOptions, resolveServerOptions, type ServerOptions } from './options.ts';
import { ResponseStore } from './responses/store.ts';
import { routes } from './routes/index.ts';
import type { Route, ServerContext } from './routes/route.ts';

export interface ServerSetup {
  /** Name -> engine; several names may lead to one engine. Owned by the caller: closing the server does not close them. */
  readonly engines: ReadonlyMap<string, Engine>;
  readonly options?: ServerOptions;
}

export interface ListeningAddress {
  readonly host: string;
  readonly port: number;
  /** With the port that was really taken, such as `http://127.0.0.1:8000`. */
  readonly url: string;
}

/** An answer that no connection carries. */
export interface DetachedAnswer {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, number | string | string[] | undefined>>;
  /** Destroying it is leaving. */
  readonly body: Readable;
}

export interface DetachedServer {
  inject(request: {
    readonly method: string;
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly payload: Readable | undefined;
    /** Aborted by a client that leaves. */
    readonly signal: AbortSignal;
  }): Promise<DetachedAnswer>;
  route(request: IncomingMessage, response: ServerResponse): void;
}

declare module 'fastify' {
  interface FastifyRequest {
    exchange: Exchange;
  }
}

export function createServer(setup: ServerSetup): MillraceServer {
  return new MillraceServer(setup);
}

/** With the log at debug, how often it says why requests wait, and of how many. */
const WAIT_LOG_MS = 2000;
const MOST_WAIT_LINES = 16;

/** The HTTP face of a table of engines. */
export class MillraceServer {
  readonly #app: FastifyInstance;
  readonly #options: ResolvedServerOptions;
  readonly #metrics: ServerMetrics;
  readonly #models: ModelTable;
  readonly #kept: KeptStreams;
  readonly #exchanges = new OpenExchanges();
  /** Of requests without a connection: the signal of a client that leaves. */
  readonly #leaving = new AsyncLocalStorage<AbortSignal>();
  #isDraining = false;
  #waitLog: ReturnType<typeof setInterval> | undefined;
  #closed: Promise<void> | null = null;

  /** @throws CONFIG_INVALID when two engines want one name or an API key is empty */
  constructor({ engines, options = {} }: ServerSetup) {
    this.#options = resolveServerOptions(options);
    this.#models = new ModelTable(engines);
    this.#metrics = new ServerMetrics(this.#models);
    const { limits, resumeWindowMs } = this.#options;
    this.#kept = new KeptStreams({ bytes: limits.keptStreamBytes, count: limits.keptStreams, windowMs: resumeWindowMs });
    this.#app = createApp(this.#options);
    this.#addChecks();
    this.#addRoutes();
    this.#addErrors();
  }

  /** @throws PORT_IN_USE, CONFIG_INVALID when the address cannot be taken */
  async listen(): Promise<ListeningAddress> {
    const { host, port } = this.#options;
    try {
      await this.#app.listen({ host, port });
    } catch (thrown) {
      throw listenError(thrown, host, port);
    }
    const taken = (this.#app.server.address() as AddressInfo).port;
    if (this.#options.log?.level === 'debug') this.#waitLog = setInterval(() => this.#logWaiting(), WAIT_LOG_MS).unref();
    return { host, port: taken, url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}` };
  }

  /** The same endpoints as functions, for who brings the connections; nothing listens. */
  async detached(): Promise<DetachedServer> {
    await this.#app.ready();
    return {
      inject: async (request) => {
        const options = { ...request, payloadAsStream: true } as InjectOptions;
        // `then` is what starts it, so that has to be called where the signal can be found.
        const answered = await this.#leaving.run(request.signal, () => this.#app.inject(options).then((response) => response));
        const body = answered.stream();
        // A reader that leaves is a client that leaves.
        body.once('close', () => answered.raw.res.destroy());
        return { statusCode: answered.statusCode, headers: answered.headers, body };
      },
      route: (request, response) => this.#app.routing(request, response),
    };
  }

  /** Requests now open. */
  get numOpenRequests(): number {
    return this.#exchanges.count;
  }

  /** Refuses new work, lets open requests finish for `drainMs`, aborts the rest, closes the port. Idempotent; engines stay open. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#isDraining = true;
    const drained = await this.#exchanges.drained(this.#options.drainMs);
    const reason = new MillraceError('ENGINE_CLOSED', 'The server is shutting down.');
    this.#kept.abortAll(reason); // whoever wanted the rest of them would not find this process again
    if (!drained) {
      this.#exchanges.abortAll(reason);
      await this.#exchanges.drained(1000); // time to write the last frames
    }
    clearInterval(this.#waitLog);
    this.#app.server.closeAllConnections();
    await this.#app.close();
    this.#metrics.close();
  }

  /** Says for each of the first that wait why they do. */
  #logWaiting(): void {
    for (const { engine } of this.#models.served) {
      const waiting = engine.requests().filter(({ status }) => status === 'waiting');
      for (const { id, ageMs, waitsFor, why } of waiting.slice(0, MOST_WAIT_LINES)) {
        this.#options.log?.debug({ id, ageMs: Math.round(ageMs), waitsFor, why, numWaiting: waiting.length }, 'waiting');
      }
    }
  }

  #addChecks(): void {
    const keys = new ApiKeyCheck(this.#options.apiKeys);
    const checkAdmin = adminCheck(this.#options);
    const checkHost = hostCheck(this.#options);
    const allowOrigin = crossOrigin(this.#options.allowedOrigins);
    const openPaths: ReadonlySet<string> = new Set(routes.filter(({ isOpen }) => isOpen).flatMap(({ paths }) => paths));
    const adminPaths: ReadonlySet<string> = new Set((routes as readonly Route[]).filter(({ isAdmin }) => isAdmin).flatMap(({ paths }) => paths));
    this.#app.decorateRequest('exchange', undefined as never);
    this.#app.addHook('onRequest', async (request, reply) => {
      this.#open(request, reply);
      checkHost?.(request.headers.host);
      if (allowOrigin?.(request, reply)) return reply.code(204).send();
      if (openPaths.has(request.routeOptions.url ?? '')) return;
      if (adminPaths.has(request.routeOptions.url ?? '')) {
        checkAdmin(request.headers.authorization);
        return;
      }
      request.exchange.tenant = keys.check(authorizationOf(request));
      if (!this.#isDraining) return;
      reply.header('connection', 'close');
      throw new MillraceError('ENGINE_CLOSED', 'The server is shutting down.');
    });
  }

  #open(request: FastifyRequest, reply: FastifyReply): void {
    const startMs = performance.now();
    request.exchange = new Exchange(request.raw, reply.raw, request.id);
    this.#exchanges.add(request.exchange, reply.raw);
    const leave = () => request.exchange.abort(new MillraceError('REQUEST_ABORTED', 'The client aborted the request.'));
    this.#leaving.getStore()?.addEventListener('abort', leave, { once: true });
    reply.header('x-request-id', request.exchange.id);
    reply.raw.once('close', () => {
      const status = reply.raw.writableFinished ? reply.raw.statusCode : 499;
      const handler = request.routeOptions.url ?? 'unknown';
      const durationMs = performance.now() - startMs;
      this.#metrics.observeHttp(request.method, handler, status, durationMs);
      request.log.info({ method: request.method, handler, status, durationMs: Math.round(durationMs) }, 'request');
    });
  }

  #addRoutes(): void {
    const context: ServerContext = {
      models: this.#models,
      options: this.#options,
      metrics: this.#metrics,
      kept: this.#kept,
      responses: new ResponseStore({
        count: this.#options.limits.responses,
        bytes: this.#options.limits.responseBytes,
        ttlMs: this.#options.responseTtlMs,
      }),
      health: () => readHealth(this.#models, this.#options.stallMs, this.#isDraining),
    };
    for (const route of routes as readonly Route[]) {
      for (const url of route.paths) {
        this.#app.route({
          method: route.method,
          url,
          ...(route.body === null ? {} : { schema: { body: route.body } }),
          handler: (request, reply) => route.handle({ context, body: request.body, exchange: request.exchange, request, reply }),
        });
      }
    }
  }

  #addErrors(): void {
    const { bodyBytes } = this.#options.limits;
    const dialects = new Map((routes as readonly Route[]).flatMap(({ paths, dialect }) => paths.map((path) => [path, dialect ?? openAi])));
    this.#app.setErrorHandler((thrown, request, reply) => {
      const error = fromThrown(thrown, bodyBytes);
      if (error.status >= 500) request.log.error({ err: error.cause ?? error }, error.message);
      const dialect = dialects.get(request.routeOptions.url ?? '') ?? openAi;
      return reply.code(error.status).headers(errorHeaders(error)).type('application/json; charset=utf-8').send(dialect.errorBody(error));
    });
    this.#app.setNotFoundHandler((request, reply) => {
      const path = request.url.split('?', 1)[0] ?? '';
      const allowed = (routes as readonly Route[]).filter(({ paths }) => paths.some((pattern) => matches(pattern, path)));
      const methods = [...new Set(allowed.map(({ method }) => method))];
      if (methods.length > 0) reply.header('allow', methods.join(', '));
      throw routeUnknown(request.method, path, methods);
    });
  }
}

/** Anthropic's clients send the key in a header of its own. */
function authorizationOf({ headers }: FastifyRequest): string | undefined {
  const key = headers['x-api-key'];
  return headers.authorization ?? (typeof key === 'string' ? `Bearer ${key}` : undefined);
}

function createApp(options: ResolvedServerOptions): FastifyInstance {
  const { bodyBytes } = options.limits;
  const app = Fastify({
    ...(options.log === undefined ? {} : { loggerInstance: options.log }),
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: bodyBytes,
    requestTimeout: options.requestTimeoutMs,
    forceCloseConnections: true,
    requestIdHeader: false,
    genReqId: requestIdOf,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 1024 },
    // Values are checked as sent: a "5" is not a 5.
    ajv: { customOptions: { coerceTypes: false, useDefaults: false, removeAdditional: false, allErrors: false, verbose: true } },
    clientErrorHandler: answerMalformedHttp,
    frameworkErrors: (error, _request, reply) => {
      const refused = fromThrown(error, bodyBytes);
      (reply as unknown as FastifyReply).code(refused.status).send(errorBody(refused));
    },
  });
  app.removeContentTypeParser('text/plain'); // a page of another origin may send that without asking
  return app;
}

/** What Node's parser refuses never becomes a request: answered on the bare socket. */
function answerMalformedHttp(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, message] = malformedHttp[error.code ?? ''] ?? ['400 Bad Request', 'The request is not valid HTTP.'];
  const body = JSON.stringify(errorBody(new MillraceError('REQUEST_INVALID', message)));
  const head = `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`;
  socket.end(head + body);
}

const malformedHttp: Readonly<Record<string, readonly [status: string, message: string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'The request headers are too large.'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'The request did not arrive in time.'],
};

function listenError(thrown: unknown, host: string, port: number): MillraceError {
  const { code, message } = thrown as { code?: string; message?: string };
  if (code === 'EADDRINUSE') {
    return new MillraceError('PORT_IN_USE', {
      message: `Port ${port} on ${host} is taken by another program.`,
      hint: 'Choose one with --port, or 0 for any.',
    });
  }
  return new MillraceError('CONFIG_INVALID', { message: `Cannot listen on ${host}:${port}: ${message ?? 'unknown reason'}.`, cause: thrown });
}

/** Whether a path belongs to a route pattern, whatever the method. */
function matches(pattern: string, path: string): boolean {
  const trimmed = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
  if (pattern.endsWith('/*')) return trimmed.startsWith(pattern.slice(0, -1)) && trimmed.length >= pattern.length;
  const segments = trimmed.split('/');
  const wanted = pattern.split('/');
  return segments.length === wanted.length && wanted.every((segment, at) => segment.startsWith(':') || segment === segments[at]);
}
