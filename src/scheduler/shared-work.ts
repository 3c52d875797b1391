/** Who waits because another request is computing what it needs: computed once, shared after. */
import type { KvCache } from '../kv/kv-cache.ts';
import type { Request } from './request.ts';
import type { WaitReason } from './wait-reasons.ts';

/** Why a waiting request should let others overtake it, or null. It cannot wait for ever: who runs gets on, or ends, or no longer runs. */
export function sharedWork(request: Request, running: readonly Request[], kv: KvCache): WaitReason | null {
  if (request.retention !== null) return null; // it shares nothing
  if (waitsForSibling(request)) return 'sibling';
  return waitsForProducer(request, running, kv) ? 'prefix' : null;
}

/** A sibling waits for the shared prompt while someone computes it: once instead of n times. */
function waitsForSibling(request: Request): boolean {
  const { sibling } = request;
  if (sibling === null || sibling.status !== 'running' || request.numOutputTokens > 0) return false;
  return sibling.isLoading || sibling.numComputedTokens < request.numPromptTokens;
}

/** Whether a running request is about to compute a block that this one begins with. */
function waitsForProducer(request: Request, running: readonly Request[], { enablePrefixCaching, blockSize }: KvCache): boolean {
  if (!enablePrefixCaching) return false;
  for (const producer of running) {
    if (producer.numComputedTokens >= producer.numPromptTokens || producer.cacheSalt !== request.cacheSalt || producer.retention !== null) continue;
    const wanted = Math.min((Math.floor(producer.numComputedTokens / blockSize) + 1) * blockSize, producer.numPromptTokens);
    // the last token is computed by everyone, so a prompt of one block and no more gains nothing
    if (wanted % blockSize === 0 && wanted < request.numTokens && sharesHead(producer.tokenIds, request.tokenIds, wanted)) return true;
  }
  return false;
}

function sharesHead(a: Int32Array, b: Int32Array, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return false;
  return true;
}
