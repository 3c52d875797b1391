import { count, firstComplaint, heads, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Rotary position embedding on the first `rotaryDim` elements of each head; the rest pass through. Su et al. 2021, arXiv:2104.09864.
 * Angle = position * frequency[i], computed in f32 at every row count. Constants: inverse frequencies `[rotaryDim / 2]`, all scaling rules already in them.
 */
export interface RopeAttrs {
  headDim: number;
  rotaryDim: number;
  /** `half` rotates pairs (i, i + rotaryDim/2), the Hugging Face layout; `interleaved` rotates (2i, 2i + 1). */
  style: 'half' | 'interleaved';
  /** Multiplies cos and sin (YaRN attention factor); 1 otherwise. */
  magnitude: number;
}

export const rope: OpDefinition<RopeAttrs> = {
  attrs: { headDim: 'int', rotaryDim: 'int', style: ['half', 'interleaved'], magnitude: 'float' },
  verify: ({ inputs, outputs, attrs, plan, node }) =>
    firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      heads(inputs[0], attrs.headDim),
      attrs.rotaryDim > attrs.headDim || attrs.rotaryDim % 2 !== 0
        ? `rotaryDim ${attrs.rotaryDim} must be even and at most headDim ${attrs.headDim}`
        : null,
      plan.constants[node.constants[0]]?.data.length === attrs.rotaryDim / 2 ? null : `constant 0 must have ${attrs.rotaryDim / 2} frequencies`,
    ),
};
