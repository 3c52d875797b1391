/** Errors of the addon as ours: they carry a code of the table; nodes are named where the addon can only count them. */
import { type ErrorCode, errorTable, MillraceError, toMillraceError } from '../../base/errors.ts';
import type { Plan } from '../../plan/plan.ts';

export function nativeError(thrown: unknown, plan?: Plan): MillraceError {
  if (thrown instanceof MillraceError || !(thrown instanceof Error)) return toMillraceError(thrown);
  const code = (thrown as NodeJS.ErrnoException).code;
  if (code === undefined || !Object.hasOwn(errorTable, code)) return toMillraceError(thrown);
  if (code === 'BACKEND_OP_UNSUPPORTED' && plan !== undefined) return unsupported(thrown, plan);
  return new MillraceError(code as ErrorCode, { message: thrown.message, cause: thrown });
}

/** The addon lists `index:what`, separated by commas. */
function unsupported(thrown: Error, plan: Plan): MillraceError {
  const nodes = thrown.message.split(', ').map((item) => {
    const at = item.indexOf(':');
    return `${plan.nodes[Number(item.slice(0, at))]?.name} (${item.slice(at + 1)})`;
  });
  return new MillraceError('BACKEND_OP_UNSUPPORTED', {
    message: `The native backend has no kernel for ${nodes.join(', ')} of plan ${plan.name}.`,
    hint: 'use --backend reference',
    cause: thrown,
  });
}
