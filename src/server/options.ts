import type { FastifyBaseLogger } from 'fastify';
import { MAX_N } from '../sampling/params.ts';

/** Bounds on what one request may ask for; beyond them the answer is 400 or 413, never work. */
export interface ServerLimits {
  /** Largest request body. */
  readonly bodyBytes: number;
  /** Prompts in one `/v1/completions` request. */
  readonly prompts: number;
  /** Prompts times `n`. */
  readonly choices: number;
  readonly messages: number;
  readonly logitBiasEntries: number;
  /** Ids in one `/detokenize` request. */
  readonly detokenizeIds: number;
  /** Stored responses. */
  readonly responses: number;
  /** JSON of all stored responses. */
  readonly responseBytes: number;
  /** Streams that may be taken up, responses in the background among them. */
  readonly keptStreams: number;
  /** Frames of one such stream. */
  readonly keptStreamBytes: number;
}

/** What a caller may set; every field has a default. */
export interface ServerOptions {
  /** Address to listen on; loopback unless told otherwise. */
  readonly host?: string;
  /** 0 takes any free port. */
  readonly port?: number;
  /** With keys, everything but health, metrics, version and the chat page wants `Authorization: Bearer KEY`. */
  readonly apiKeys?: readonly string[];
  /** Keys of administrators, for the endpoints that show and steer what runs. */
  readonly adminKeys?: readonly string[];
  /** Origins that browsers may call from (CORS); `*` is every origin. None by default. */
  readonly allowedOrigins?: readonly string[];
  /** Host header values accepted besides the loopback names; `*` is every name. Checked only on loopback without API keys. */
  readonly allowedHosts?: readonly string[];
  readonly limits?: Partial<ServerLimits>;
  /** A silent stream gets an SSE comment this often, so that proxies keep it open. */
  readonly pingIntervalMs?: number;
  /** `/health` answers 503 when requests wait or run and no step finished for this long. */
  readonly stallMs?: number;
  /** How long `close()` lets running requests finish. */
  readonly drainMs?: number;
  /** A client that reads nothing for this long while data waits for it is dropped. */
  readonly writeTimeoutMs?: number;
  /** Longest time in which a whole request body must arrive. */
  readonly requestTimeoutMs?: number;
  /** How long a stream that may be taken up waits for its client, while it grows and after its end. */
  readonly resumeWindowMs?: number;
  /** How long a stored response is kept behind its end. */
  readonly responseTtlMs?: number;
  /** A pino logger, or anything of its shape. Silent when absent. */
  readonly log?: FastifyBaseLogger;
}

export type ResolvedServerOptions = Readonly<
  Required<Omit<ServerOptions, 'limits' | 'log'>> & { limits: ServerLimits; log: FastifyBaseLogger | undefined }
>;

export const defaultLimits: ServerLimits = Object.freeze({
  bodyBytes: 32 * 1024 * 1024,
  prompts: 256,
  choices: 4 * MAX_N,
  messages: 4096,
  logitBiasEntries: 1024,
  detokenizeIds: 262_144,
  responses: 1024,
  responseBytes: 64 * 1024 * 1024,
  keptStreams: 256,
  keptStreamBytes: 4 * 1024 * 1024,
});

/** Fills the defaults; the result is frozen. */
export function resolveServerOptions(given: ServerOptions): ResolvedServerOptions {
  return Object.freeze({
    host: given.host ?? '127.0.0.1',
    port: given.port ?? 8000,
    apiKeys: given.apiKeys ?? [],
    adminKeys: given.adminKeys ?? [],
    allowedOrigins: given.allowedOrigins ?? [],
    allowedHosts: given.allowedHosts ?? [],
    limits: Object.freeze({ ...defaultLimits, ...given.limits }),
    pingIntervalMs: given.pingIntervalMs ?? 15_000,
    stallMs: given.stallMs ?? 120_000,
    drainMs: given.drainMs ?? 30_000,
    writeTimeoutMs: given.writeTimeoutMs ?? 120_000,
    requestTimeoutMs: given.requestTimeoutMs ?? 300_000,
    resumeWindowMs: given.resumeWindowMs ?? 30_000,
    responseTtlMs: given.responseTtlMs ?? 3_600_000,
    log: given.log,
  });
}
