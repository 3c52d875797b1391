/** The storage formats of weights: one row a format. */
import { bf16 } from './bf16.ts';
import { f16 } from './f16.ts';
import { f32 } from './f32.ts';
import type { WeightFormatDefinition } from './format.ts';
import { q8_0 } from './q8_0.ts';

export const weightFormats = { f32, f16, bf16, q8_0 } as const satisfies Record<string, WeightFormatDefinition>;

export type WeightFormatName = keyof typeof weightFormats;

/** Bytes of `elements` values in a format. `elements` is a whole number of blocks. */
export function storedBytes(format: WeightFormatName, elements: number): number {
  const { blockElements, blockBytes } = weightFormats[format];
  return (elements / blockElements) * blockBytes;
}
