import { MillraceError } from '../base/errors.ts';
import { type OpName, ops } from './ops/index.ts';
import type { OpDefinition, VerifiedNode } from './ops/op.ts';
import type { Plan, PlanNode } from './plan.ts';

/**
 * Checks a plan: every id exists, every value is written once and before it is read, every node obeys its op.
 * All complaints are collected, so that a family under construction shows them at once.
 * @throws PLAN_INVALID
 */
export function verifyPlan(plan: Plan): void {
  const complaints: string[] = [];
  const written = new Set<number>([plan.input.value]);
  const isWritten = (id: number) => written.has(plan.values[id]?.view?.of ?? id);
  if (plan.values[plan.input.value] === undefined) complaints.push('the plan has no input');
  for (const value of plan.values) {
    const base = value.view === undefined ? undefined : plan.values[value.view.of];
    if (value.view === undefined) continue;
    if (base === undefined || base.view !== undefined || value.view.offset + value.width > base.width) {
      complaints.push(`view ${value.name} lies outside its value`);
    }
  }
  for (const node of plan.nodes) {
    for (const id of node.inputs)
      if (!isWritten(id)) complaints.push(`${node.name} (${node.op}) reads ${plan.values[id]?.name ?? id} before it is written`);
    for (const id of node.outputs) {
      if (isWritten(id)) complaints.push(`${node.name} (${node.op}) writes ${plan.values[id]?.name ?? id} a second time`);
      written.add(id);
    }
    const complaint = verifyNode(plan, node);
    if (complaint !== null) complaints.push(`${node.name} (${node.op}): ${complaint}`);
  }
  for (const [name, id] of Object.entries(plan.outputs)) if (!isWritten(id)) complaints.push(`output ${name} is never written`);
  if (complaints.length > 0) throw new MillraceError('PLAN_INVALID', `Plan ${plan.name} is not legal: ${complaints.join('; ')}.`);
}

function verifyNode(plan: Plan, node: PlanNode<OpName>): string | null {
  const definition = ops[node.op] as unknown as OpDefinition<object>;
  const inputs = node.inputs.map((id) => plan.values[id]);
  const outputs = node.outputs.map((id) => plan.values[id]);
  if ([...inputs, ...outputs].includes(undefined as never)) return 'names a value that does not exist';
  const verified: VerifiedNode<object> = {
    plan,
    node,
    attrs: node.attrs,
    inputs,
    outputs,
    weights: node.weights.map((id) => (id === null ? null : plan.weights[id])),
  };
  return definition.verify(verified);
}
