import type { MillraceError } from '../base/errors.ts';
import type { OutputStream } from './context.ts';

/** Writes code, message and hint; as one line of JSON for scripts; with the stack for those who debug. */
export function printError(error: MillraceError, stream: OutputStream, { json, debug }: { json: boolean; debug: boolean }): void {
  if (json) {
    const { code, message, expected, received, hint, param } = error;
    stream.write(`${JSON.stringify({ error: { code, message, expected, received, hint, param } })}\n`);
    return;
  }
  const suffix = ` Hint: ${error.hint}`;
  const message = error.message.endsWith(suffix) ? error.message.slice(0, -suffix.length) : error.message;
  stream.write(`millrace: ${error.code}: ${message}\n`);
  if (error.hint !== undefined) stream.write(`  hint: ${error.hint}\n`);
  if (debug) stream.write(`${error.stack ?? ''}\n${error.cause instanceof Error ? `caused by ${error.cause.stack ?? error.cause.message}\n` : ''}`);
}
