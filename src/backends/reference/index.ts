/** The reference kernels: one row an op, in the order of `plan/ops/index.ts`. */
import type { OpName } from '../../plan/ops/index.ts';
import { activation } from './activation.ts';
import { add } from './add.ts';
import { addRmsNorm } from './add-rms-norm.ts';
import { attention } from './attention.ts';
import { clampedSwiglu } from './clamped-swiglu.ts';
import { identity } from './collectives.ts';
import { embedding } from './embedding.ts';
import { expertCombine } from './expert-combine.ts';
import { expertLinear } from './expert-linear.ts';
import { gatedActivation } from './gated-activation.ts';
import { gatherColumns } from './gather-columns.ts';
import { headLinear } from './head-linear.ts';
import type { ReferenceKernel } from './kernel.ts';
import { kvCompress } from './kv-compress.ts';
import { kvRotate } from './kv-rotate.ts';
import { kvWrite } from './kv-write.ts';
import { latentAttention } from './latent-attention.ts';
import { latentWrite } from './latent-write.ts';
import { layerNorm } from './layer-norm.ts';
import { linear } from './linear.ts';
import { moeRoute } from './moe-route.ts';
import { positionEmbedding } from './position-embedding.ts';
import { rmsNorm } from './rms-norm.ts';
import { rope } from './rope.ts';
import { ropeKvWrite } from './rope-kv-write.ts';
import { scale } from './scale.ts';
import { selectRows } from './select-rows.ts';
import { softCap } from './soft-cap.ts';

export const kernels = {
  embedding,
  linear,
  'rms-norm': rmsNorm,
  'add-rms-norm': addRmsNorm,
  add,
  scale,
  'soft-cap': softCap,
  'gated-activation': gatedActivation,
  rope,
  'kv-write': kvWrite,
  'rope-kv-write': ropeKvWrite,
  attention,
  'select-rows': selectRows,
  'all-reduce': identity,
  'all-gather': identity,
  'all-to-all': identity,
  send: identity,
  recv: identity,
  'layer-norm': layerNorm,
  activation,
  'position-embedding': positionEmbedding,
  'moe-route': moeRoute,
  'expert-linear': expertLinear,
  'expert-combine': expertCombine,
  'clamped-swiglu': clampedSwiglu,
  'head-linear': headLinear,
  'latent-write': latentWrite,
  'latent-attention': latentAttention,
  'gather-columns': gatherColumns,
  'kv-rotate': kvRotate,
  'kv-compress': kvCompress,
} as const satisfies { [Name in OpName]: ReferenceKernel<Name> };
