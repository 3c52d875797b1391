import type { MillraceError } from '../../base/errors.ts';
import type { Dialect } from '../dialect.ts';

const typeOfStatus: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error',
};

/** Errors and events of Anthropic's API (https://docs.anthropic.com/en/api/errors, .../build-with-claude/streaming). */
const frame = (event: object) => `event: ${'type' in event ? String(event.type) : 'message'}\ndata: ${JSON.stringify(event)}\n\n`;

export const anthropic: Dialect = {
  framing: {
    contentType: 'text/event-stream; charset=utf-8',
    frame,
    identified: (id, event) => `id: ${id}\n${frame(event)}`,
    ping: 'event: ping\ndata: {"type": "ping"}\n\n',
    end: '',
  },
  errorBody: (error: MillraceError) => ({
    type: 'error',
    error: {
      type: typeOfStatus[error.status] ?? (error.status < 500 ? 'invalid_request_error' : 'api_error'),
      message: error.message,
      code: error.code,
      param: error.param ?? null,
    },
  }),
};
