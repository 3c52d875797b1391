/** JSON of a stranger: counted before it is parsed, since a parser given millions of names holds the thread and the heap for long. */
import { MillraceError } from '../base/errors.ts';
import { invalidFile } from './tensor-layout.ts';

/** Members in one object: the largest checkpoints have 150,000 tensors. */
const MAX_MEMBERS = 250_000;
/** Members and, apart, arrays and objects in the whole text: a tensor takes four and three. */
const MAX_TOTAL = 1_000_000;
const MAX_DEPTH = 16;

const [QUOTE, BACKSLASH, COLON] = [0x22, 0x5c, 0x3a];
const OPENING = new Set([0x5b, 0x7b]);
const CLOSING = new Set([0x5d, 0x7d]);

/** Parses a JSON object. `path` and `what` are for messages. @throws WEIGHTS_FILE_INVALID when it is none, or absurd in size */
export function parseBoundedObject(path: string, what: string, bytes: Uint8Array): Record<string, unknown> {
  const complaint = measure(bytes);
  if (complaint !== null) throw invalidFile(path, `${what} ${complaint}.`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8'));
  } catch (error) {
    const reason = (error as Error).message.slice(0, 120);
    throw new MillraceError('WEIGHTS_FILE_INVALID', { message: `${path}: ${what} is not JSON (${reason}).`, cause: error });
  }
  if (!isObject(parsed)) throw invalidFile(path, `${what} is not a JSON object.`);
  return parsed;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What is absurd about the text, or null. One pass over the bytes; strings are stepped over. */
function measure(bytes: Uint8Array): string | null {
  const members = new Int32Array(MAX_DEPTH + 1);
  let depth = 0;
  let numMembers = 0;
  let numContainers = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) i = endOfString(bytes, i);
    else if (byte === COLON) {
      if (++members[depth] > MAX_MEMBERS) return `has an object of more than ${MAX_MEMBERS} members`;
      if (++numMembers > MAX_TOTAL) return `has more than ${MAX_TOTAL} members`;
    } else if (OPENING.has(byte)) {
      if (++depth > MAX_DEPTH) return `is nested deeper than ${MAX_DEPTH} levels`;
      if (++numContainers > MAX_TOTAL) return `has more than ${MAX_TOTAL} arrays and objects`;
      members[depth] = 0;
    } else if (CLOSING.has(byte)) depth = Math.max(0, depth - 1);
  }
  return null;
}

/** Index of the quote that ends the string begun at `start`. */
function endOfString(bytes: Uint8Array, start: number): number {
  let at = start + 1;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}
