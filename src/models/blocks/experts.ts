/** Layers of experts: a router, the gated MLPs of the chosen experts, their weighted sum. */

import { MillraceError } from '../../base/errors.ts';
import type { PlanBuilder } from '../../plan/builder.ts';
import type { Value, Weight, WeightPart } from '../../plan/plan.ts';
import type { ConfigReader } from '../config-reader.ts';
import type { ActivationFunction, ExpertFeatures } from './decoder-features.ts';
import type { TensorNames } from './tensor-names.ts';

/** Where a layer stands: its name in the plan, what stands before its tensors. */
export interface ExpertPlace {
  readonly name: string;
  readonly tensor: string;
  readonly names: TensorNames;
  readonly hiddenSize: number;
}

/** More experts than any model has. */
export const MAX_EXPERTS = 4096;

/**
 * How the checkpoint holds the experts of a layer. Models of transformers 5 keep gate and up of all experts in one tensor, files one tensor for each expert,
 * GGUF files one for each of gate, up and down; a file may have any of these.
 */
export function expertLayout(names: TensorNames, layer: number, hasTensor: (name: string) => boolean): ExpertFeatures['layout'] {
  const prefix = `${names.layers}${layer}.`;
  if (hasTensor(prefix + names.fusedExpertsGateUp)) return 'fused';
  return hasTensor(`${prefix}${names.experts}.${names.expertDown}.weight`) ? 'stacked' : 'each';
}

/** Number of experts and how many a token takes. @throws MODEL_CONFIG_INVALID */
export function readExpertCounts(config: ConfigReader, field: string, fallback: number, perTokenFallback: number) {
  const numExperts = config.integer(field, { max: MAX_EXPERTS, fallback });
  const expertsPerToken = config.integer('num_experts_per_tok', { max: numExperts, fallback: Math.min(numExperts, perTokenFallback) });
  return { numExperts, expertsPerToken };
}

type ExpertCounts = Pick<ExpertFeatures, 'numExperts' | 'expertsPerToken'>;

/**
 * Groups of experts by `n_group`, the best `topk_group` of which a token may choose from; `fallback` where the configuration is silent.
 * @throws MODEL_CONFIG_INVALID where the choice cannot be made
 */
export function readExpertGroups(config: ConfigReader, counts: ExpertCounts, fallback = { groups: 1, keptGroups: 1 }) {
  const { numExperts, expertsPerToken } = counts;
  const groups = config.integer('n_group', { max: numExperts, fallback: Math.min(fallback.groups, numExperts) });
  const keptGroups = config.integer('topk_group', { max: groups, fallback: Math.min(fallback.keptGroups, groups) });
  const size = numExperts / groups;
  if (!Number.isInteger(size) || (groups > 1 && size < 2)) throw config.invalid('n_group', `equal groups of 2 or more of the ${numExperts} experts`);
  if (expertsPerToken > size * keptGroups)
    throw config.invalid('topk_group', `groups of ${size} that hold the ${expertsPerToken} experts of a token`);
  return { groups, keptGroups };
}

/** A router as Mixtral's: softmax over all, the weights of the chosen shared out anew where `normalise` says so. */
export function softmaxRouter(normalise: boolean): ExpertFeatures['router'] {
  const none = { groups: 1, keptGroups: 1, groupScore: 'max', scale: 1, bias: false, correction: false } as const;
  return { score: 'softmax', normalise: normalise ? 'sum' : 'none', ...none };
}

interface PlainExperts extends Pick<ExpertFeatures, 'numExperts' | 'expertsPerToken' | 'intermediateSize' | 'layout' | 'router'> {
  readonly activation: ActivationFunction;
  readonly shared?: ExpertFeatures['shared'];
}

/** Experts without biases, stored as most are. @throws MODEL_CONFIG_INVALID for an activation that no gate has */
export function plainExperts({ activation, shared = null, ...features }: PlainExperts): ExpertFeatures {
  if (activation === 'relu') throw new MillraceError('MODEL_CONFIG_INVALID', 'Experts are gated, and no family gates with relu.');
  return { ...features, activation, shared, swigluLimit: 0, bias: false, transposed: false, interleaved: false };
}

/** What the experts chosen for each token make of it, `[tokens, hiddenSize]`. The router computes in f32 whatever its weights are stored as. */
export function routedExperts(builder: PlanBuilder, place: ExpertPlace, input: Value, features: ExpertFeatures): Value {
  const { name, tensor, names, hiddenSize } = place;
  const { numExperts, expertsPerToken, intermediateSize, router } = features;
  const { bias, correction, ...attrs } = router;
  const matrix = builder.matrix(`${tensor}${names.router}.weight`, numExperts, hiddenSize);
  const routerBias = bias ? builder.vector(`${tensor}${names.router}.bias`, numExperts) : null;
  const logits = builder.linear(`${name}.router`, input, matrix, routerBias, 'f32');
  const [ids, weights] = route(builder, `${name}.route`, logits, expertsPerToken, attrs, correction ? tensor + names.routerCorrection : null);
  const [gate, up] = gateAndUp(builder, place, input, ids, features);
  const activated = builder.value(`${name}.activated`, 'tokens', expertsPerToken * intermediateSize);
  const inputs = [gate, up];
  if (features.swigluLimit > 0) {
    const attrs = { alpha: SWIGLU_ALPHA, limit: features.swigluLimit };
    builder.emit('clamped-swiglu', `${name}.activation`, { inputs, outputs: [activated], attrs });
  } else {
    builder.emit('gated-activation', `${name}.activation`, { inputs, outputs: [activated], attrs: { function: features.activation } });
  }
  const down = weightOf(builder, place, features, 'down');
  const [each] = builder.expertLinear(`${name}.down`, activated, ids, down.weight, down.bias, [[`${name}.down`, hiddenSize]]);
  return combine(builder, `${name}.combine`, each, weights, hiddenSize);
}

