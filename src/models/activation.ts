import type { Activation, WeightFormat } from '../plan/plan.ts';

/** `--dtype`: what activations round to where weights are not quantised. */
export type ActivationDtype = 'auto' | 'float32' | 'bfloat16' | 'float16';

/** `--activation`: what a linear over quantised weights multiplies with. */
export type ActivationChoice = 'auto' | 'float' | 'int8-group32' | 'int8-token';

/**
 * The activation of a linear: bf16 weights multiply bf16 activations unless f32 is asked for, and so do weights of FP8 and NF4; f32 and f16 weights multiply
 * f32; weights of integers (8-bit and below) multiply 8-bit groups, as other engines do with these formats, unless floats are asked for, and 8-bit weights of
 * a scale a channel 8-bit activations of a scale a token (W8A8). `announced` is what the checkpoint itself asks for, taken where the user says nothing.
 */
export function activationFor(
  format: WeightFormat,
  inputWidth: number,
  dtype: ActivationDtype,
  choice: ActivationChoice,
  announced?: Activation,
): Activation {
  const float = dtype !== 'float32' ? 'bf16' : 'f32';
  if (format === 'bf16') return float;
  if (format === 'f32' || format === 'f16') return 'f32';
  const usual = announced ?? (format === 'int8_channel' ? 'int8-token' : undefined);
  const asked = choice === 'auto' && usual !== undefined ? usual : choice;
  if (asked === 'int8-token' || asked === 'f32' || asked === 'bf16') return asked;
  if (/^(fp8|nf4)/.test(format) && asked !== 'int8-group32') return dtype === 'float16' ? 'f32' : float;
  return asked === 'float' || inputWidth % 32 !== 0 ? 'f32' : 'int8-group32';
}
