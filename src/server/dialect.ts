import type { MillraceError } from '../base/errors.ts';
import { errorBody } from './errors.ts';
import { eventFraming, type Framing } from './sse.ts';

/** How an API family writes what is the same everywhere: errors, and the frames of streams. */
export interface Dialect {
  readonly framing: Framing;
  errorBody(error: MillraceError): object;
}

export const openAi: Dialect = { framing: eventFraming, errorBody };
