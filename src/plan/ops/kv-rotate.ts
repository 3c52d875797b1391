import { cacheLayer, count, firstComplaint } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Moves keys on: for each token, K and V of one layer at the cache index `cacheIndex` of its row go to the token's slot; K turned by the angle of the token's
 * position, which may be negative, and rounded to the cache dtype anew; V as stored. Rotations compose (Su et al. 2021, arXiv:2104.09864): a key written
 * at position p is then one of position p + `positions`. A token may go to the slot that it comes from; else no token's slot is one that another comes from.
 * Input: token ids, of which only the number matters. Constants: inverse frequencies `[rotaryDim / 2]`, as of `rope`; a magnitude is in the keys already.
 */
export interface KvRotateAttrs {
  group: number;
  layer: number;
  /** 0: keys without positions, moved as they are. */
  rotaryDim: number;
  style: 'half' | 'interleaved';
}

export const kvRotate: OpDefinition<KvRotateAttrs> = {
  attrs: { group: 'int', layer: 'int', rotaryDim: 'int', style: ['half', 'interleaved'] },
  verify: ({ inputs, outputs, attrs, plan, node }) => {
    const group = plan.cacheGroups[attrs.group];
    return firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 0),
      inputs[0].dtype === 'i32' && inputs[0].axis === 'tokens' ? null : 'its input is token ids',
      cacheLayer(plan, attrs.group, attrs.layer, (group?.numKvHeads ?? 0) * (group?.headDim ?? 0)),
      attrs.rotaryDim < 0 || attrs.rotaryDim % 2 !== 0 || attrs.rotaryDim > group.headDim
        ? `rotaryDim ${attrs.rotaryDim} must be even and at most headDim ${group.headDim}`
        : null,
      plan.constants[node.constants[0]]?.data.length === attrs.rotaryDim / 2 ? null : `constant 0 must have ${attrs.rotaryDim / 2} frequencies`,
    );
  },
};
