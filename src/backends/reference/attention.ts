import { roundToBf16 } from '../../base/dtype.ts';
import { invariant } from '../../base/errors.ts';
import { ATTENTION_SPLIT } from '../../plan/ops/attention.ts';
import type { ForwardBatch } from '../backend.ts';
import type { ReferenceCache } from './cache.ts';
import type { ReferenceKernel } from './kernel.ts';

/**
 * Keys of a token in order: those below `visibleEnd` through the block table, then its ancestors, whose indices go on from `visibleEnd` (the
 * list names every key beyond `visibleEnd`, the token's own included). A window drops indices below `cacheIndex + 1 - window`.
 *
 * Each split of ATTENTION_SPLIT indices, aligned to 0, is reduced from nothing: maximum, sum of exponentials and weighted values in f64; splits
 * are merged in order; a sink joins the denominator last; one rounding to f32. No visible key gives 0. What `activation` rounds is rounded from f64.
 */
export const attention: ReferenceKernel<'attention'> = ({ inputs: [q], outputs: [out], weights, constants, attrs }, numRows, { batch, cache }) => {
  invariant(cache !== null, 'attention needs a cache');
  const layer = cache.layer(attrs.group, attrs.layer);
  const sinks = weights[0] ?? null;
  const slopes = constants[0] ?? null;
  const headsPerKvHead = attrs.numHeads / layer.numKvHeads;
  const stored = { ...layer, at: 0, atScale: 0 };
  const head = { ...attrs, valueDim: attrs.headDim, rounds: attrs.activation === 'bf16' };
  if (query.length < attrs.headDim) query = new Float32Array(attrs.headDim);
  for (let row = 0; row < batch.numRows; row++) {
    for (let token = batch.rowStart[row]; token < Math.min(numRows, batch.rowStart[row + 1]); token++) {
      const keys = keysOf(batch, cache, attrs, row, token);
      for (let h = 0; h < attrs.numHeads; h++) {
        const kvHead = Math.floor(h / headsPerKvHead);
        const at = q.offset + token * q.stride + h * attrs.headDim;
        const to = out.offset + token * out.stride + h * attrs.headDim;
        keys.slope = slopes === null ? 0 : slopes[h];
        keys.own = batch.cacheIndex[token];
        stored.at = kvHead * attrs.headDim;
        stored.atScale = kvHead;
        for (let i = 0; i < attrs.headDim; i++) query[i] = head.rounds ? roundToBf16(q.data[at + i]) : q.data[at + i];
        attend(query, 0, keys, stored, head, sinks === null ? null : sinks[h], out.data, to);
      }
    }
  }
};

/** Slots of the keys of one token, and the index of the first: index `first + i` lies in slot `slots[i]`. Reused by the next call. */
export interface Keys {
  slots: Int32Array;
  first: number;
  count: number;
  /** ALiBi: `slope * (index - own)` joins the score; 0: none. */
  slope: number;
  own: number;
}

const keysScratch: Keys = { slots: new Int32Array(1024), first: 0, count: 0, slope: 0, own: 0 };

export function keysOf(
  batch: ForwardBatch,
  cache: ReferenceCache,
  { group, window }: { readonly group: number; readonly window: number },
  row: number,
  token: number,
): Keys {
  const { blockSize } = cache.spec;
  const visibleEnd = batch.visibleEnd[token];
  const first = window === 0 ? 0 : Math.max(0, batch.cacheIndex[token] + 1 - Math.abs(window));
  const ancestors = batch.ancestors;
  const [ancestorBegin, ancestorEnd] = ancestors === undefined ? [0, 0] : [ancestors.start[token], ancestors.start[token + 1]];
  const end = window < 0 ? Math.min(visibleEnd, batch.cacheIndex[token] - window) : visibleEnd + ancestorEnd - ancestorBegin;
  const keys = keysScratch;
  keys.first = first;
  keys.count = Math.max(0, end - first);
  if (keys.slots.length < keys.count) keys.slots = new Int32Array(2 * keys.count);
  const table = (group * batch.numRows + row) * batch.maxBlocks;
  for (let index = first; index < Math.min(end, visibleEnd); index++) {
    keys.slots[index - first] = batch.blockTables[table + Math.floor(index / blockSize)] * blockSize + (index % blockSize);
  }
  if (ancestors === undefined) return keys;
  const list = group * ancestors.start[batch.numTokens];
  for (let index = Math.max(first, visibleEnd); index < end; index++) {
    keys.slots[index - first] = ancestors.slots[list + ancestorBegin + index - visibleEnd];
  }
  return keys;
}

