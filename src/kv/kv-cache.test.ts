import fc from 'fast-check';
import { expect, test } from 'vitest';
import { KvCache } from './kv-cache.ts';
import type { KvGroup } from './layout.ts';
import type { KvSequence } from './sequence.ts';

const shape = { numLayers: 1, numKvHeads: 1, headDim: 8 };
const full = (numBlocks: number) => ({ name: 'full', kind: 'full', numBlocks, ...shape }) as const;
const windowed = (numBlocks: number, window: number) => ({ name: 'window', kind: 'window', window, numBlocks, ...shape }) as const;

function cacheOf(groups: ConstructorParameters<typeof KvCache>[0]['groups'], blockSize = 4, enablePrefixCaching = true): KvCache {
  return new KvCache({ groups, blockSize, enablePrefixCaching });
}

/** Computes all of `tokens` as one request would, leaving it open. */
function compute(kv: KvCache, tokens: number[], salt = ''): { sequence: KvSequence; ids: Int32Array; matched: number } {
  const sequence = kv.open();
  const ids = Int32Array.from(tokens);
  const matched = kv.matchPrefix(sequence, ids, ids.length - 1, salt);
  expect(kv.allocate(sequence, matched, ids.length)).toBe(true);
  kv.publish(sequence, ids, ids.length);
  return { sequence, ids, matched };
}

function copiesOf(kv: KvCache): number[][] {
  const target = { copies: new Int32Array(0) };
  const count = kv.drainCopies(target);
  return Array.from({ length: count }, (_, i) => [...target.copies.subarray(4 * i, 4 * i + 4)]);
}

const range = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);

test('asking how long a prefix is takes nothing and leaves nothing behind, whatever the salt', () => {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks: 8, numLayers: 1, numKvHeads: 1, headDim: 8 }];
  const cache = new KvCache({ groups, blockSize: 4, enablePrefixCaching: true });
  const tokens = Int32Array.from({ length: 10 }, (_, i) => i);
  const sequence = cache.open();
  cache.matchPrefix(sequence, tokens, 9, 'a');
  cache.allocate(sequence, 0, 10);
  cache.free(sequence, tokens, 10);
  expect(cache.prefixLength(tokens, 9, 'a')).toBe(9);
  expect(cache.prefixLength(tokens, 6, 'a')).toBe(6);
  for (let i = 0; i < 10; i++) expect(cache.prefixLength(tokens, 9, `other ${i}`)).toBe(0);
  expect([cache.numReferenced, cache.numCached]).toEqual([0, 3]);
  cache.check([]);
});

test('a second prompt shares the full blocks of the first by reference', () => {
  const kv = cacheOf([full(8)]);
  const first = compute(kv, range(9));
  const second = compute(kv, range(9));
  expect(second.matched).toBe(8);
  expect([...second.sequence.tables[0].slice(0, 2)]).toEqual([...first.sequence.tables[0].slice(0, 2)]);
  expect(kv.numReferenced).toBe(4);
  kv.check([first.sequence, second.sequence]);
});

test('a match that ends inside a block copies the head of that block into a block of its own', () => {
  const kv = cacheOf([full(8)]);
  const first = compute(kv, range(8));
  const second = compute(kv, [0, 1, 2, 3, 4, 5, 99, 98, 97]);
  expect(second.matched).toBe(6);
  const [, source, destination, tokens] = copiesOf(kv)[0];
  expect([source, tokens]).toEqual([first.sequence.tables[0][1], 2]);
  expect(destination).toBe(second.sequence.tables[0][1]);
  expect(destination).not.toBe(source);
  kv.check([first.sequence, second.sequence]);
});

test('the last token of a prompt that is wholly remembered is computed again, in a copied block that then gives way to the remembered one', () => {
  const kv = cacheOf([full(8)]);
  const first = compute(kv, range(8));
  kv.free(first.sequence, first.ids, 8);
  const second = compute(kv, range(8));
  expect(second.matched).toBe(7);
  expect(copiesOf(kv)).toHaveLength(1);
  expect(kv.numReferenced).toBe(2);
  expect(kv.numFree).toBe(6);
  kv.check([second.sequence]);
});

