/** Reads a tokenizer off the main thread, whose heap and event loop a file of millions of bytes would burden. */
import { MillraceError } from '../base/errors.ts';
import { startWorker } from '../base/start-worker.ts';
import { tokenizerFromData } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { TokenizerAnswer, TokenizerPlace } from './tokenizer-worker.ts';

/** Smaller files are parsed where they are asked for: starting a thread takes longer. */
export const MAX_INLINE_TOKENIZER_BYTES = 1 << 20;

/**
 * The worker has ended, and its memory is free, when this resolves.
 * @throws TOKENIZER_INVALID, WEIGHTS_FILE_INVALID
 */
export async function readTokenizerInWorker(place: TokenizerPlace): Promise<Tokenizer> {
  const answer = await new Promise<TokenizerAnswer>((resolve, reject) => {
    let answer: TokenizerAnswer | null = null;
    const worker = startWorker('./tokenizer-worker', import.meta.url, { workerData: place });
    worker.once('message', (message: TokenizerAnswer) => {
      answer = message;
    });
    worker.once('error', (cause) => reject(lost(place, cause)));
    worker.once('exit', () => (answer === null ? reject(lost(place, new Error('it gave no answer'))) : resolve(answer)));
  });
  if ('data' in answer) return tokenizerFromData(answer.data);
  throw new MillraceError(answer.code, answer.message);
}

/** Running out of heap ends a worker with an error, and nothing else. */
function lost(place: TokenizerPlace, cause: Error): MillraceError {
  return new MillraceError('TOKENIZER_INVALID', {
    message: `The tokenizer of '${place.path}' could not be read: ${cause.message.slice(0, 400)}.`,
    cause,
  });
}
