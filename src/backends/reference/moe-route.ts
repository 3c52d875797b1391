import type { MoeRouteAttrs } from '../../plan/ops/moe-route.ts';
import { expF32 } from '../../sampling/arithmetic.ts';
import type { ReferenceKernel } from './kernel.ts';

const f = Math.fround;

/** See the op: f32 throughout, as `native/cpu/moe_route.cc` does it, so that both choose alike. */
export const moeRoute: ReferenceKernel<'moe-route'> = ({ inputs: [logits], outputs: [ids, weights], weights: [bias], attrs }, numRows) => {
  const experts = logits.width;
  const slots = ids.width;
  const score = new Float32Array(experts);
  const choice = new Float32Array(experts);
  for (let row = 0; row < numRows; row++) {
    const at = logits.offset + row * logits.stride;
    const own = logits.data.subarray(at, at + experts);
    const overAll = attrs.score === 'softmax' && (attrs.normalise === 'none' || (bias !== null && bias !== undefined));
    if (attrs.score === 'sigmoid') for (let e = 0; e < experts; e++) score[e] = sigmoid(own[e]);
    else if (overAll) softmax(own, score);
    for (let e = 0; e < experts; e++) {
      const value = bias === null || bias === undefined ? (attrs.score === 'softmax' ? own[e] : score[e]) : f(score[e] + bias[e]);
      choice[e] = Number.isNaN(value) ? -Infinity : value;
    }
    const chosen = choose(choice, slots, keptGroups(choice, attrs), attrs.groups);
    const weightsAt = weights.offset + row * weights.stride;
    const shares = slotWeights(chosen, own, score, attrs);
    for (let slot = 0; slot < slots; slot++) {
      ids.ints[ids.offset + row * ids.stride + slot] = chosen[slot];
      weights.data[weightsAt + slot] = f(shares[slot] * f(attrs.scale));
    }
  }
};

function sigmoid(x: number): number {
  const e = expF32(-Math.abs(x));
  if (Number.isNaN(x)) return x;
  return f((x >= 0 ? 1 : e) / f(1 + e));
}

/** expF32 makes a NaN 0; here a broken row must show. */
function exp(x: number): number {
  return Number.isNaN(x) ? x : expF32(x);
}

function softmax(logits: Float32Array, out: Float32Array): void {
  let largest = -Infinity;
  for (const x of logits) if (x > largest) largest = x;
  let sum = 0;
  for (let e = 0; e < logits.length; e++) {
    out[e] = exp(f(logits[e] - largest));
    sum = f(sum + out[e]);
  }
  for (let e = 0; e < logits.length; e++) out[e] = f(out[e] / sum);
}

/** Which groups take part. */
function keptGroups(choice: Float32Array, { groups, keptGroups, groupScore }: MoeRouteAttrs): readonly boolean[] {
  if (groups === 1) return [true];
  const size = choice.length / groups;
  const scores = new Float32Array(groups).map((_, group) => {
    let [best, second] = [-Infinity, -Infinity];
    for (const value of choice.subarray(group * size, (group + 1) * size)) {
      if (value > best) [best, second] = [value, best];
      else if (value > second) second = value;
    }
    const together = groupScore === 'max' ? best : best + second;
    return Number.isNaN(together) ? -Infinity : together;
  });
  const best = choose(scores, keptGroups, [true], 1);
  return Array.from({ length: groups }, (_, group) => best.includes(group));
}

/** Indices of the largest values among the kept groups, in falling order, the lower on a tie. */
function choose(values: Float32Array, count: number, kept: readonly boolean[], groups: number): number[] {
  const size = values.length / groups;
  const among = Array.from(values, (_, i) => i).filter((i) => kept[Math.floor(i / size)]);
  return among.sort((a, b) => (values[a] === values[b] ? a - b : values[a] > values[b] ? -1 : 1)).slice(0, count);
}

function slotWeights(chosen: readonly number[], logits: Float32Array, score: Float32Array, { score: kind, normalise }: MoeRouteAttrs): number[] {
  if (normalise === 'none') return chosen.map((e) => score[e]);
  let largest = -Infinity;
  for (const e of chosen) if (logits[e] > largest) largest = logits[e];
  const parts = kind === 'softmax' ? chosen.map((e) => exp(f(logits[e] - largest))) : chosen.map((e) => score[e]);
  let sum = 0;
  for (const part of parts) sum = f(sum + part);
  return parts.map((part) => f(part / f(sum + SMALLEST_SUM)));
}

/** All sigmoids may be 0: then all weights are. */
const SMALLEST_SUM = f(1e-20);
