/**
 * From processed logits to one token: dynamic temperature, temperature, top-n-sigma, top-k, softmax, top-p, min-p, typical, XTC, draw. With mirostat:
 * temperature, softmax, tokens above the surprise allowed are dropped, draw. `sampler.ts` tells the whole order, `shaping.ts` the ways of shaping.
 *
 * Weights are `exp((logit - maximum) / temperature)`, each operation in f32, so the largest is exactly 1. "Descending" means by logit, ties to
 * the lower id.
 *
 * - Neither top-k nor top-p: ids in vocabulary order. The total is a blocked sum (`sumBlocks`). The draw walks block sums, then the ids of the
 *   block that it falls into.
 * - top-k or top-p: ids in descending order; all sums are sequential in that order, save the softmax total of top-p without top-k, which
 *   is the blocked sum over the vocabulary. top-p keeps the shortest prefix whose weights reach `f32(topP * total)`.
 *
 * - Typical, XTC and mirostat are of the list in descending order, shares being of what the step before has left. Top-n-sigma drops logits below its
 *   limit from everything after it, the total of top-p included. Mirostat's surprises are of the blocked sum over the vocabulary.
 *
 * A walk ends at the first id where the running sum exceeds `f32(u * total of what is kept)`, at the latest at the last id of weight above 0.
 */
import { invariant } from '../base/errors.ts';
import { expF32, SUM_BLOCK, sumBlocks } from './arithmetic.ts';
import {
  dynamicTemperature,
  excludeTopChoices,
  keepTypical,
  needsOrder,
  nextMu,
  plainShaping,
  type Shaping,
  sigmaLimit,
  surprise,
} from './shaping.ts';

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

  /** What mirostat came to with the last draw; NaN without. */
  mirostatMu = NaN;

  /**
   * One token by the uniform number `u` in [0, 1). `maximum` is the largest logit: finite. No logit is NaN.
   * @param chance gives the uniform number that decides on XTC
   */
  draw(logits: Float32Array, maximum: number, shape: Shape, u: number, shaping: Shaping = plainShaping, chance: () => number = () => 1): number {
    const temperature = dynamicTemperature(logits, this.#vocabSize, maximum, shape.temperature, shaping, this.#weights);
    this.mirostatMu = NaN;
    if (temperature === 0) return logits.indexOf(maximum);
    const topK = shape.topK > 0 && shape.topK < this.#vocabSize ? shape.topK : 0;
    const { topP, minP } = shape;
    if (topK === 0 && topP >= 1 && !needsOrder(shaping)) return this.#drawInVocabularyOrder(logits, maximum, { temperature, topK, topP, minP }, u);
    this.#order.start(logits, maximum);
    if (shaping.mirostatMode !== 0) return this.#drawByMirostat(logits, maximum, temperature, shaping, u);
    const isExcluding = shaping.xtcProbability > 0 && chance() < shaping.xtcProbability;
    return this.#drawInDescendingOrder(logits, maximum, { temperature, topK, topP, minP }, shaping, isExcluding, u);
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

  #drawInDescendingOrder(logits: Float32Array, maximum: number, shape: Shape, shaping: Shaping, isExcluding: boolean, u: number): number {
    const order = this.#order;
    const weights = this.#weights;
    const { topK, topP, minP, temperature } = shape;
    const least = sigmaLimit(logits, this.#vocabSize, maximum, shaping.topNSigma, weights);
    let kept = 0;
    let total = 0;
    let threshold = Infinity;
    if (topK === 0 && topP < 1) {
      this.#fillWeights(logits, maximum, temperature);
      if (least > -Infinity) for (let id = 0; id < this.#vocabSize; id++) if (logits[id] < least) weights[id] = 0;
      threshold = f(topP * sumBlocks(weights, this.#vocabSize));
    } else if (topP < 1) {
      let sum = 0;
      for (let i = 0; i < topK && order.has(i) && logits[order.id(i)] >= least; i++)
        sum = f(sum + weightOf(logits[order.id(i)], maximum, temperature));
      threshold = f(topP * sum);
    }
    // From here `weights` is by place in the descending order: safe, since the blocked total has been taken.
    for (; order.has(kept) && (topK === 0 || kept < topK); ) {
      const weight = weightOf(logits[order.id(kept)], maximum, temperature);
      if (kept > 0 && (weight === 0 || weight < minP || logits[order.id(kept)] < least)) break;
      weights[kept++] = weight;
      total = f(total + weight);
      if (total >= threshold) break;
    }
    if (shaping.typicalP < 1) {
      keepTypical(weights, kept, total, shaping.typicalP);
      total = sumInOrder(weights, kept);
    }
    if (isExcluding) {
      excludeTopChoices(weights, kept, total, shaping.xtcThreshold);
      total = sumInOrder(weights, kept);
    }
    return order.id(placeOf(weights, kept, f(u * total)));
  }

  #drawByMirostat(logits: Float32Array, maximum: number, temperature: number, shaping: Shaping, u: number): number {
    const order = this.#order;
    const weights = this.#weights;
    this.#fillWeights(logits, maximum, temperature);
    const all = sumBlocks(weights, this.#vocabSize);
    let kept = 0;
    let total = 0;
    for (; order.has(kept); kept++) {
      const weight = weightOf(logits[order.id(kept)], maximum, temperature);
      if (kept > 0 && (weight === 0 || surprise(weight, all) > shaping.mirostatMu)) break;
      weights[kept] = weight;
      total = f(total + weight);
    }
    const place = placeOf(weights, kept, f(u * total));
    this.mirostatMu = nextMu(shaping, surprise(weights[place], total));
    return order.id(place);
  }

  #fillWeights(logits: Float32Array, maximum: number, temperature: number): void {
    for (let id = 0; id < this.#vocabSize; id++) this.#weights[id] = weightOf(logits[id], maximum, temperature);
  }
}

function sumInOrder(weights: Float32Array, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = f(sum + weights[i]);
  return sum;
}

/** The place where the running sum exceeds `target`, at the latest the last of weight above 0. */
function placeOf(weights: Float32Array, count: number, target: number): number {
  let sum = 0;
  let place = 0;
  for (let i = 0; i < count && !(sum > target); i++) {
    if (weights[i] > 0) place = i;
    sum = f(sum + weights[i]);
  }
  return place;
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
