/**
 * The op vocabulary: one row an op. The order is the opcode on the wire to native backends (`native/common/ops.h`, checked by a test), so new
 * rows go at the end.
 */
import { activation } from './activation.ts';
import { add } from './add.ts';
import { addRmsNorm } from './add-rms-norm.ts';
import { attention } from './attention.ts';
import { clampedSwiglu } from './clamped-swiglu.ts';
import { allGather, allReduce, allToAll, recv, send } from './collectives.ts';
import { embedding } from './embedding.ts';
import { expertCombine } from './expert-combine.ts';
import { expertLinear } from './expert-linear.ts';
import { gatedActivation } from './gated-activation.ts';
import { gatherColumns } from './gather-columns.ts';
import { headLinear } from './head-linear.ts';
import { kvCompress } from './kv-compress.ts';
import { kvRotate } from './kv-rotate.ts';
import { kvWrite } from './kv-write.ts';
import { latentAttention } from './latent-attention.ts';
import { latentWrite } from './latent-write.ts';
import { layerNorm } from './layer-norm.ts';
import { linear } from './linear.ts';
import { moeRoute } from './moe-route.ts';
import type { OpDefinition } from './op.ts';
import { positionEmbedding } from './position-embedding.ts';
import { rmsNorm } from './rms-norm.ts';
import { rope } from './rope.ts';
import { ropeKvWrite } from './rope-kv-write.ts';
import { scale } from './scale.ts';
import { selectRows } from './select-rows.ts';
import { softCap } from './soft-cap.ts';

export const ops = {
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
  'all-reduce': allReduce,
  'all-gather': allGather,
  'all-to-all': allToAll,
  send,
  recv,
  'layer-norm': layerNorm,
  activation,
  'position-embedding': positionEmbedding,
  'head-linear': headLinear,
  'latent-write': latentWrite,
  'latent-attention': latentAttention,
  'gather-columns': gatherColumns,
  'moe-route': moeRoute,
  'expert-linear': expertLinear,
  'expert-combine': expertCombine,
  'clamped-swiglu': clampedSwiglu,
  'kv-rotate': kvRotate,
  'kv-compress': kvCompress,
} as const;

export type OpName = keyof typeof ops;

/** Attributes of each op, by name. */
export type OpAttrs = { [Name in OpName]: (typeof ops)[Name] extends OpDefinition<infer Attrs> ? Attrs : never };

/** Opcode of each op on the wire to native backends. */
export const opcodes = Object.fromEntries(Object.keys(ops).map((name, index) => [name, index])) as Record<OpName, number>;
