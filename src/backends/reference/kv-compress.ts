import { invariant } from '../../base/errors.ts';
import type { OpAttrs } from '../../plan/ops/index.ts';
import type { ForwardBatch } from '../backend.ts';
import { keysOf } from './attention.ts';
import type { CacheLayer, ReferenceCache } from './cache.ts';
import type { Matrix, ReferenceKernel } from './kernel.ts';

type Attrs = OpAttrs['kv-compress'];

/** Scores, softmax and sums in f64. */
export const kvCompress: ReferenceKernel<'kv-compress'> = ({ inputs: [q], attrs }, _, { batch, cache }) => {
  const { kept } = batch;
  invariant(cache !== null && kept !== undefined, 'kv-compress needs a cache, and to know what stays');
  const layer = cache.layer(attrs.group, attrs.layer);
  for (let row = 0; row < batch.numRows; row++) {
    const [first, end] = [batch.rowStart[row], batch.rowStart[row + 1]];
    const numKeys = end === first ? 0 : batch.cacheIndex[end - 1] + 1;
    if (numKeys <= kept[2 * row]) continue;
    for (let kvHead = 0; kvHead < layer.numKvHeads; kvHead++) {
      const weights = attentionOf(q, attrs, batch, cache, row, kvHead);
      const chosen = chooseKeys(weights.subarray(0, numKeys - (end - first)), kept[2 * row] - (end - first), kept[2 * row + 1]);
      moveKeys(chosen, kept[2 * row], numKeys, attrs, batch, cache, row, kvHead);
    }
  }
};

/** Sum over the tokens of a row and the query heads of a KV head of each key's softmax weight. */
function attentionOf(q: Matrix, attrs: Attrs, batch: ForwardBatch, cache: ReferenceCache, row: number, kvHead: number): Float64Array {
  const layer = cache.layer(attrs.group, attrs.layer);
  const perKvHead = attrs.numHeads / layer.numKvHeads;
  const end = batch.rowStart[row + 1];
  const sums = new Float64Array(batch.visibleEnd[end - 1]);
  for (let token = batch.rowStart[row]; token < end; token++) {
    const { slots, count } = keysOf(batch, cache, { group: attrs.group, window: 0 }, row, token);
    for (let head = kvHead * perKvHead; head < (kvHead + 1) * perKvHead; head++) {
      const scores = scoresOf(q.data, q.offset + token * q.stride + head * attrs.headDim, slots, count, layer, kvHead, attrs);
      const maximum = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const sum = scores.reduce((total, score) => total + Math.exp(score - maximum), 0);
      for (let j = 0; j < count; j++) sums[j] += Math.exp(scores[j] - maximum) / sum;
    }
  }
  return sums;
}

function scoresOf(q: Float32Array, atQ: number, slots: Int32Array, count: number, layer: CacheLayer, kvHead: number, attrs: Attrs): Float64Array {
  const { headDim } = attrs;
  const [scale, cap] = [Math.fround(attrs.scale), Math.fround(attrs.softCap)];
  return Float64Array.from({ length: count }, (_, j) => {
    const at = slots[j] * layer.width + kvHead * headDim;
    let dot = 0;
    for (let i = 0; i < headDim; i++) dot += q[atQ + i] * layer.k[at + i];
    return cap > 0 ? cap * Math.tanh((dot * scale) / cap) : dot * scale;
  });
}

/** The `count` keys with the largest pooled weights, ties to the lower index, in ascending order. */
export function chooseKeys(weights: Float64Array, count: number, pool: number): number[] {
  const reach = Math.floor(pool / 2);
  const most = (part: Float64Array) => part.reduce((a, b) => Math.max(a, b), -Infinity);
  // a NaN would have no place in an order
  const pooled = weights.map((_, j) => most(weights.subarray(Math.max(0, j - reach), j + reach + 1))).map((x) => (Number.isNaN(x) ? -Infinity : x));
  const order = Array.from(pooled, (_, j) => j).sort((a, b) => pooled[b] - pooled[a] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** `chosen`, then the window, to cache indices from 0 on. An index never rises, so what is yet to be moved is not written over. */
function moveKeys(
  chosen: readonly number[],
  numKept: number,
  numKeys: number,
  { group, layer }: Attrs,
  batch: ForwardBatch,
  cache: ReferenceCache,
  row: number,
  kvHead: number,
): void {
  const { blockSize } = cache.spec;
  const table = (group * batch.numRows + row) * batch.maxBlocks;
  const slotOf = (index: number) => batch.blockTables[table + Math.floor(index / blockSize)] * blockSize + (index % blockSize);
  for (let i = 0; i < numKept; i++) cache.moveHead(group, layer, kvHead, slotOf(chosen[i] ?? numKeys - numKept + i), slotOf(i));
}
