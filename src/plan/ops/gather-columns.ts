import { count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * `out[t, i] = x[t, order[i]]`: the inputs of a linear whose weight holds its columns in another order (act-order of GPTQ). One constant: the order, whole
 * numbers below the width, as f32.
 */
export type GatherColumnsAttrs = Record<never, never>;

export const gatherColumns: OpDefinition<GatherColumnsAttrs> = {
  attrs: {},
  verify({ plan, node, inputs, outputs }) {
    const order = plan.constants[node.constants[0]]?.data;
    return firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      order !== undefined && order.length === inputs[0].width && order.every((at) => Number.isInteger(at) && at >= 0 && at < inputs[0].width)
        ? null
        : 'constant 0 must name a column of the input for each of the output',
    );
  },
};
