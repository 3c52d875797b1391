import type { Activation, WeightFormat } from '../plan/plan.ts';

/** `--dtype`: what activations round to where weights are not quantised. */
export type ActivationDtype = 'auto' | 'float32' | 'bfloat16' | 'float16';

/** `--activation`: what a linear over quantised weights multiplies with. */
export type ActivationChoice = 'auto' | 'float' | 'int8-group32' | 'int8-token';

/**
 * The activation of a linear: bf16 weights multiply bf16 activations unless f32 is asked for; f32 and f16 weights multiply f32; 8-bit weights
 * multiply 8-bit groups, as other engines do with this format, unless floats are asked for.
 */
export function activationFor(format: WeightFormat, inputWidth: number, dtype: ActivationDtype, choice: ActivationChoice): Activation {
  if (format !== 'q8_0') return format === 'bf16' && dtype !== 'float32' ? 'bf16' : 'f32';
  if (choice === 'int8-token') return choice;
  return choice === 'float' || inputWidth % 32 !== 0 ? 'f32' : 'int8-group32';
}