test('the unfinished last block of a finished request is remembered to the token', () => {
  const kv = cacheOf([full(8)]);
  const first = compute(kv, range(6));
  kv.free(first.sequence, first.ids, 6);
  expect(kv.numCached).toBe(2);
  expect(compute(kv, range(10)).matched).toBe(6);
});

test('prompts of different namespaces share nothing', () => {
  const kv = cacheOf([full(8)]);
  const first = compute(kv, range(8), 'tenant a');
  kv.free(first.sequence, first.ids, 8);
  expect(compute(kv, range(8), 'tenant b').matched).toBe(0);
});

test('without prefix caching nothing is matched and nothing stays', () => {
  const kv = cacheOf([full(8)], 4, false);
  const first = compute(kv, range(8));
  kv.free(first.sequence, first.ids, 8);
  expect(kv.numFree).toBe(8);
  expect(compute(kv, range(8)).matched).toBe(0);
});

test('eviction takes the leaf used longest ago and never a prefix that something still builds on', () => {
  const kv = cacheOf([full(6)]);
  const old = compute(kv, [...range(4), 10, 11, 12, 13]);
  kv.free(old.sequence, old.ids, 8);
  const young = compute(kv, [...range(4), 20, 21, 22, 23]);
  kv.free(young.sequence, young.ids, 8);
  expect(kv.numCached).toBe(3);
  const big = compute(kv, range(16, 100));
  kv.check([big.sequence]);
  // one of the three had to go: the tail of the older prompt
  kv.free(big.sequence, big.ids, 16);
  const again = compute(kv, [...range(4), 20, 21, 22, 23, 24]);
  expect(again.matched).toBe(8);
});

test('allocation takes nothing at all when one group has too few blocks', () => {
  const kv = cacheOf([full(8), windowed(2, 8)]);
  const sequence = kv.open();
  kv.matchPrefix(sequence, Int32Array.from(range(12)), 11);
  expect(kv.allocate(sequence, 0, 12)).toBe(false);
  expect(kv.numFree).toBe(10);
  kv.check([sequence]);
});

test('a window group frees what has slid out and marks it in the table', () => {
  const kv = cacheOf([full(8), windowed(4, 4)]);
  const sequence = kv.open();
  const ids = Int32Array.from(range(20));
  kv.matchPrefix(sequence, ids, 19);
  for (let computed = 0; computed < 20; computed += 4) {
    expect(kv.allocate(sequence, computed, computed + 4)).toBe(true);
    kv.publish(sequence, ids, computed + 4);
  }
  // the token at 16 reads keys 13 to 16
  expect([...sequence.tables[1].slice(0, 3)]).toEqual([-1, -1, -1]);
  expect(sequence.tables[1][3]).toBeGreaterThanOrEqual(0);
  expect([...sequence.tables[0].slice(0, 5)].every((block) => block >= 0)).toBe(true);
  kv.check([sequence]);
});

test('a prefix matches only to a length at which the window group still has what the next token reads', () => {
  const kv = cacheOf([full(16), windowed(3, 4)]);
  const ids = Int32Array.from(range(20));
  const first = kv.open();
  kv.matchPrefix(first, ids, 19);
  for (let computed = 0; computed < 20; computed += 4) {
    kv.allocate(first, computed, computed + 4);
    kv.publish(first, ids, computed + 4);
  }
  kv.free(first, ids, 20);
  // blocks 0 and 1 of the window group have been taken again for later ones
  const long = kv.open();
  expect(kv.matchPrefix(long, Int32Array.from([...range(20), 77]), 20)).toBe(20);
  expect([...long.tables[1].slice(0, 5)].map((b) => b >= 0)).toEqual([false, false, false, false, true]);
  kv.check([long]);
  kv.free(long, ids, 20);
  const short = kv.open();
  // to go on at 8 the tokens 5 to 7 would be needed in both groups
  expect(kv.matchPrefix(short, Int32Array.from([...range(8), 77]), 8)).toBe(0);
  kv.check([short]);
});

