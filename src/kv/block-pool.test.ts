import { expect, test } from 'vitest';
import { BlockPool, NO_BLOCK } from './block-pool.ts';

test('a pool gives each block once and then none', () => {
  const pool = new BlockPool(3);
  const taken = [pool.take(), pool.take(), pool.take()];
  expect(new Set(taken).size).toBe(3);
  expect(pool.take()).toBe(NO_BLOCK);
  pool.check(Int32Array.of(1, 1, 1));
});

test('a block that the tree remembers becomes cached when its last holder leaves, any other becomes free', () => {
  const pool = new BlockPool(2);
  const remembered = pool.take();
  const other = pool.take();
  pool.bind(remembered, 7);
  pool.hold(remembered);
  pool.release(remembered);
  expect(pool.numReferenced).toBe(2);
  pool.release(remembered);
  pool.release(other);
  expect([pool.numFree, pool.numCached, pool.numReferenced]).toEqual([1, 1, 0]);
  expect(pool.node(remembered)).toBe(7);
  pool.check(new Int32Array(2));
});

test('the least recently used cached block is the one released longest ago and not held since', () => {
  const pool = new BlockPool(3);
  const blocks = [pool.take(), pool.take(), pool.take()];
  blocks.forEach((block, node) => {
    pool.bind(block, node);
  });
  for (const block of blocks) pool.release(block);
  pool.hold(blocks[0]);
  pool.release(blocks[0]);
  expect(pool.leastRecentlyUsed()).toBe(blocks[1]);
  pool.unbind(blocks[1]);
  expect(pool.leastRecentlyUsed()).toBe(blocks[2]);
  expect(pool.numFree).toBe(1);
  pool.check(new Int32Array(3));
});

test('releasing a block that nobody holds is an error of ours and says so', () => {
  const pool = new BlockPool(1);
  expect(() => pool.release(0)).toThrow('without a holder');
});

test('the check finds a holder that was never counted', () => {
  const pool = new BlockPool(2);
  const block = pool.take();
  const holders = new Int32Array(2);
  holders[block] = 2;
  expect(() => pool.check(holders)).toThrow('counts 1 holders but has 2');
});
