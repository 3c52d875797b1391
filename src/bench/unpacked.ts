/** How much of a model has no kernel of its own: such weights are unpacked a tile at a time, which the names of their kernels say. */
import type { Plan } from '../plan/plan.ts';

export interface UnpackedCount {
  /** Nodes of the plan that read a weight matrix. */
  readonly matrices: number;
  /** Those whose kernel unpacks. */
  readonly unpacked: number;
  /** Number formats of these, sorted. */
  readonly formats: readonly string[];
}

/** @param kernels of the nodes, by the backend that runs the plan */
export function countUnpacked(plan: Plan, kernels: readonly { readonly node: string; readonly kernel: string }[]): UnpackedCount {
  const kernelOf = new Map(kernels.map((choice) => [choice.node, choice.kernel]));
  const formats = new Set<string>();
  let matrices = 0;
  let unpacked = 0;
  for (const node of plan.nodes) {
    const matrix = node.weights
      .map((id) => (id === null ? undefined : plan.weights[id]))
      .find((weight) => weight !== undefined && weight.shape.length > 1);
    const kernel = kernelOf.get(node.name);
    if (matrix === undefined || kernel === undefined) continue;
    matrices++;
    if (!kernel.includes('_unpack_')) continue;
    unpacked++;
    formats.add(matrix.format);
  }
  return { matrices, unpacked, formats: [...formats].sort() };
}