let query = new Float32Array(0);
const scores = new Float64Array(ATTENTION_SPLIT);
let splitSum = new Float64Array(256);
let total = new Float64Array(256);

/** Where a head's keys and values are: key of a slot at `k[slot * width + at]`, value at the same place of `v`. */
interface Stored {
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly width: number;
  readonly at: number;
  /** The scale of a slot's value at `scales[slot * numKvHeads + atScale]`. */
  readonly scales: Float32Array;
  readonly numKvHeads: number;
  readonly atScale: number;
}

interface HeadAttrs {
  readonly headDim: number;
  /** Elements of a value. */
  readonly valueDim: number;
  readonly scale: number;
  readonly softCap: number;
  /** Whether weights are rounded to bf16. */
  readonly rounds: boolean;
}

/** Attention of one query head over its keys, into `out[to ...]`. */
export function attend(
  q: Float32Array,
  atQ: number,
  keys: Keys,
  stored: Stored,
  attrs: HeadAttrs,
  sink: number | null,
  out: Float32Array,
  to: number,
): void {
  const { valueDim } = attrs;
  if (total.length < valueDim) {
    total = new Float64Array(valueDim);
    splitSum = new Float64Array(valueDim);
  }
  total.fill(0, 0, valueDim);
  let maximum = -Infinity;
  let denominator = 0;
  const end = keys.first + keys.count;
  for (let begin = keys.first; begin < end; ) {
    const splitEnd = Math.min(end, (Math.floor(begin / ATTENTION_SPLIT) + 1) * ATTENTION_SPLIT);
    const splitMaximum = scoreSplit(q, atQ, keys, begin, splitEnd, stored, attrs);
    const weight = sumSplit(keys, begin, splitEnd, stored, attrs, splitMaximum);
    const merged = Math.max(maximum, splitMaximum);
    const keep = maximum === -Infinity ? 0 : Math.exp(maximum - merged);
    const join = Math.exp(splitMaximum - merged);
    for (let i = 0; i < valueDim; i++) total[i] = total[i] * keep + splitSum[i] * join;
    denominator = denominator * keep + weight * join;
    maximum = merged;
    begin = splitEnd;
  }
  if (sink !== null && denominator > 0) denominator += Math.exp(sink - maximum);
  for (let i = 0; i < valueDim; i++) out[to + i] = denominator === 0 ? 0 : total[i] / denominator;
}

/** Fills `scores` with those of indices [begin, end) and returns the largest; NaN if any is. */
function scoreSplit(
  q: Float32Array,
  atQ: number,
  keys: Keys,
  begin: number,
  end: number,
  stored: Stored,
  { headDim, scale, softCap }: HeadAttrs,
): number {
  const factor = Math.fround(scale);
  const cap = Math.fround(softCap);
  let maximum = -Infinity;
  for (let index = begin; index < end; index++) {
    const at = keys.slots[index - keys.first] * stored.width + stored.at;
    let dot = 0;
    for (let i = 0; i < headDim; i++) dot += q[atQ + i] * stored.k[at + i];
    let score = dot * factor;
    if (cap > 0) score = cap * Math.tanh(score / cap);
    if (keys.slope !== 0) score += keys.slope * (index - keys.own);
    scores[index - begin] = score;
    maximum = Math.max(maximum, score);
  }
  return maximum;
}

/** Fills `splitSum` with the weighted values of a split and returns the sum of its weights. */
function sumSplit(keys: Keys, begin: number, end: number, stored: Stored, { valueDim, rounds }: HeadAttrs, maximum: number): number {
  splitSum.fill(0, 0, valueDim);
  let sum = 0;
  for (let index = begin; index < end; index++) {
    const weight = Math.exp(scores[index - begin] - maximum);
    const slot = keys.slots[index - keys.first];
    const at = slot * stored.width + stored.at;
    const factor = rounds ? roundedWeight(weight, stored.scales[slot * stored.numKvHeads + stored.atScale]) : weight;
    for (let i = 0; i < valueDim; i++) splitSum[i] += factor * stored.v[at + i];
    sum += weight;
  }
  return sum;
}

/** What multiplies a value `scale * level` when `weight * scale` is rounded to bf16; values under a scale of 0 are 0. */
function roundedWeight(weight: number, scale: number): number {
  return scale === 0 ? weight : roundToBf16(weight * scale) / scale;
}
