/**
 * Programs that run beside a model's own (S1) over the same cache, for requests that do not keep all of their keys: one that turns stored keys on to other
 * positions, and one that leaves the keys of a prompt that its last tokens attend to most. Both come from the plan of the model; families know nothing of them.
 */
import type { KvRotateAttrs } from '../ops/kv-rotate.ts';
import type { AnyNode, Constant, Plan, PlanNode } from '../plan.ts';
import { verifyPlan } from '../verify.ts';

/** A plan, or why the model has none: the end of a sentence that begins with what it cannot do. */
export type Derived = { readonly plan: Plan; readonly problem: null } | { readonly plan: null; readonly problem: string };

/** `kv-rotate` for every layer. For models whose positions are rotations of queries and keys, distances in the score (ALiBi), or nothing. */
export function rotationPlan(plan: Plan): Derived {
  const problem = commonProblem(plan) ?? (plan.nodes.some(({ op }) => op === 'position-embedding') ? 'its embeddings hold absolute positions' : null);
  if (problem !== null) return { plan: null, problem };
  const constants: Constant[] = [];
  const nodes = plan.cacheGroups.flatMap((group, g) =>
    Array.from({ length: group.numLayers }, (_, layer): AnyNode => {
      const rope = ropeOfKeys(plan, g, layer);
      const data = rope === null ? new Float32Array(0) : plan.constants[rope.constants[0]].data;
      const known = constants.find((constant) => constant.data === data);
      const constant = known ?? { id: constants.length, name: `frequencies${constants.length}`, data };
      if (known === undefined) constants.push(constant);
      const attrs: KvRotateAttrs = { group: g, layer, rotaryDim: rope?.attrs.rotaryDim ?? 0, style: rope?.attrs.style ?? 'half' };
      return { op: 'kv-rotate', name: `${group.name}.${layer}.rotate`, inputs: [0], outputs: [], weights: [], constants: [constant.id], attrs };
    }),
  );
  const derived: Plan = {
    ...plan,
    name: `${plan.name} (rotation of keys)`,
    values: [{ id: 0, name: 'tokenIds', axis: 'tokens', width: 1, dtype: 'i32' }],
    weights: [],
    constants,
    nodes,
    input: { kind: 'tokenIds', value: 0 },
    outputs: {},
  };
  verifyPlan(derived);
  return { plan: derived, problem: null };
}

/** The model up to its last attention, with `kv-compress` behind each. For models that score a key by what it holds alone, not by where it lies. */
export function compressionPlan(plan: Plan): Derived {
  const attentions = plan.nodes.filter((node): node is AnyNode & PlanNode<'attention'> => node.op === 'attention');
  const isPlain = attentions.every(({ attrs, weights, constants }) => attrs.window === 0 && (weights[0] ?? null) === null && constants.length === 0);
  const problem =
    commonProblem(plan) ?? (isPlain ? null : 'its attention depends on more than what a key holds (ALiBi, sinks of its own, or a window)');
  if (problem !== null) return { plan: null, problem };
  const last = plan.nodes.findLastIndex(({ op }) => op === 'attention');
  const nodes = plan.nodes.slice(0, last + 1).flatMap((node): AnyNode[] => {
    if (node.op !== 'attention') return [node];
    const { group, layer, numHeads, headDim, scale, softCap } = node.attrs;
    const attrs = { group, layer, numHeads, headDim, scale, softCap };
    return [node, { op: 'kv-compress', name: `${node.name}.compress`, inputs: node.inputs, outputs: [], weights: [], constants: [], attrs }];
  });
  const derived: Plan = { ...plan, name: `${plan.name} (compression of prompts)`, nodes, outputs: {} };
  verifyPlan(derived);
  return { plan: derived, problem: null };
}

function commonProblem(plan: Plan): string | null {
  const other = plan.cacheGroups.find(({ kind }) => kind !== 'full');
  if (other?.kind === 'latent') return 'its heads share one latent row a token';
  if (other?.kind === 'window') return `some of its layers see a window of ${other.window} tokens only`;
  if (other !== undefined) return `cache group ${other.name} keeps no K and V`;
  if (plan.cacheGroups.length === 0) return 'it has no KV cache';
  if (plan.input.kind !== 'tokenIds') return 'it is a stage of a model';
  return plan.numPositionAxes === 1 ? null : 'its positions have several axes';
}

/** The rotation of the keys that are written to a layer, or null where they carry no position. */
function ropeOfKeys(plan: Plan, group: number, layer: number): PlanNode<'rope'> | PlanNode<'rope-kv-write'> | null {
  for (const node of plan.nodes) {
    if (node.op !== 'rope-kv-write' && node.op !== 'kv-write') continue;
    if (node.attrs.group !== group || node.attrs.layer !== layer) continue;
    if (node.op === 'rope-kv-write') return node;
    const rope = plan.nodes.find((candidate) => candidate.outputs.includes(node.inputs[0]));
    return rope?.op === 'rope' ? rope : null;
  }
  return null;
}
