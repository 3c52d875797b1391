/** Entry of the worker that compiles one large grammar, off the thread that serves. */
import { parentPort, workerData } from 'node:worker_threads';
import { type ErrorCode, toMillraceError } from '../base/errors.ts';
import type { Grammar } from '../sampling/grammar/grammar.ts';
import { compileStructuredOutput, type StructuredOutput } from '../sampling/grammar/structured-output.ts';

/** Sent back once. */
export type GrammarAnswer =
  | { readonly grammar: Grammar }
  | { readonly code: ErrorCode; readonly message: string; readonly param: string | undefined };

function compile(text: string): GrammarAnswer {
  try {
    return { grammar: compileStructuredOutput(JSON.parse(text) as StructuredOutput) };
  } catch (thrown) {
    const { code, message, param } = toMillraceError(thrown);
    return { code, message, param };
  }
}

parentPort?.postMessage(compile(workerData as string));
