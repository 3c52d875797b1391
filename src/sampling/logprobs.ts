/** Log probabilities under the raw logits, as the model gave them: before bias, penalties, mask and temperature. */
import { expF32, logF32, sumBlocks } from './arithmetic.ts';

/** `maximum` of a row and `logSum` such that `log p(x) = (x - maximum) - logSum`, both subtractions in f32. */
export interface LogNormaliser {
  readonly maximum: number;
  readonly logSum: number;
}

/** Log-softmax constants of `row[0, length)`; `scratch` takes the exponentials. The row holds neither NaN nor +Infinity. */
export function logNormaliser(row: Float32Array, length: number, maximum: number, scratch: Float32Array): LogNormaliser {
  for (let i = 0; i < length; i++) scratch[i] = expF32(Math.fround(row[i] - maximum));
  return { maximum, logSum: logF32(sumBlocks(scratch, length)) };
}

export function logprobOf(logit: number, { maximum, logSum }: LogNormaliser): number {
  return Math.fround(Math.fround(logit - maximum) - logSum);
}

/** Ids of the `k` largest values, largest first, ties to the lower id, written to `ids` from `at`. Returns how many there are. */
export function largest(row: Float32Array, length: number, k: number, ids: Int32Array, at: number): number {
  let count = 0;
  for (let id = 0; id < length; id++) {
    if (count === k && !(row[id] > row[ids[at + count - 1]])) continue;
    let place = count < k ? count++ : k - 1;
    while (place > 0 && row[id] > row[ids[at + place - 1]]) {
      ids[at + place] = ids[at + place - 1];
      place--;
    }
    ids[at + place] = id;
  }
  return count;
}
