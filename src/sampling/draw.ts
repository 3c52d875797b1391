/**
 * From processed logits to one token: temperature, top-k, softmax, top-p, min-p, draw. `sampler.ts` tells the whole order.
 *
 * Weights are `exp((logit - maximum) / temperature)`, each operation in f32, so the largest is exactly 1. "Descending" means by logit, ties to
 * the lower id.
 *
 * - Neither top-k nor top-p: ids in vocabulary order. The total is a blocked sum (`sumBlocks`). The draw walks block sums, then the ids of the
 *   block that it falls into.
 * - top-k or top-p: ids in descending order; all sums are sequential in that order, save the softmax total of top-p without top-k, which
 *   is the blocked sum over the vocabulary. top-p keeps the shortest prefix whose weights reach `f32(topP * total)`.
 *
 * A walk ends at the first id where the running sum exceeds `f32(u * total of what is kept)`, at the latest at the last id of weight above 0.
 */
import { invariant } from '../base/errors.ts';
import { expF32, SUM_BLOCK, sumBlocks } from './arithmetic.ts';

const f = Math.fround;

/** A sort key is a 32-bit word over an id of 21 bits: 53 bits, what a double holds exactly. */
const MAX_VOCABULARY = 2 ** 21;

export interface Shape {
  /** Above 0. */
  readonly temperature: number;
  /** 0: off. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. Drops ids whose probability is below this share of the largest. */
  readonly minP: number;
}

/** Scratch of one vocabulary, reused from row to row. */
export class TokenDrawer {
  readonly #vocabSize: number;
  readonly #weights: Float32Array;
  readonly #blockSums: Float32Array;
  readonly #order: DescendingOrder;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
    this.#weights = new Float32Array(vocabSize);
    this.#blockSums = new Float32Array(Math.ceil(vocabSize / SUM_BLOCK));
    this.#order = new DescendingOrder(vocabSize);
  }

  /** One token by the uniform number `u` in [0, 1). `maximum` is the largest logit: finite. No logit is NaN. */
  draw(logits: Float32Array, maximum: number, shape: Shape, u: number): number {
    const topK = shape.topK > 0 && shape.topK < this.#vocabSize ? shape.topK : 0;
    if (topK === 0 && shape.topP >= 1) return this.#drawInVocabularyOrder(logits, maximum, shape, u);
    return this.#drawInDescendingOrder(logits, maximum, topK, shape, u);
  }

  #drawInVocabularyOrder(logits: Float32Array, maximum: number, { temperature, minP }: Shape, u: number): number {
    const weights = this.#weights;
    this.#fillWeights(logits, maximum, temperature);
    if (minP > 0) for (let id = 0; id < this.#vocabSize; id++) if (weights[id] < minP) weights[id] = 0;
    const target = f(u * sumBlocks(weights, this.#vocabSize, this.#blockSums));
    let sum = 0;
    let block = 0;
    // The last block sum brings `sum` to the total, which is above the target (u < 1), so this ends.
    for (; f(sum + this.#blockSums[block]) <= target; block++) sum = f(sum + this.#blockSums[block]);
    const end = Math.min(this.#vocabSize, (block + 1) * SUM_BLOCK);
    let token = block * SUM_BLOCK;
    for (let id = token; id < end; id++) {
      if (weights[id] > 0) token = id;
      sum = f(sum + weights[id]);
      if (sum > target) break;
    }
    return token;
  }

  #drawInDescendingOrder(logits: Float32Array, maximum: number, topK: number, shape: Shape, u: number): number {
    const order = this.#order;
    const weights = this.#weights;
    order.start(logits, maximum);
    let kept = 0;
    let total = 0;
    let threshold = Infinity;
    if (topK === 0) {
      this.#fillWeights(logits, maximum, shape.temperature);
      threshold = f(shape.topP * sumBlocks(weights, this.#vocabSize));
    } else if (shape.topP < 1) {
      let sum = 0;
      for (let i = 0; i < topK && order.has(i); i++) sum = f(sum + weightOf(logits[order.id(i)], maximum, shape.temperature));
      threshold = f(shape.topP * sum);
    }
    // From here `weights` is by place in the descending order: safe, since the blocked total has been taken.
    for (; order.has(kept) && (topK === 0 || kept < topK); ) {
      const weight = weightOf(logits[order.id(kept)], maximum, shape.temperature);
      if (kept > 0 && (weight === 0 || weight < shape.minP)) break;
      weights[kept++] = weight;
      total = f(total + weight);
      if (total >= threshold) break;
    }
    const target = f(u * total);
    let sum = 0;
    for (let i = 0; i < kept; i++) {
      sum = f(sum + weights[i]);
      if (sum > target) return order.id(i);
    }
    return order.id(kept - 1);
  }

  #fillWeights(logits: Float32Array, maximum: number, temperature: number): void {
    for (let id = 0; id < this.#vocabSize; id++) this.#weights[id] = weightOf(logits[id], maximum, temperature);
  }
}

function weightOf(logit: number, maximum: number, temperature: number): number {
  return expF32(f(f(logit - maximum) / temperature));
}

/** Ids of a row in descending order, sorted only as far as they are asked for. -Infinity is left out. */
class DescendingOrder {
  readonly #vocabSize: number;
  /** One number an id: sorts as (logit descending, id ascending) and holds the id in its lower part. */
  readonly #keys: Float64Array;
  readonly #bits: Int32Array;
  readonly #float: Float32Array;
  #logits: Float32Array = new Float32Array(0);
  #maximum = 0;
  /** Ids whose logit is within this of the maximum have been gathered. */
  #depth = 0;
  #count = 0;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
    this.#keys = new Float64Array(vocabSize);
    this.#float = new Float32Array(1);
    this.#bits = new Int32Array(this.#float.buffer);
    invariant(vocabSize <= MAX_VOCABULARY, 'the vocabulary is larger than a sort key can hold');
  }

  start(logits: Float32Array, maximum: number): void {
    this.#logits = logits;
    this.#maximum = maximum;
    this.#depth = 0.5;
    this.#count = 0;
  }

  /** Whether there is an id at place `i`. */
  has(i: number): boolean {
    while (i >= this.#count && this.#depth < Infinity) this.#gather();
    return i < this.#count;
  }

  /** The id at place `i`, once `has(i)` said so. */
  id(i: number): number {
    return this.#keys[i] % MAX_VOCABULARY;
  }

  /** Gathers and sorts all ids down to a depth four times as deep. What was known keeps its place: the order is the same, only longer. */
  #gather(): void {
    this.#depth = this.#depth > 1000 ? Infinity : this.#depth * 4;
    const least = this.#maximum - this.#depth;
    this.#count = 0;
    for (let id = 0; id < this.#vocabSize; id++) {
      const logit = this.#logits[id];
      if (logit >= least && logit > -Infinity) this.#keys[this.#count++] = this.#keyOf(logit) * MAX_VOCABULARY + id;
    }
    this.#keys.subarray(0, this.#count).sort();
  }

  /** A word that falls as the number rises; -0 and 0 are one number. */
  #keyOf(logit: number): number {
    this.#float[0] = logit + 0; // -0 + 0 is 0
    const bits = this.#bits[0];
    return bits < 0 ? bits >>> 0 : ~bits & 0x7fffffff;
  }
}
