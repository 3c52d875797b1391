import type { Activation, WeightFormat } from '../plan/plan.ts';

/** `--dtype`: what activations round to where weights are not quantised. */
export type ActivationDtype = 'auto' | 'float32' | 'bfloat16' | 'float16';

/** `--activation`: what a linear over quantised weights multiplies with. */
export type ActivationChoice = 'auto' | 'float' | 'int8-group32' | 'int8-token';

/**
 * The activation of a linear: bf16 weights multiply bf16 activations unless f32 is asked for; f32 and f16 weights multiply f32; quantised
 * weights (8-bit and below) multiply 8-bit groups, as other engines do with these formats, unless floats are asked for.
 */
export function activationFor(format: WeightFormat, inputWidth: number, dtype: ActivationDtype, choice: ActivationChoice): Activation {
  if (format === 'bf16') return dtype !== 'float32' ? 'bf16' : 'f32';
  if (format === 'f32' || format === 'f16') return 'f32';
  if (choice === 'int8-token') return choice;
  return choice === 'float' || inputWidth % 32 !== 0 ? 'f32' : 'int8-group32';
}
