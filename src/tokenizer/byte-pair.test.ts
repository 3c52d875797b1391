import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BytePairModel, buildMergeTable, IdBuffer } from './byte-pair.ts';
import type { MergeList } from './definition.ts';
import { Vocabulary } from './vocabulary.ts';

/** Random merges over letters: pairs of known tokens whose joint spelling becomes a token; ranks may repeat. */
const merges = fc.array(fc.tuple(fc.nat(200), fc.nat(200), fc.nat(12)), { maxLength: 30 });

function build(picks: [number, number, number][]): { tokens: string[]; list: MergeList } {
  const tokens = ['a', 'b', 'c', 'd'];
  const rows: number[][] = [];
  for (const [a, b, rank] of picks) {
    const left = a % tokens.length;
    const right = b % tokens.length;
    const spelling = tokens[left] + tokens[right];
    if (spelling.length > 40) continue;
    if (!tokens.includes(spelling)) tokens.push(spelling);
    rows.push([left, right, tokens.indexOf(spelling), rank]);
  }
  const column = (i: number): Int32Array => Int32Array.from(rows, (row) => row[i]);
  return { tokens, list: { left: column(0), right: column(1), merged: column(2), rank: column(3) } };
}

/** The definition, word for word. */
function mergeNaively(text: string, tokens: string[], list: MergeList): number[] {
  const symbols = [...text].map((c) => tokens.indexOf(c));
  const find = (left: number, right: number): number => list.left.findIndex((l, i) => l === left && list.right[i] === right);
  for (;;) {
    let best = -1;
    let bestRank = Number.POSITIVE_INFINITY;
    for (let i = 0; i + 1 < symbols.length; i++) {
      const merge = find(symbols[i], symbols[i + 1]);
      if (merge >= 0 && list.rank[merge] < bestRank) [best, bestRank] = [i, list.rank[merge]];
    }
    if (best < 0) return symbols;
    symbols.splice(best, 2, list.merged[find(symbols[best], symbols[best + 1])]);
  }
}

test('pieces of any length are merged by rank, then from the left', () => {
  const piece = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'd'), minLength: 1, maxLength: 160 });
  fc.assert(
    fc.property(merges, fc.array(piece, { minLength: 1, maxLength: 4 }), (picks, pieces) => {
      const { tokens, list } = build(picks);
      const blocked = new Uint8Array(tokens.length);
      const data = {
        kind: 'byte-pair' as const,
        merges: buildMergeTable(list, blocked),
        blocked,
        cutsBeforeSpaceMark: false,
        byteLevel: false,
        byteFallback: false,
        ignoreMerges: false,
        unkId: -1,
        fuseUnknown: false,
      };
      const model = new BytePairModel(data, Vocabulary.build(tokens));
      for (const text of pieces) {
        const out = new IdBuffer();
        model.encode(text, out);
        expect([...out.take()]).toEqual(mergeNaively(text, tokens, list));
      }
    }),
    { numRuns: 300 },
  );
});

test('a merge into a blocked token is never made', () => {
  const { tokens, list } = build([[0, 1, 0]]);
  const blocked = new Uint8Array(tokens.length);
  blocked[tokens.indexOf('ab')] = 1;
  const data = {
    kind: 'byte-pair' as const,
    merges: buildMergeTable(list, blocked),
    blocked,
    cutsBeforeSpaceMark: false,
    byteLevel: false,
    byteFallback: false,
    ignoreMerges: true,
    unkId: -1,
    fuseUnknown: false,
  };
  const out = new IdBuffer();
  new BytePairModel(data, Vocabulary.build(tokens)).encode('ab', out);
  expect([...out.take()]).toEqual([0, 1]);
});

test('unknown characters in a row become one unknown token when they are to be fused, else one each', () => {
  const tokens = ['a', '<unk>'];
  const blocked = new Uint8Array(2);
  const none = { left: new Int32Array(0), right: new Int32Array(0), merged: new Int32Array(0), rank: new Int32Array(0) };
  const encode = (fuseUnknown: boolean): number[] => {
    const data = {
      kind: 'byte-pair' as const,
      merges: buildMergeTable(none, blocked),
      blocked,
      cutsBeforeSpaceMark: false,
      byteLevel: false,
      byteFallback: false,
      ignoreMerges: false,
      unkId: 1,
      fuseUnknown,
    };
    const out = new IdBuffer();
    new BytePairModel(data, Vocabulary.build(tokens)).encode('axyaz', out);
    return [...out.take()];
  };
  expect(encode(true)).toEqual([0, 1, 0, 1]);
  expect(encode(false)).toEqual([0, 1, 1, 0, 1]);
});
