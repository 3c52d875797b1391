/** The second stage of a step on the host (S2): called between forward and sampling, with a deadline. */
import { MillraceError, toMillraceError } from '../base/errors.ts';
import type { HostStage } from './backend.ts';

/**
 * Runs the host stage of a step on its logits (null unless it wants them).
 * @throws BACKEND_STEP_FAILED when it rejects, is late, or returns masks of another size than `[numLogitRows, ceil(vocabSize / 32)]`
 */
export async function runHostStage(
  host: HostStage,
  logits: Float32Array | null,
  numLogitRows: number,
  vocabSize: number,
): Promise<Uint32Array | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const fail = () => reject(new MillraceError('BACKEND_STEP_FAILED', `The host stage of the step took more than ${host.deadlineMs} ms.`));
    timer = setTimeout(fail, host.deadlineMs);
  });
  try {
    const masks = await Promise.race([host.process(logits), late]);
    const expected = numLogitRows * Math.ceil(vocabSize / 32);
    if (masks !== null && masks.length < expected) {
      throw new MillraceError('BACKEND_STEP_FAILED', {
        message: 'The host stage gave masks of the wrong size.',
        expected: `${expected} words`,
        received: `${masks.length}`,
      });
    }
    return masks;
  } catch (thrown) {
    throw toMillraceError(thrown, 'BACKEND_STEP_FAILED');
  } finally {
    clearTimeout(timer);
  }
}
