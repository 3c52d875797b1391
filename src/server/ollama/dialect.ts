import type { Dialect } from '../dialect.ts';

/** A line of JSON each, and errors that are a sentence (https://github.com/ollama/ollama/blob/main/docs/api.md). */
export const ollama: Dialect = {
  framing: {
    contentType: 'application/x-ndjson',
    frame: (value) => `${JSON.stringify(value)}\n`,
    ping: null,
    end: '',
  },
  errorBody: ({ message, code, param }) => ({ error: message, code, param: param ?? null }),
};
