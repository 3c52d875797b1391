import type { FastifyError } from 'fastify';
import { MillraceError } from '../base/errors.ts';
import { describeSchema, describeValue } from './openai/describe-schema.ts';

/** OpenAI's error shape: what every failing endpoint answers, and the last frame of a stream that failed. */
export interface ErrorBody {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string };
}

const typeOfStatus: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  405: 'invalid_request_error',
  410: 'invalid_request_error',
  413: 'invalid_request_error',
  429: 'rate_limit_error',
  503: 'unavailable_error',
};

export function errorBody(error: MillraceError): ErrorBody {
  const type = typeOfStatus[error.status] ?? (error.status < 500 ? 'invalid_request_error' : 'server_error');
  return { error: { message: error.message, type, param: error.param ?? null, code: error.code } };
}

/** Headers that belong to an error: when to come back, how to authenticate. */
export function errorHeaders(error: MillraceError): Record<string, string> {
  if (error.code === 'QUEUE_FULL' || error.code === 'TENANT_LIMIT') return { 'retry-after': '1' };
  if (error.code === 'QUEUE_TIMEOUT' || error.code === 'DEADLINE_EXCEEDED') return { 'retry-after': '2' };
  if (error.code === 'ENGINE_CLOSED') return { 'retry-after': '5' };
  if (error.code === 'AUTH_INVALID') return { 'www-authenticate': 'Bearer' };
  return {};
}

/**
 * Whatever a handler, the body parser or the schema check threw, as one of our errors. Text of errors that are not ours goes to the log
 * only: it may hold paths.
 */
export function fromThrown(thrown: unknown, bodyLimitBytes: number): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  const error = thrown as Partial<FastifyError>;
  if (error.validation !== undefined) return fromValidation(error.validation as readonly SchemaError[]);
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new MillraceError('REQUEST_TOO_LARGE', {
        message: 'The request body is too large.',
        expected: `at most ${bodyLimitBytes} bytes`,
      });
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new MillraceError('REQUEST_INVALID', {
        message: 'The body must be sent as JSON.',
        expected: 'the header "Content-Type: application/json"',
      });
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new MillraceError('REQUEST_INVALID', { message: 'The request body is empty.', expected: 'a JSON object' });
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return new MillraceError('REQUEST_INVALID', { message: 'The request body is not valid JSON.', expected: 'a JSON object' });
  }
  const status = error.statusCode;
  if (status !== undefined && status >= 400 && status < 500) {
    return new MillraceError('REQUEST_INVALID', { message: `The request cannot be read: ${error.message ?? 'malformed'}.` });
  }
  return new MillraceError('INTERNAL', { message: 'Something broke in the server; its log says more.', cause: thrown });
}

export function routeUnknown(method: string, path: string, allowed: readonly string[]): MillraceError {
  const shown = path.slice(0, 200);
  if (allowed.length > 0) {
    return new MillraceError('METHOD_NOT_ALLOWED', { message: `${shown} does not take ${method}.`, expected: allowed.join(' or ') });
  }
  const hint = shown.startsWith('/v1/') ? undefined : 'The OpenAI base path is /v1.';
  const message = `There is no endpoint ${method} ${shown}.`;
  return new MillraceError('ROUTE_UNKNOWN', hint === undefined ? { message } : { message, hint });
}

/** The fields of Ajv's error objects that are read here (`verbose` adds the schema and the data). */
interface SchemaError {
  readonly keyword: string;
  readonly instancePath: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly parentSchema?: Readonly<Record<string, unknown>>;
  readonly data?: unknown;
}

function fromValidation(errors: readonly SchemaError[]): MillraceError {
  const error = mostTelling(errors);
  if (error === undefined) return new MillraceError('REQUEST_INVALID', 'The request body is not what the endpoint takes.');
  if (error.keyword === 'required') {
    const param = fieldName(`${error.instancePath}/${String(error.params.missingProperty)}`);
    return new MillraceError('REQUEST_INVALID', { message: `The field ${param} is missing.`, param });
  }
  if (error.instancePath === '') {
    return new MillraceError('REQUEST_INVALID', {
      message: 'The request body has the wrong type.',
      expected: 'a JSON object',
      received: describeValue(error.data),
    });
  }
  const param = fieldName(error.instancePath);
  return new MillraceError('REQUEST_INVALID', {
    message: `The field ${param} has a value that it cannot take.`,
    expected: describeSchema(error.parentSchema ?? {}),
    received: describeValue(error.data),
    param,
  });
}

/**
 * A failed union reports every branch. The union itself says what was wanted, except for `T | null`, where the error inside T is the
 * telling one: so the last union with two real branches, else the deepest error.
 */
function mostTelling(errors: readonly SchemaError[]): SchemaError | undefined {
  const union = errors.findLast((error) => error.keyword === 'anyOf' && realBranches(error.parentSchema?.anyOf) > 1);
  if (union !== undefined) return union;
  const depth = (error: SchemaError) => error.instancePath.split('/').length;
  return errors.reduce<SchemaError | undefined>((best, error) => {
    if (best === undefined || depth(error) > depth(best)) return error;
    return depth(error) === depth(best) && error.keyword === 'anyOf' ? error : best;
  }, undefined);
}

function realBranches(branches: unknown): number {
  return Array.isArray(branches) ? branches.filter((branch: { type?: unknown }) => branch.type !== 'null').length : 0;
}

/** `/messages/0/content` -> `messages[0].content`. */
function fieldName(pointer: string): string {
  const segments = pointer.split('/').slice(1);
  const names = segments.map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~').slice(0, 64));
  return names.reduce((path, name) => (/^\d+$/.test(name) && path !== '' ? `${path}[${name}]` : path === '' ? name : `${path}.${name}`), '');
}
