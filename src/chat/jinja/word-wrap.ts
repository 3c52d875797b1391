/** The filter `wordwrap`: each line of a text is wrapped by itself. */
import { integerOf } from './arithmetic.ts';
import { valueError } from './errors.ts';
import { isAllSpace } from './numbers.ts';
import { truthy } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { joinTexts, splitLines, str } from './text.ts';
import type { Value } from './values.ts';

export function wordWrap(
  rt: Runtime,
  text: string,
  [width = 79, breakLong = true, wrapString = null, breakHyphens = true]: (Value | undefined)[],
): string {
  const limit = integerOf(rt, width);
  if (limit <= 0) throw valueError(`invalid width ${limit} (must be > 0)`);
  const separator = wrapString === null ? '\n' : str(rt, wrapString);
  const wrapped = splitLines(rt, text).map((line) => joinTexts(rt, wrapLine(rt, line, limit, truthy(breakLong), truthy(breakHyphens)), separator));
  return joinTexts(rt, wrapped, separator);
}

/** White space between words, and words, which may end behind a hyphen. */
const pieces = /\s+|(?:[^\s-]|-(?!\p{L}{2}))+-?|-/gu;

function wrapLine(rt: Runtime, line: string, limit: number, breakLong: boolean, breakHyphens: boolean): string[] {
  const chunks = (line.match(breakHyphens ? pieces : /\s+|\S+/gu) ?? []).reverse();
  const lines: string[] = [];
  for (let chunk = chunks.at(-1); chunk !== undefined; chunk = chunks.at(-1)) {
    rt.step();
    if (isAllSpace(chunk) && lines.length > 0) chunks.pop();
    const row: string[] = [];
    let length = 0;
    for (let next = chunks.at(-1); next !== undefined && length + next.length <= limit; next = chunks.at(-1)) {
      rt.step();
      row.push(next);
      length += next.length;
      chunks.pop();
    }
    const long = chunks.at(-1);
    if (long !== undefined && long.length > limit) breakChunk(chunks, row, long, limit - length, breakLong, breakHyphens);
    if (isAllSpace(row.at(-1) ?? '')) row.pop();
    if (row.length > 0) lines.push(row.join(''));
  }
  return lines;
}

/** A chunk that fits no line: its beginning fills up this one, at a hyphen if there is one. */
function breakChunk(chunks: string[], row: string[], chunk: string, room: number, breakLong: boolean, breakHyphens: boolean): void {
  if (!breakLong) {
    if (row.length > 0) return;
    row.push(chunk);
    chunks.pop();
    return;
  }
  const hyphen = breakHyphens ? chunk.lastIndexOf('-', room - 1) : -1;
  const end = hyphen > 0 && /[^-]/.test(chunk.slice(0, hyphen)) ? hyphen + 1 : room;
  row.push(chunk.slice(0, end));
  chunks[chunks.length - 1] = chunk.slice(end);
}
