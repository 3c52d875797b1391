/** `--quantize`: which weights are rounded when a model is loaded, and to what. */
import type { WeightFormat } from '../plan/plan.ts';
import type { StoredTensor } from '../weights/weight-source.ts';

export type QuantizeTarget = 'none' | 'int8' | 'int8-channel' | 'int4' | 'fp8';

/** Tensors that are no linear of the layers: the embedding (often the output matrix too) and the output matrix. */
export interface OuterTensors {
  readonly embedding: string;
  readonly positionEmbedding: string;
  readonly output: string;
}

/** Routers of experts: small, and an error there sends a token elsewhere. */
const ROUTER = /(^|\.)(router|gate|gate_inp)\.weight$/;

/**
 * The format of a weight that is stored as `stored`. Rounded are matrices of F32, F16 or BF16 whose rows (and columns, since some checkpoints turn them) are whole
 * groups: `int8` and `int4` to Q8_0 and Q4_0, `int8-channel` to INT8_CHANNEL, `fp8` to FP8 in groups of 128 or 32. The embedding and the output matrix, to which
 * outputs are most sensitive, become Q8_0 under all but `fp8`, where they stay as they are. Vectors, learned positions and routers stay.
 */
export function formatToHold(name: string, stored: StoredTensor, target: QuantizeTarget, outer: OuterTensors): WeightFormat {
  const { format, shape } = stored;
  const isFloat = format === 'f32' || format === 'f16' || format === 'bf16';
  if (target === 'none' || !isFloat || shape.length !== 2 || !shape.every((length) => length % 32 === 0 || name === `${outer.embedding}.weight`))
    return format;
  if (shape[1] % 32 !== 0 || name === `${outer.positionEmbedding}.weight` || ROUTER.test(name)) return format;
  const isOuter = name === `${outer.embedding}.weight` || name === `${outer.output}.weight`;
  if (target === 'fp8') return isOuter ? format : shape.every((length) => length % 128 === 0) ? 'fp8_g128' : 'fp8_g32';
  if (target === 'int8' || isOuter) return 'q8_0';
  return target === 'int4' ? 'q4_0' : 'int8_channel';
}
