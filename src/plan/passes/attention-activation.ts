import type { AttentionActivation } from '../ops/attention.ts';
import type { Plan } from '../plan.ts';

/** The plan with this activation in every attention that says none: it hangs on the number type of K and V, which is chosen when a plan is there. */
export function withAttentionActivation(plan: Plan, activation: AttentionActivation): Plan {
  if (activation === 'f32') return plan;
  const nodes = plan.nodes.map((node) => (node.op === 'attention' ? { ...node, attrs: { activation, ...node.attrs } } : node));
  return { ...plan, nodes };
}
