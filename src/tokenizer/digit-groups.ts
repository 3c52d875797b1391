/**
 * Patterns that count digits in threes from the end of their run, as `1 234 567`. Written as a regular expression with a look ahead to that end, each costs a
 * walk to it from every digit: hours for a megabyte of digits. Those that are in use are told by their text and found in one walk.
 */
import { compilePattern } from './pattern.ts';

/** As a match of a regular expression. */
export interface Found {
  readonly index: number;
  readonly 0: string;
}

export type Finder = (text: string) => Iterable<Found>;

const digit = String.raw`(\\d|\[0-9\]|\\p\{N\}|\\p\{Nd\})`;
/** Empty matches before each group: `(?=(\d{3})+(?!\d))`, behind a digit or anywhere. */
const cuts = new RegExp(String.raw`^(?:\(\?<=${digit}\))?\(\?=\((?:\?:)?${digit}\{3\}\)\+\(\?!${digit}\)\)$`);
/** The groups: `\d{1,3}(?=(?:\d{3})*\b)`. What ends a run is never true inside one. */
const groups = new RegExp(String.raw`^${digit}\{1,3\}\(\?=\((?:\?:)?${digit}\{3\}\)\*(\\b|\(\?!${digit}\)|\(\?:\\P\{N\}\|\$\))\)$`);

/** @returns null for any other pattern */
export function digitGroupFinder(source: string): Finder | null {
  const cut = cuts.exec(source);
  if (cut !== null) {
    const [, behind, counted, stop] = cut as unknown as [string, string | undefined, string, string];
    if (counted !== stop || (behind !== undefined && behind !== counted)) return null;
    return (text) => findCuts(text, runsOf(counted), behind !== undefined);
  }
  const group = groups.exec(source);
  if (group === null) return null;
  const [, first, counted, end, stop] = group as unknown as [string, string, string, string, string | undefined];
  if (first !== counted || (stop !== undefined && stop !== counted)) return null;
  const endOfRun = compiled(`(?=${end})`, 'y');
  return (text) => findGroups(text, runsOf(counted), endOfRun);
}

function runsOf(kind: string): RegExp {
  return compiled(`${kind}+`, 'g');
}

function compiled(source: string, flag: 'g' | 'y'): RegExp {
  const pattern = compilePattern({ type: 'Split', pattern: { Regex: source } });
  return new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, '') + flag);
}

/** Position of each digit of a run, and of its end: digits beyond U+FFFF are two units long. */
function placesOf({ index, 0: run }: Found): number[] {
  const places: number[] = [];
  let at = index;
  for (const one of run) {
    places.push(at);
    at += one.length;
  }
  places.push(at);
  return places;
}

function* findCuts(text: string, runs: RegExp, onlyBehindDigits: boolean): Iterable<Found> {
  for (const run of text.matchAll(runs)) {
    const places = placesOf(run);
    const count = places.length - 1;
    for (let i = count % 3; i < count; i += 3) if (i > 0 || !onlyBehindDigits) yield { index: places[i], 0: '' };
  }
}

function* findGroups(text: string, runs: RegExp, endOfRun: RegExp): Iterable<Found> {
  for (const run of text.matchAll(runs)) {
    const places = placesOf(run);
    const count = places.length - 1;
    endOfRun.lastIndex = places[count];
    if (!endOfRun.test(text)) continue;
    for (let start = 0, end = count % 3 || 3; start < count; start = end, end += 3) {
      yield { index: places[start], 0: text.slice(places[start], places[end]) };
    }
  }
}
