/**
 * The one error class of Millrace and the table of its codes.
 *
 * A code is stable: clients and scripts may test it. `docs/errors.md` is checked against this table in both directions.
 */

/** HTTP status and one-line meaning of every code, grouped by the room that throws it. */
export const errorTable = {
  // requests
  REQUEST_INVALID: { status: 400, meaning: 'The request body is not what the endpoint takes.' },
  REQUEST_TOO_LARGE: { status: 413, meaning: 'The request body is larger than the limit.' },
  PROMPT_EMPTY: { status: 400, meaning: 'The prompt has no tokens.' },
  PROMPT_TOO_LONG: { status: 400, meaning: 'The prompt does not fit the context.' },
  PROMPT_TOKEN_UNKNOWN: { status: 400, meaning: 'A token id is outside the vocabulary.' },
  SAMPLING_PARAM_INVALID: { status: 400, meaning: 'A sampling parameter is outside its range.' },
  MODEL_UNKNOWN: { status: 404, meaning: 'No model of that name is served.' },
  RESPONSE_UNKNOWN: { status: 404, meaning: 'No response of that id is stored (any more).' },
  STREAM_UNKNOWN: { status: 404, meaning: 'No stream of that id is kept (any more).' },
  STREAM_POSITION_LOST: { status: 410, meaning: 'The stream is kept, but not the events behind the one that was named.' },
  ROUTE_UNKNOWN: { status: 404, meaning: 'No such endpoint.' },
  METHOD_NOT_ALLOWED: { status: 405, meaning: 'The endpoint exists, but not for that method.' },
  AUTH_INVALID: { status: 401, meaning: 'The API key is missing or wrong.' },
  ADMIN_ONLY: { status: 403, meaning: 'The endpoint is for administrators, and the server names none.' },
  HOST_NOT_ALLOWED: { status: 403, meaning: 'The Host header names a site that this server does not answer for.' },
  QUEUE_FULL: { status: 429, meaning: 'Too many requests are waiting.' },
  TENANT_LIMIT: { status: 429, meaning: 'Too many requests of one user are open.' },
  QUEUE_TIMEOUT: { status: 503, meaning: 'The request waited longer than the server lets any wait.' },
  DEADLINE_EXCEEDED: { status: 503, meaning: 'The deadline that the request named has passed.' },
  USER_FUNCTION_FAILED: { status: 500, meaning: 'A logits processor or stop predicate that the caller gave threw.' },
  TOOL_SOURCE_FAILED: { status: 500, meaning: 'An MCP server does not start, answer or list its tools.' },
  REQUEST_ABORTED: { status: 499, meaning: 'The request was aborted by its owner.' },
  NOT_SUPPORTED: { status: 400, meaning: 'The feature exists in the API but not in this build or model.' },
  // structured output
  GRAMMAR_INVALID: { status: 400, meaning: 'A schema, pattern or grammar is malformed, or no text fulfils it.' },
  GRAMMAR_UNSUPPORTED: { status: 400, meaning: 'A schema, pattern or grammar uses something that cannot be enforced.' },
  OUTPUT_INCOMPLETE: { status: 500, meaning: 'The output ended before it fulfilled what it was held to.' },
  GRAMMAR_TOO_LARGE: { status: 400, meaning: 'A schema, pattern or grammar exceeds a limit on its size.' },
  // chat
  CHAT_TEMPLATE_MISSING: { status: 400, meaning: 'The model has no chat template.' },
  CHAT_TEMPLATE_FAILED: { status: 400, meaning: 'The chat template raised an error for these messages.' },
  // model files
  MODEL_NOT_FOUND: { status: 500, meaning: 'The model path does not exist or holds no model.' },
  MODEL_CONFIG_INVALID: { status: 500, meaning: 'The model configuration is missing a field or contradicts itself.' },
  MODEL_ARCHITECTURE_UNKNOWN: { status: 500, meaning: 'No model family knows this architecture.' },
  MODEL_CANNOT_GENERATE: { status: 500, meaning: 'The model is an encoder, which reads text and generates none.' },
  WEIGHTS_FILE_INVALID: { status: 500, meaning: 'A weight file is truncated or malformed.' },
  WEIGHTS_TENSOR_MISSING: { status: 500, meaning: 'The model needs a tensor that the files do not hold.' },
  WEIGHTS_SHAPE_MISMATCH: { status: 500, meaning: 'A tensor has another shape than the configuration says.' },
  WEIGHTS_FORMAT_UNSUPPORTED: { status: 500, meaning: 'A tensor is stored in a number format that is not read yet.' },
  TOKENIZER_INVALID: { status: 500, meaning: 'The tokenizer files are missing, malformed or of an unknown kind.' },
  // models from a hub
  HUB_UNREACHABLE: { status: 500, meaning: 'The hub does not answer, or fails again and again.' },
  HUB_OFFLINE: { status: 500, meaning: 'A model is not in the cache, and HF_HUB_OFFLINE forbids to fetch it.' },
  HUB_NOT_FOUND: { status: 500, meaning: 'The hub has no such model, revision or file.' },
  HUB_ACCESS_DENIED: { status: 500, meaning: 'The hub does not show the model to this user: it is gated, private or not there.' },
  HUB_RATE_LIMITED: { status: 500, meaning: 'The hub takes no more requests from here for a while.' },
  HUB_RESPONSE_INVALID: { status: 500, meaning: 'An answer of the hub is malformed, unsafe or beyond a limit.' },
  HUB_FILE_CORRUPT: { status: 500, meaning: 'A downloaded file does not have the hash that the hub lists.' },
  HUB_CACHE_UNUSABLE: { status: 500, meaning: 'The cache of downloaded models cannot be written.' },
  DISK_FULL: { status: 500, meaning: 'A file does not fit the disk.' },
  MEMORY_INSUFFICIENT: { status: 500, meaning: 'The model or its KV cache does not fit the memory.' },
  // configuration
  CONFIG_INVALID: { status: 500, meaning: 'A flag or option has a value that it cannot take.' },
  SERVER_FAILED: { status: 502, meaning: 'A server that is measured answers no request.' },
  PORT_IN_USE: { status: 500, meaning: 'The port is taken by another program.' },
  // plan and backends
  PLAN_INVALID: { status: 500, meaning: 'A plan breaks a rule of its operations.' },
  BACKEND_OP_UNSUPPORTED: { status: 500, meaning: 'The backend lacks operations that the plan needs.' },
  BACKEND_STEP_FAILED: { status: 500, meaning: 'A step failed in the backend.' },
  NATIVE_ADDON_UNAVAILABLE: { status: 500, meaning: 'The native backend could not be built or loaded.' },
  GPU_UNAVAILABLE: { status: 500, meaning: 'No GPU, or no driver that fits, was found.' },
  // engine
  KV_OUT_OF_BLOCKS: { status: 500, meaning: 'The request can never fit the KV cache.' },
  KV_TRANSFER_FAILED: { status: 502, meaning: 'Blocks of KV could not be fetched from another process.' },
  ENGINE_CLOSED: { status: 503, meaning: 'The engine is shutting down or has failed.' },
  INTERNAL: { status: 500, meaning: 'An invariant of ours was broken; please report it.' },
} as const satisfies Record<string, { status: number; meaning: string }>;