/** `shared * sigmoid(linear(input))`: a router of one expert. */
export function sharedGate(builder: PlanBuilder, { name, tensor, names, hiddenSize }: ExpertPlace, input: Value, shared: Value): Value {
  const matrix = builder.matrix(`${tensor}${names.sharedExpertGate}.weight`, 1, hiddenSize);
  const logit = builder.linear(`${name}.shared-gate`, input, matrix, null, 'f32');
  const attrs = { score: 'sigmoid', normalise: 'none', groups: 1, keptGroups: 1, groupScore: 'max', scale: 1 } as const;
  const [, weight] = route(builder, `${name}.shared-route`, logit, 1, attrs, null);
  return combine(builder, `${name}.shared-gated`, shared, weight, hiddenSize);
}

const SWIGLU_ALPHA = 1.702;

type RouteAttrs = Omit<ExpertFeatures['router'], 'bias' | 'correction'>;

function route(builder: PlanBuilder, name: string, logits: Value, slots: number, attrs: RouteAttrs, correction: string | null): Value[] {
  const outputs = [builder.value(`${name}.ids`, logits.axis, slots, 'i32'), builder.value(`${name}.weights`, logits.axis, slots)];
  const weights = [correction === null ? null : builder.vector(correction, logits.width)];
  builder.emit('moe-route', name, { inputs: [logits], outputs, weights, attrs });
  return outputs;
}

function combine(builder: PlanBuilder, name: string, each: Value, weights: Value, width: number): Value {
  const output = builder.value(name, each.axis, width);
  builder.emit('expert-combine', name, { inputs: [each, weights], outputs: [output], attrs: {} });
  return output;
}

/** Gate and up of all slots: one op where they are stored alike. */
function gateAndUp(builder: PlanBuilder, place: ExpertPlace, input: Value, ids: Value, features: ExpertFeatures): Value[] {
  const { name } = place;
  const { intermediateSize } = features;
  const tensors = (['gate', 'up'] as const).map((role) => stored(place, features, role, 0).tensor);
  const roles = features.layout === 'fused' || builder.storedAlike(tensors) ? (['gate-up'] as const) : (['gate', 'up'] as const);
  return roles.flatMap((role) => {
    const { weight, bias } = weightOf(builder, place, features, role);
    return builder.expertLinear(
      `${name}.${role}`,
      input,
      ids,
      weight,
      bias,
      role.split('-').map((word) => [`${name}.${word}`, intermediateSize] as const),
    );
  });
}

type Role = 'gate' | 'up' | 'gate-up' | 'down';

/** The matrices of all experts in one role, and their biases. */
function weightOf(builder: PlanBuilder, place: ExpertPlace, features: ExpertFeatures, role: Role): { weight: Weight; bias: Weight | null } {
  const { numExperts, intermediateSize, bias, layout } = features;
  const roles = role === 'gate-up' && layout !== 'fused' ? (['gate', 'up'] as const) : ([role] as const);
  const rows = rowsOf(role, features, place.hiddenSize);
  const columns = role === 'down' ? intermediateSize : place.hiddenSize;
  const partsOf = (kind: 'weight' | 'bias') =>
    Array.from({ length: numExperts }, (_, expert) => roles.map((r) => part(place, features, r, expert, kind))).flat();
  const name = `${place.name}.experts.${role}`;
  return {
    weight: builder.expertMatrices(`${name}.weight`, [numExperts, rows, columns], partsOf('weight')),
    bias: bias ? builder.weightOf(`${name}.bias`, numExperts * rows, null, partsOf('bias')) : null,
  };
}

function rowsOf(role: Role, { intermediateSize }: ExpertFeatures, hiddenSize: number): number {
  if (role === 'down') return hiddenSize;
  return role === 'gate-up' ? 2 * intermediateSize : intermediateSize;
}

/** One expert's matrix or bias in a checkpoint tensor. */
function part(place: ExpertPlace, features: ExpertFeatures, role: Role, expert: number, kind: 'weight' | 'bias'): WeightPart {
  const { numExperts, intermediateSize, transposed, interleaved, layout } = features;
  const { tensor, bias } = stored(place, features, role, expert);
  const rows = rowsOf(role, features, place.hiddenSize);
  const inTurn = layout === 'fused' && interleaved && role === 'gate-up' ? { interleaved } : {};
  if (kind === 'bias')
    return layout === 'each' ? { tensor: bias, shape: [rows] } : { tensor: bias, shape: [numExperts, rows], index: expert, ...inTurn };
  const columns = role === 'down' ? intermediateSize : place.hiddenSize;
  if (layout === 'each') return { tensor, shape: [rows, columns] };
  if (layout === 'fused' && transposed) return { tensor, shape: [numExperts, columns, rows], index: expert, transposed, ...inTurn };
  return { tensor, shape: [numExperts, rows, columns], index: expert, ...inTurn };
}

/** Checkpoint names of an expert's matrix and bias. */
function stored({ tensor, names }: ExpertPlace, { layout }: ExpertFeatures, role: Role, expert: number): { tensor: string; bias: string } {
  if (layout === 'fused') {
    const name = tensor + (role === 'down' ? names.fusedExpertsDown : names.fusedExpertsGateUp);
    return { tensor: name, bias: `${name}_bias` };
  }
  const word = role === 'down' ? names.expertDown : role === 'up' ? names.expertUp : names.expertGate;
  const name = layout === 'each' ? `${tensor}${names.experts}.${expert}.${word}` : `${tensor}${names.experts}.${word}`;
  return { tensor: `${name}.weight`, bias: `${name}.bias` };
}
