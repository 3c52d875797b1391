/** Who may enter: whether a request can ever run, and whether it should start now. */
import { MillraceError } from '../base/errors.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import type { Request } from './request.ts';

export interface AdmissionLimits {
  readonly maxModelLen: number;
  readonly maxNumBatchedTokens: number;
  /** Share of the blocks kept free when others are running, so that they can grow before anyone is preempted. */
  readonly watermark: number;
}

/**
 * Refuses what could never run, while a 4xx can still be answered.
 * @throws PROMPT_EMPTY, PROMPT_TOO_LONG, KV_OUT_OF_BLOCKS
 */
export function checkAdmissible(request: Request, kv: KvCache, limits: AdmissionLimits): void {
  const { numPromptTokens, maxNumTokens } = request;
  if (numPromptTokens === 0) throw new MillraceError('PROMPT_EMPTY', { message: 'The prompt has no tokens.', param: 'prompt' });
  if (numPromptTokens >= limits.maxModelLen) {
    throw new MillraceError('PROMPT_TOO_LONG', {
      message: `The prompt does not fit the context of ${limits.maxModelLen} tokens.`,
      expected: `at most ${limits.maxModelLen - 1} tokens, so that one can follow`,
      received: `${numPromptTokens} tokens`,
      hint: 'Shorten the prompt, or raise --max-model-len if the model allows it.',
      param: 'prompt',
    });
  }
  const { fits, neededBlocks, totalBlocks } = kv.capacityFor(Math.min(maxNumTokens, limits.maxModelLen), limits.maxNumBatchedTokens);
  if (fits) return;
  throw new MillraceError('KV_OUT_OF_BLOCKS', {
    message: 'The request can never fit the KV cache.',
    expected: `at most ${totalBlocks} blocks of ${kv.blockSize} tokens`,
    received: `a prompt of ${numPromptTokens} tokens with max_tokens ${request.params.maxTokens}, which needs ${neededBlocks} blocks`,
    hint: 'Lower max_tokens, or raise --kv-cache-memory-bytes.',
  });
}

/**
 * Whether the request, its prefix already taken, can compute all the tokens it has, given what the running ones still need for theirs.
 * Admitting on the first chunk alone would let prompts preempt each other in turn.
 * @param owedBlocks blocks that running requests have yet to take for tokens that they have
 */
export function canStart(request: Request, kv: KvCache, limits: AdmissionLimits, owedBlocks: number, numRunning: number): boolean {
  const { sequence } = request;
  if (sequence === null) return false;
  const spare = numRunning === 0 ? 0 : owedBlocks + Math.ceil(limits.watermark * kv.groups[0].numBlocks);
  return kv.shortage(sequence, request.numComputedTokens, request.numTokens + 1, limits.maxNumBatchedTokens, spare) <= 0;
}