export type ErrorCode = keyof typeof errorTable;

export interface ErrorDetails {
  /** What was wrong, naming the field, file or tensor. */
  message: string;
  expected?: string;
  received?: string;
  /** What to do next: a flag, a command, a value. */
  hint?: string;
  /** Request field at fault, for the OpenAI error shape. */
  param?: string;
  cause?: unknown;
}

/** What a caller catches. `message` is complete on its own: what, expected, received, hint. */
export class MillraceError extends Error {
  readonly code: ErrorCode;
  /** HTTP status that the server answers with. */
  readonly status: number;
  readonly expected: string | undefined;
  readonly received: string | undefined;
  readonly hint: string | undefined;
  readonly param: string | undefined;

  constructor(code: ErrorCode, details: ErrorDetails | string) {
    const given = typeof details === 'string' ? { message: details } : details;
    super(sentence(given), given.cause === undefined ? undefined : { cause: given.cause });
    this.name = 'MillraceError';
    this.code = code;
    this.status = errorTable[code].status;
    this.expected = given.expected;
    this.received = given.received;
    this.hint = given.hint;
    this.param = given.param;
  }
}

/** Wraps anything thrown; a `MillraceError` passes through unchanged. */
export function toMillraceError(thrown: unknown, code: ErrorCode = 'INTERNAL'): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new MillraceError(code, { message, cause: thrown });
}

/** For our own invariants only; user input never reaches it. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new MillraceError('INTERNAL', message);
}

function sentence({ message, expected, received, hint }: ErrorDetails): string {
  let text = message;
  if (expected !== undefined && received !== undefined) text += ` Expected ${expected} but received ${received}.`;
  else if (expected !== undefined) text += ` Expected ${expected}.`;
  else if (received !== undefined) text += ` Received ${received}.`;
  return hint === undefined ? text : `${text} Hint: ${hint}`;
}
