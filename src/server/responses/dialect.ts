import { type Dialect, openAi } from '../dialect.ts';

function frame(value: object): string {
  const event = 'error' in value ? { ...(value.error as object), type: 'error' } : value;
  return `event: ${'type' in event ? String(event.type) : 'message'}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** Events by name, without a terminator; errors before the stream are those of the other endpoints. */
export const responsesDialect: Dialect = {
  framing: { ...openAi.framing, frame, identified: (id, value) => `id: ${id}\n${frame(value)}`, end: '' },
  errorBody: openAi.errorBody,
};
