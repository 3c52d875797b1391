import { count, firstComplaint, matrix, width } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** `out[t] = table[ids[t]] * scale`. Inputs: ids `[tokens, 1]` i32. Weights: table `[vocabSize, hiddenSize]`. */
export interface EmbeddingAttrs {
  /** 1, or sqrt(hiddenSize) rounded as the family's authors round it. */
  scale: number;
}

export const embedding: OpDefinition<EmbeddingAttrs> = {
  attrs: { scale: 'float' },
  verify: (node) =>
    firstComplaint(count('inputs', node.inputs, 1), count('outputs', node.outputs, 1), matrix(node.weights[0], undefined, node.outputs[0]?.width)) ??
    (node.inputs[0].dtype === 'i32' ? null : 'ids must be i32') ??
    width('ids', node.inputs[0], 1),
};
