/** What a grammar may cost. User input decides the grammar, so each of these is a 400 (or ends one request), never a hang. */
import { MillraceError } from '../../base/errors.ts';

export const grammarLimits = {
  /** UTF-16 units of a schema, pattern or grammar as text. */
  sourceLength: 1 << 20,
  /** Nesting of a schema, pattern or grammar. */
  nesting: 200,
  rules: 20_000,
  /** Automaton nodes of the whole grammar. */
  nodes: 120_000,
  edges: 400_000,
  /** Branches that combining `anyOf`, `allOf` and kin may come to. */
  branches: 512,
  /** Plain schemas that a schema comes to, those of its parts included. */
  parts: 20_000,
  /** Schemas looked at, each as often as it takes part in a combination. */
  schemaParts: 100_000,
  /** Pairs of schemas that are merged into one, over the whole schema. */
  merged: 50_000,
  /** States of one pattern (with its length bounds, excluded names and so on). */
  patternStates: 4_000,
  /** Largest bound of a repetition. */
  repeat: 1_000_000,
  /** Parallel readings of one text. */
  configs: 4_096,
  /** Nesting of the text itself. */
  depth: 400,
  /** States kept at a time; more begin a new cache. */
  states: 8_192,
  /** Milliseconds that a worker may compile one grammar. */
  compileMs: 30_000,
  /** MiB of its heap. */
  compileHeapMb: 1024,
  /** Bytes of states and masks that all grammars of an engine keep at a time. */
  keptBytes: 128 << 20,
} as const;

/** Thrown by `spendWork`: not the user's fault, the work belongs elsewhere. */
export class WorkSpent extends Error {}

let workLeft = Number.POSITIVE_INFINITY;

/** Does something that may spend so much work. @throws WorkSpent when it takes more */
export function withWork<T>(limit: number, work: () => T): T {
  workLeft = limit;
  try {
    return work();
  } finally {
    workLeft = Number.POSITIVE_INFINITY;
  }
}

/** Counts work whose amount the size of the input does not tell, in units of some microseconds. */
export function spendWork(amount: number): void {
  workLeft -= amount;
  if (workLeft < 0) throw new WorkSpent();
}

/** @param culprit what is too large, as the user wrote it */
export function tooLarge(culprit: string, expected: string, received?: string): MillraceError {
  return new MillraceError('GRAMMAR_TOO_LARGE', {
    message: `The grammar of the structured output is too large: ${culprit}.`,
    expected,
    ...(received === undefined ? {} : { received }),
  });
}

export function grammarInvalid(message: string, param?: string): MillraceError {
  return new MillraceError('GRAMMAR_INVALID', { message, ...(param === undefined ? {} : { param }) });
}

/** @param what the keyword or construct, and where it stands */
export function grammarUnsupported(what: string, hint = 'It is refused rather than ignored, since the output could then break it.'): MillraceError {
  return new MillraceError('GRAMMAR_UNSUPPORTED', { message: `The structured output uses ${what}, which is not supported.`, hint });
}
