/** The storage formats of weights: one row a format. */
import { bf16 } from './bf16.ts';
import { f16 } from './f16.ts';
import { f32 } from './f32.ts';
import type { WeightFormatDefinition } from './format.ts';
import { fp8_e5m2_g32, fp8_e5m2_g128, fp8_g32, fp8_g128 } from './fp8.ts';
import { int8_channel } from './int8-channel.ts';
import { integerFormats } from './integer-groups.ts';
import { iq1_m, iq1_s } from './iq1.ts';
import { iq2_s, iq2_xs, iq2_xxs } from './iq2.ts';
import { iq3_s, iq3_xxs } from './iq3.ts';
import { iq4_nl } from './iq4_nl.ts';
import { iq4_xs } from './iq4_xs.ts';
import { mxfp4 } from './mxfp4.ts';
import { nf4 } from './nf4.ts';
import { q2_k } from './q2_k.ts';
import { q3_k } from './q3_k.ts';
import { q4_0 } from './q4_0.ts';
import { q4_1 } from './q4_1.ts';
import { q4_k } from './q4_k.ts';
import { q5_0 } from './q5_0.ts';
import { q5_1 } from './q5_1.ts';
import { q5_k } from './q5_k.ts';
import { q6_k } from './q6_k.ts';
import { q8_0 } from './q8_0.ts';
import { tq1_0, tq2_0 } from './ternary.ts';

export const weightFormats = {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  iq2_xxs,
  iq2_xs,
  iq2_s,
  iq3_xxs,
  iq3_s,
  iq1_s,
  iq1_m,
  tq1_0,
  tq2_0,
  ...integerFormats,
  fp8_g32,
  fp8_g128,
  fp8_e5m2_g32,
  fp8_e5m2_g128,
  nf4,
  int8_channel,
} as const satisfies Record<string, WeightFormatDefinition>;

export type WeightFormatName = keyof typeof weightFormats;

/** Bytes of `elements` values in a format. `elements` is a whole number of blocks. */
export function storedBytes(format: WeightFormatName, elements: number): number {
  const { blockElements, blockBytes } = weightFormats[format];
  return (elements / blockElements) * blockBytes;
}

/** Bits a weight takes in memory once packed for kernels. */
export function heldBits(format: WeightFormatName): number {
  const definition: WeightFormatDefinition = weightFormats[format];
  return definition.heldBits ?? (8 * definition.blockBytes) / definition.blockElements;
}
