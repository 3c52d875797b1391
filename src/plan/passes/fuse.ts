/**
 * Replaces runs of nodes by one node that computes exactly the same bits in one pass over memory:
 *
 * - `add` then `rms-norm` of its sum -> `add-rms-norm` (the sum stays an output: the residual stream)
 * - `rope(q)`, `rope(k)`, `kv-write(k, v)` -> `rope-kv-write`, where nothing else reads the rotated k
 *
 * A norm moves up to its add; ropes move down to their kv-write, unless something reads the rotated q before it. Values that nothing touches any
 * more stay in the list, without memory.
 */
import type { RopeAttrs } from '../ops/rope.ts';
import type { AnyNode, Plan, PlanNode, ValueId } from '../plan.ts';
import { verifyPlan } from '../verify.ts';

/** The fused plan; the one given is unchanged. @throws PLAN_INVALID if a rule of ours broke the plan */
export function fusePlan(plan: Plan): Plan {
  const fused = fuseRopeKvWrite(fuseAddRmsNorm(plan));
  if (fused !== plan) verifyPlan(fused);
  return fused;
}

/** Value whose memory an id names: its own, or that which it is a view of. */
function owner(plan: Plan, id: ValueId): ValueId {
  return plan.values[id].view?.of ?? id;
}

/** Index of the nodes that read any part of a value's memory, in order. An output of the plan counts as a reader at the end. */
function readersOf(plan: Plan, id: ValueId): number[] {
  const base = owner(plan, id);
  const readers = plan.nodes.flatMap((node, index) => (node.inputs.some((input) => owner(plan, input) === base) ? [index] : []));
  return Object.values(plan.outputs).some((output) => owner(plan, output) === base) ? [...readers, plan.nodes.length] : readers;
}

function is<Name extends AnyNode['op']>(node: AnyNode | undefined, op: Name): node is AnyNode & PlanNode<Name> {
  return node?.op === op;
}

function fuseAddRmsNorm(plan: Plan): Plan {
  const dropped = new Set<number>();
  const replaced = new Map<number, AnyNode>();
  plan.nodes.forEach((add, index) => {
    if (!is(add, 'add')) return;
    const [sum] = add.outputs;
    if (plan.values[sum].view !== undefined) return;
    // The norm moves up to the add, where all that it reads is known. Other readers of the sum are served as before.
    const first = plan.nodes.findIndex((node, at) => is(node, 'rms-norm') && node.inputs[0] === sum && !dropped.has(at));
    const norm = plan.nodes[first];
    if (!is(norm, 'rms-norm')) return;
    dropped.add(first);
    const { attrs, weights, constants } = norm;
    replaced.set(index, { op: 'add-rms-norm', name: norm.name, inputs: add.inputs, outputs: [sum, norm.outputs[0]], weights, constants, attrs });
  });
  return rewritten(plan, dropped, replaced);
}

function fuseRopeKvWrite(plan: Plan): Plan {
  const dropped = new Set<number>();
  const replaced = new Map<number, AnyNode>();
  plan.nodes.forEach((write, index) => {
    if (!is(write, 'kv-write')) return;
    const [kRotated, v] = write.inputs;
    const ropeOfK = plan.nodes.findIndex((node) => node.outputs[0] === kRotated);
    const k = plan.nodes[ropeOfK];
    const onlyReader = readersOf(plan, kRotated).length === 1;
    if (!is(k, 'rope') || !onlyReader || plan.values[kRotated].view !== undefined) return;
    const ropeOfQ = findRopeOfQ(plan, k, ropeOfK, write);
    const q = plan.nodes[ropeOfQ];
    if (!is(q, 'rope') || dropped.has(ropeOfQ)) return;
    // All three move down to the write: whoever reads the rotated q must come after it.
    if (readersOf(plan, q.outputs[0]).some((reader) => reader < index)) return;
    dropped.add(ropeOfQ).add(ropeOfK);
    const attrs = { ...q.attrs, ...write.attrs };
    const { constants, weights, outputs } = q;
    replaced.set(index, { op: 'rope-kv-write', name: write.name, inputs: [q.inputs[0], k.inputs[0], v], outputs, weights, constants, attrs });
  });
  return rewritten(plan, dropped, replaced);
}

/** The rope of the queries that read what `write` stores: the input of the first attention over that layer, rotated as k is. -1 if there is none. */
function findRopeOfQ(plan: Plan, k: PlanNode<'rope'>, ropeOfK: number, write: PlanNode<'kv-write'>): number {
  const attention = plan.nodes.find(
    (node) => is(node, 'attention') && node.attrs.group === write.attrs.group && node.attrs.layer === write.attrs.layer,
  );
  const candidate = plan.nodes.findIndex((node) => node.outputs[0] === attention?.inputs[0]);
  const q = plan.nodes[candidate];
  const alike = is(q, 'rope') && candidate !== ropeOfK && sameRotation(q.attrs, k.attrs) && q.constants[0] === k.constants[0];
  return alike ? candidate : -1;
}

function sameRotation(a: RopeAttrs, b: RopeAttrs): boolean {
  return a.headDim === b.headDim && a.rotaryDim === b.rotaryDim && a.style === b.style && a.magnitude === b.magnitude;
}

function rewritten(plan: Plan, dropped: ReadonlySet<number>, replaced: ReadonlyMap<number, AnyNode>): Plan {
  if (replaced.size === 0) return plan;
  return { ...plan, nodes: plan.nodes.flatMap((node, index) => (dropped.has(index) ? [] : [replaced.get(index) ?? node])) };
}
