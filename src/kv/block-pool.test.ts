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

test('cached blocks go in the order of their keys, those of equal keys in the order of their coming, and none that is held', () => {
  const pool = new BlockPool(4);
  const blocks = [pool.take(), pool.take(), pool.take(), pool.take()];
  blocks.forEach((block, node) => {
    pool.bind(block, node);
    pool.release(block);
    pool.offer(block, node === 3 ? 0 : 5);
  });
  pool.hold(blocks[0]);
  const order: number[] = [];
  for (let block = pool.nextToEvict; block !== NO_BLOCK; block = pool.nextToEvict) {
    order.push(block);
    pool.unbind(block);
  }
  expect(order).toEqual([blocks[3], blocks[1], blocks[2]]);
  expect(pool.numFree).toBe(3);
  pool.check(Int32Array.from({ length: 4 }, (_, block) => Number(block === blocks[0])));
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
