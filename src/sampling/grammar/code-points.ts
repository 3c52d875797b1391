/** Sets of Unicode code points, and their UTF-8 spelling as ranges of bytes. */

/** Ascending, disjoint, not touching: `[lo, hi]` pairs. Surrogates are never members. */
export type CodePointSet = readonly (readonly [lo: number, hi: number])[];

export const MAX_CODE_POINT = 0x10ffff;

export function codePoints(ranges: Iterable<readonly [number, number]>): CodePointSet {
  const sorted = [...ranges].filter(([lo, hi]) => lo <= hi).sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [lo, hi] of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && lo <= last[1] + 1) last[1] = Math.max(last[1], hi);
    else merged.push([lo, hi]);
  }
  return merged.flatMap(([lo, hi]): [number, number][] => {
    if (hi < 0xd800 || lo > 0xdfff) return [[lo, hi]];
    const parts: [number, number][] = [
      [lo, 0xd7ff],
      [0xe000, hi],
    ];
    return parts.filter(([from, to]) => from <= to);
  });
}

export function complement(set: CodePointSet): CodePointSet {
  const rest: [number, number][] = [];
  let next = 0;
  for (const [lo, hi] of set) {
    if (lo > next) rest.push([next, lo - 1]);
    next = hi + 1;
  }
  if (next <= MAX_CODE_POINT) rest.push([next, MAX_CODE_POINT]);
  return codePoints(rest);
}

export function union(...sets: CodePointSet[]): CodePointSet {
  return codePoints(sets.flat());
}

export function intersection(a: CodePointSet, b: CodePointSet): CodePointSet {
  const both: [number, number][] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const lo = Math.max(a[i][0], b[j][0]);
    const hi = Math.min(a[i][1], b[j][1]);
    if (lo <= hi) both.push([lo, hi]);
    if (a[i][1] < b[j][1]) i++;
    else j++;
  }
  return both;
}

export function includesAll(set: CodePointSet, part: CodePointSet): boolean {
  return part.every(([lo, hi]) => set.some(([from, to]) => from <= lo && hi <= to));
}

export function includes(set: CodePointSet, codePoint: number): boolean {
  return set.some(([lo, hi]) => lo <= codePoint && codePoint <= hi);
}

export const anyCodePoint: CodePointSet = codePoints([[0, MAX_CODE_POINT]]);

/** White space and line ends as regular expressions of ECMA-262 know them. */
export const whiteSpace: CodePointSet = codePoints([
  [9, 13],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);

/**
 * Characters that stand for themselves in nearly every text: no control, quote, backslash, and of white space the space alone. A loop over at
 * least these lets a mask take all tokens that consist of them at once.
 */
export const plainCodePoints: CodePointSet = complement(
  union(
    codePoints([
      [0, 0x1f],
      [0x22, 0x22],
      [0x5c, 0x5c],
      [0x7f, 0x7f],
    ]),
    intersection(whiteSpace, [[0x80, MAX_CODE_POINT]]),
  ),
);

export const plainBeyondAscii: CodePointSet = intersection(plainCodePoints, [[0x80, MAX_CODE_POINT]]);

/** Properties that are kept. */
const MAX_PROPERTY_SETS = 64;
const propertySets = new Map<string, CodePointSet>();

/** A Unicode property as JavaScript knows it (`L`, `Script=Greek`); null where it does not. The first time takes some 50 ms. */
export function propertySet(name: string): CodePointSet | null {
  const known = propertySets.get(name);
  if (known !== undefined) return known;
  let pattern: RegExp;
  try {
    pattern = new RegExp(`^\\p{${name}}$`, 'u');
  } catch {
    return null;
  }
  const ranges: [number, number][] = [];
  for (let code = 0; code <= MAX_CODE_POINT; code++) {
    if (code === 0xd800) code = 0xe000;
    if (!pattern.test(String.fromCodePoint(code))) continue;
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === code - 1) last[1] = code;
    else ranges.push([code, code]);
  }
  if (propertySets.size >= MAX_PROPERTY_SETS) propertySets.clear();
  const set = codePoints(ranges);
  propertySets.set(name, set);
  return set;
}

/** One to four byte ranges, one after another. */
export type ByteSequence = readonly (readonly [lo: number, hi: number])[];

const sequencesOf = new WeakMap<CodePointSet, readonly ByteSequence[]>();

/** The UTF-8 spellings of a set: each member is matched by exactly one sequence. */
export function utf8Sequences(set: CodePointSet): readonly ByteSequence[] {
  const known = sequencesOf.get(set);
  if (known !== undefined) return known;
  const sequences: ByteSequence[] = [];
  for (const [lo, hi] of set) addRange(lo, hi, sequences);
  sequencesOf.set(set, sequences);
  return sequences;
}

const lastOfLength = [0x7f, 0x7ff, 0xffff, MAX_CODE_POINT];

function addRange(lo: number, hi: number, out: ByteSequence[]): void {
  for (const last of lastOfLength) {
    if (lo <= last && last < hi) {
      addRange(lo, last, out);
      addRange(last + 1, hi, out);
      return;
    }
  }
  if (hi <= 0x7f) {
    out.push([[lo, hi]]);
    return;
  }
  // cut until both ends differ only in whole groups of six bits
  for (let bits = 6; bits <= 18; bits += 6) {
    const mask = (1 << bits) - 1;
    if ((lo & ~mask) === (hi & ~mask)) break;
    if ((lo & mask) !== 0) {
      addRange(lo, lo | mask, out);
      addRange((lo | mask) + 1, hi, out);
      return;
    }
    if ((hi & mask) !== mask) {
      addRange(lo, (hi & ~mask) - 1, out);
      addRange(hi & ~mask, hi, out);
      return;
    }
  }
  const from = Buffer.from(String.fromCodePoint(lo));
  const to = Buffer.from(String.fromCodePoint(hi));
  out.push([...from].map((byte, i) => [byte, to[i]] as const));
}