test('a fork shares full blocks by reference and copies the cut one', () => {
  for (const caching of [true, false]) {
    const kv = cacheOf([full(8)], 4, caching);
    const parent = compute(kv, range(7));
    const child = kv.open();
    expect(kv.fork(parent.sequence, child, 6)).toBe(true);
    expect(kv.allocate(child, 6, 7)).toBe(true);
    expect(child.tables[0][0]).toBe(parent.sequence.tables[0][0]);
    expect(child.tables[0][1]).not.toBe(parent.sequence.tables[0][1]);
    expect(copiesOf(kv)).toEqual([[0, parent.sequence.tables[0][1], child.tables[0][1], 2]]);
    kv.check([parent.sequence, child]);
    kv.free(parent.sequence, parent.ids, 7);
    kv.free(child, parent.ids, 7);
    kv.check([]);
    expect(kv.numReferenced).toBe(0);
  }
});

/** Random life of many sequences, with the content of every block followed, so that a wrong share shows as wrong tokens. */
function runRandomLife(groups: ConstructorParameters<typeof KvCache>[0]['groups'], blockSize: number, choices: readonly number[]): void {
  const kv = cacheOf(groups, blockSize);
  // what each slot of each group holds: the whole context up to its token, as text
  const content = groups.map((group) => Array.from({ length: group.numBlocks * blockSize }, () => ''));
  const live: { sequence: KvSequence; ids: Int32Array; computed: number }[] = [];
  const contextAt = (ids: Int32Array, index: number) => ids.subarray(0, index + 1).join(',');
  let at = 0;
  const draw = (n: number) => choices[at++ % choices.length] % n;
  for (let step = 0; step < choices.length; step++) {
    const action = draw(4);
    if (action === 0 && live.length < 5) {
      const ids = Int32Array.from({ length: 1 + draw(14) }, () => draw(2));
      const sequence = kv.open();
      live.push({ sequence, ids, computed: kv.matchPrefix(sequence, ids, ids.length - 1, draw(5) === 0 ? 'other' : '') });
    } else if (action === 1 && live.length > 0) {
      const [gone] = live.splice(draw(live.length), 1);
      kv.free(gone.sequence, gone.ids, gone.computed);
    } else if (live.length > 0) {
      const item = live[draw(live.length)];
      const target = Math.min(item.ids.length, item.computed + 1 + draw(5));
      if (kv.allocate(item.sequence, item.computed, target)) {
        for (const [group, source, destination, tokens] of copiesOf(kv)) {
          for (let i = 0; i < tokens; i++) content[group][destination * blockSize + i] = content[group][source * blockSize + i];
        }
        checkReads(groups, blockSize, content, item, target, contextAt);
        item.computed = target;
        kv.publish(item.sequence, item.ids, item.computed);
      }
    }
    kv.check(live.map((item) => item.sequence));
  }
  for (const item of live) kv.free(item.sequence, item.ids, item.computed);
  kv.check([]);
  kv.clearCached();
  expect(kv.numFree).toBe(kv.numBlocks);
}

function checkReads(
  groups: readonly Pick<KvGroup, 'kind' | 'window'>[],
  blockSize: number,
  content: string[][],
  { sequence, ids, computed }: { sequence: KvSequence; ids: Int32Array; computed: number },
  target: number,
  contextAt: (ids: Int32Array, index: number) => string,
): void {
  groups.forEach((group, g) => {
    const slot = (index: number) => sequence.tables[g][Math.floor(index / blockSize)] * blockSize + (index % blockSize);
    for (let index = computed; index < target; index++) {
      expect(slot(index)).toBeGreaterThanOrEqual(0);
      content[g][slot(index)] = contextAt(ids, index);
    }
    const first = group.kind !== 'window' ? 0 : Math.max(0, computed + 1 - (group.window ?? 0));
    for (let index = first; index < target; index++) expect(content[g][slot(index)]).toBe(contextAt(ids, index));
  });
}

test('whatever sequences do, every token reads exactly its own context and every block is accounted for', () => {
  const choices = fc.array(fc.nat(1000), { minLength: 50, maxLength: 250 });
  fc.assert(
    fc.property(choices, (c) => runRandomLife([full(9)], 4, c)),
    { numRuns: 80 },
  );
  fc.assert(
    fc.property(choices, (c) => runRandomLife([full(10), windowed(7, 5)], 4, c)),
    { numRuns: 80 },
  );
  fc.assert(
    fc.property(choices, (c) => runRandomLife([windowed(8, 3)], 2, c)),
    { numRuns: 80 },
  );
});
