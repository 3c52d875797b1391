/**
 * Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1) with the up-projections absorbed.
 *
 * A token's K and V of all heads are W_uk and W_uv times one vector `c` of `kvRank` numbers, beside a rotated key `r` that the heads share. The cache
 * holds `[c; r]`. A head's query goes through its W_uk once, its scores are with `c` and `r` as they lie in the cache, and its weighted sum of `c` goes
 * through its W_uv: no key or value of a head is ever made. Prefill does the same arithmetic as decode, or a row would depend on how it was cut into steps.
 */
import type { PlanBuilder } from '../../plan/builder.ts';
import type { Value, Weight, WeightPart } from '../../plan/plan.ts';
import type { LatentFeatures } from './decoder-features.ts';
import type { TensorNames } from './tensor-names.ts';

/** What a layer of the decoder lends. */
export interface LatentPlace {
  readonly builder: PlanBuilder;
  readonly names: TensorNames;
  /** For people, such as `layers.3.attention`. */
  readonly name: string;
  /** What stands before a tensor's name. */
  readonly tensor: string;
  readonly numHeads: number;
  readonly scale: number;
  readonly features: LatentFeatures;
  /** Where in the cache. */
  readonly place: { readonly group: number; readonly layer: number };
  /** Rotates heads of `rotaryDim`. */
  rope(name: string, input: Value): Value;
}

/** The heads' outputs side by side, `[tokens, numHeads * valueDim]`. */
export function latentAttention(at: LatentPlace, input: Value): Value {
  const { builder, name, names, numHeads, place, scale } = at;
  const { kvRank, nopeDim, rotaryDim } = at.features;
  const [query, compressed] = compress(at, input);
  const qNope = builder.view(`${name}.q-nope`, query, 0, numHeads * nopeDim);
  const qRotary = at.rope(`${name}.q-rope`, builder.view(`${name}.q-rotary`, query, numHeads * nopeDim, numHeads * rotaryDim));
  const latent = norm(at, 'kv-norm', builder.view(`${name}.kv-latent`, compressed, 0, kvRank), names.kvANorm);
  const key = at.rope(`${name}.k-rope`, builder.view(`${name}.k-rotary`, compressed, kvRank, rotaryDim));
  builder.emit('latent-write', `${name}.latent-write`, { inputs: [latent, key], attrs: place });
  const qLatent = builder.headLinear(`${name}.q-latent`, qNope, numHeads, keyWeight(at));
  const attended = builder.value(name, 'tokens', numHeads * kvRank);
  builder.emit('latent-attention', name, { inputs: [qLatent, qRotary], outputs: [attended], attrs: { ...place, numHeads, scale } });
  return builder.headLinear(`${name}.values`, attended, numHeads, valueWeight(at));
}

/** Queries, the unrotated parts of all heads before the rotated ones, and `[c; r]` before norm and rotation. */
function compress(at: LatentPlace, input: Value): [Value, Value] {
  const { builder, name, tensor, names } = at;
  const { qRank, kvRank, rotaryDim, bias } = at.features;
  const layer = (short: string, role: string, rows: number) => ({
    name: `${name}.${short}`,
    tensor: `${tensor}${role}.weight`,
    rows,
    ...(bias ? { bias: `${tensor}${role}.bias` } : {}),
  });
  const kvA = layer('kv-a', names.kvA, kvRank + rotaryDim);
  if (qRank === 0) {
    const [compressed] = builder.linears(`${name}.kv-a`, input, [kvA]);
    return [builder.linear(`${name}.q`, input, queryWeight(at, names.q, input.width)), compressed];
  }
  const [qA, compressed] = builder.linears(`${name}.a`, input, [layer('q-a', names.qA, qRank), kvA]);
  const normed = norm(at, 'q-norm', qA, names.qANorm);
  return [builder.linear(`${name}.q`, normed, queryWeight(at, names.qB, qRank)), compressed];
}

function norm({ builder, name, tensor, features }: LatentPlace, short: string, input: Value, role: string): Value {
  const weights = [builder.vector(`${tensor}${role}.weight`, input.width)];
  const attrs = { epsilon: features.normEpsilon, weightOffset: 0, groupWidth: input.width };
  return builder.map('rms-norm', `${name}.${short}`, input, { weights, attrs });
}

/** The checkpoint has each head's unrotated rows before its rotated ones; here the former of all heads come first. */
function queryWeight({ builder, name, tensor, numHeads, features }: LatentPlace, role: string, columns: number): Weight {
  const { nopeDim, rotaryDim } = features;
  const perHead = nopeDim + rotaryDim;
  const shape = [numHeads * perHead, columns];
  const rowsOf = (from: number, to: number) => eachHead(numHeads, (h) => ({ shape, rows: [h * perHead + from, h * perHead + to] }));
  const parts = [...rowsOf(0, nopeDim), ...rowsOf(nopeDim, perHead)].map((part) => ({ ...part, tensor: `${tensor}${role}.weight` }));
  return builder.weightOf(`${name}.q.weight`, numHeads * perHead, columns, parts);
}

/** W_uk, for queries: `[numHeads * kvRank, nopeDim]`, each head's part turned. Turning takes blocks apart, so block formats become f16. */
function keyWeight({ builder, name, tensor, names, numHeads, features }: LatentPlace): Weight {
  const { kvRank, nopeDim, valueDim, kvB } = features;
  const rows = numHeads * kvRank;
  if (kvB === 'split') {
    const shape = [numHeads, kvRank, nopeDim]; // turned already
    const parts = eachHead(numHeads, (index) => ({ tensor: `${tensor}${names.kB}.weight`, shape, index }));
    return builder.weightOf(`${name}.k-up.weight`, rows, nopeDim, parts);
  }
  const perHead = nopeDim + valueDim;
  const own = { tensor: `${tensor}${names.kvB}.weight`, shape: [numHeads * perHead, kvRank], transposed: true };
  const parts = eachHead(numHeads, (h) => ({ ...own, rows: [h * perHead, h * perHead + nopeDim] }));
  return builder.weightOf(`${name}.k-up.weight`, rows, nopeDim, parts, { unblocked: true });
}

/** W_uv: `[numHeads * valueDim, kvRank]`. */
function valueWeight({ builder, name, tensor, names, numHeads, features }: LatentPlace): Weight {
  const { kvRank, nopeDim, valueDim, kvB } = features;
  const rows = numHeads * valueDim;
  if (kvB === 'split') {
    const shape = [numHeads, valueDim, kvRank];
    const parts = eachHead(numHeads, (index) => ({ tensor: `${tensor}${names.vB}.weight`, shape, index }));
    return builder.weightOf(`${name}.v-up.weight`, rows, kvRank, parts);
  }
  const perHead = nopeDim + valueDim;
  const own = { tensor: `${tensor}${names.kvB}.weight`, shape: [numHeads * perHead, kvRank] };
  const parts = eachHead(numHeads, (h) => ({ ...own, rows: [h * perHead + nopeDim, (h + 1) * perHead] }));
  return builder.weightOf(`${name}.v-up.weight`, rows, kvRank, parts);
}

function eachHead<Part extends Omit<WeightPart, 'tensor'>>(numHeads: number, part: (head: number) => Part): Part[] {
  return Array.from({ length: numHeads }, (_, head) => part(head));
}
