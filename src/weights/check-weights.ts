import { type ErrorCode, MillraceError } from '../base/errors.ts';
import type { Plan } from '../plan/plan.ts';
import type { WeightSource } from './weight-source.ts';

/** Complaints listed in full; a wrong configuration can make thousands. */
const MOST_LISTED = 20;

/**
 * Checks that a source holds every tensor of a plan with the right shape, before anything is loaded. All that is wrong is reported at once.
 * @throws WEIGHTS_TENSOR_MISSING, WEIGHTS_SHAPE_MISMATCH or WEIGHTS_FORMAT_UNSUPPORTED: the first that applies, with all complaints in the message
 */
export function checkWeights(plan: Plan, source: Pick<WeightSource, 'find'>): void {
  const complaints: Record<'WEIGHTS_TENSOR_MISSING' | 'WEIGHTS_SHAPE_MISMATCH' | 'WEIGHTS_FORMAT_UNSUPPORTED', string[]> = {
    WEIGHTS_TENSOR_MISSING: [],
    WEIGHTS_SHAPE_MISMATCH: [],
    WEIGHTS_FORMAT_UNSUPPORTED: [],
  };
  const checked = new Set<string>();
  for (const { tensor, shape } of plan.weights.flatMap((weight) => weight.parts)) {
    if (checked.has(tensor)) continue;
    checked.add(tensor);
    try {
      const stored = source.find(tensor);
      if (stored === undefined) complaints.WEIGHTS_TENSOR_MISSING.push(`${tensor} [${shape.join(', ')}] is missing`);
      else if (stored.shape.length !== shape.length || stored.shape.some((length, i) => length !== shape[i])) {
        complaints.WEIGHTS_SHAPE_MISMATCH.push(`${tensor} should be [${shape.join(', ')}] but is [${stored.shape.join(', ')}]`);
      }
    } catch (error) {
      if (!(error instanceof MillraceError) || error.code !== 'WEIGHTS_FORMAT_UNSUPPORTED') throw error;
      complaints.WEIGHTS_FORMAT_UNSUPPORTED.push(`${tensor} is stored as ${error.received}, which is not read yet`);
    }
  }
  const all = Object.values(complaints).flat();
  if (all.length === 0) return;
  const listed = all.slice(0, MOST_LISTED).join('; ') + (all.length > MOST_LISTED ? `; and ${all.length - MOST_LISTED} more` : '');
  const code = (Object.keys(complaints) as (keyof typeof complaints)[]).find((c) => complaints[c].length > 0) satisfies ErrorCode | undefined;
  throw new MillraceError(code ?? 'WEIGHTS_TENSOR_MISSING', {
    message: `The weight files do not fit the model configuration (${all.length} of ${checked.size} tensors): ${listed}.`,
    hint: 'check that config.json belongs to these weights and that every shard was downloaded',
  });
}
