/** The filter `wordwrap`: each line of a text is wrapped by itself. */
import { integerOf } from './arithmetic.ts';
import { valueError } from './errors.ts';
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

function wrapLine(rt: Runtime, line: string, limit: number, breakLong: boolean, breakHyphens: boolean): string[] {
  const lines: string[] = [];
  let current = '';
  const close = (): void => {
    if (current.trimEnd() !== '') lines.push(current.trimEnd());
    current = '';
  };
  for (const chunk of line.match(breakHyphens ? /\s+|(?:[^\s-]|-(?!\p{L}{2}))+-?|-/gu : /\s+|\S+/gu) ?? []) {
    rt.step();
    let rest = chunk;
    if (current.length + rest.length > limit) {
      if (rest.trim() === '') {
        close();
        continue;
      }
      if (rest.length <= limit || !breakLong) close();
      while (breakLong && rest.length > limit) {
        rt.step();
        const room = Math.max(1, limit - current.length);
        current += rest.slice(0, room);
        rest = rest.slice(room);
        close();
      }
    }
    if (current === '' && lines.length > 0 && rest.trim() === '') continue;
    current += rest;
  }
  close();
  return lines;
}
