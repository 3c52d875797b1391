import { MillraceError } from '../../base/errors.ts';
import { gibibytes, readMachine } from '../../base/machine.ts';

/**
 * Systems promise memory that they do not have, and end the process when it is touched: better to say so before.
 * @throws MEMORY_INSUFFICIENT with the figures
 */
export function checkMemory(what: string, neededBytes: number, hint: string): void {
  const { availableMemoryBytes, reasons } = readMachine();
  if (neededBytes <= availableMemoryBytes) return;
  throw new MillraceError('MEMORY_INSUFFICIENT', {
    message: `There is no room for ${what}.`,
    expected: `at most ${gibibytes(availableMemoryBytes)} (${reasons[reasons.length - 1]})`,
    received: gibibytes(neededBytes),
    hint,
  });
}
