/** Who may enter: whether a request can ever run, and whether it should start now. */
import { MillraceError } from '../base/errors.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { blocksForTokens, keepsAll } from '../kv/layout.ts';
import type { OutputLengths } from './output-lengths.ts';
import type { Request } from './request.ts';

export interface AdmissionLimits {
  readonly maxModelLen: number;
  readonly maxNumBatchedTokens: number;
  /** Share of the blocks kept free when others are running, so that they can grow before anyone is preempted. */
  readonly watermark: number;
}

/**
 * Refuses what could never run, while a 4xx can still be answered.
 * @throws PROMPT_EMPTY, PROMPT_TOO_LONG, KV_OUT_OF_BLOCKS, SAMPLING_PARAM_INVALID for more beams than rows
 */
export function checkAdmissible(request: Request, kv: KvCache, limits: AdmissionLimits, maxNumSeqs = Infinity): void {
  const { numPromptTokens, maxNumTokens, retention } = request;
  // a window of the last tokens is all that it ever has in the cache
  const maxModelLen = retention?.kind === 'window' ? Infinity : limits.maxModelLen;
  if (numPromptTokens === 0) throw new MillraceError('PROMPT_EMPTY', { message: 'The prompt has no tokens.', param: 'prompt' });
  if (numPromptTokens >= maxModelLen) {
    throw new MillraceError('PROMPT_TOO_LONG', {
      message: `The prompt does not fit the context of ${limits.maxModelLen} tokens.`,
      expected: `at most ${limits.maxModelLen - 1} tokens, so that one can follow`,
      received: `${numPromptTokens} tokens`,
      hint: 'Shorten the prompt, or raise --max-model-len if the model allows it.',
      param: 'prompt',
    });
  }
  const { width = 1 } = request.beams ?? {};
  if (width > maxNumSeqs) {
    throw new MillraceError('SAMPLING_PARAM_INVALID', {
      message: 'Beams run side by side, and there are not as many rows in a step.',
      expected: `at most ${maxNumSeqs} beams (--max-num-seqs)`,
      received: String(width),
      param: 'beam_width',
    });
  }
  const most = Math.min(maxNumTokens, maxModelLen);
  const { fits, neededBlocks, totalBlocks } = kv.capacityFor(most, limits.maxNumBatchedTokens, width, numPromptTokens, retention);
  if (fits) return;
  throw new MillraceError('KV_OUT_OF_BLOCKS', {
    message: 'The request can never fit the KV cache.',
    expected: `at most ${totalBlocks} blocks of ${kv.blockSize} tokens`,
    received: `a prompt of ${numPromptTokens} tokens with max_tokens ${request.params.maxTokens}${width === 1 ? '' : ` and ${width} beams`}, which needs ${neededBlocks} blocks`,
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
  const forBeams = request.beams?.owedBlocks(kv.blockSize) ?? 0;
  const spare = numRunning === 0 ? 0 : owedBlocks + forBeams + Math.ceil(limits.watermark * kv.groups[0].numBlocks);
  return kv.shortage(sequence, request.numComputedTokens, request.numTokens + 1, limits.maxNumBatchedTokens, spare) <= 0;
}

/**
 * The most blocks that will be held at once if nobody else starts, by predicted lengths: the past-future estimate (Gong et al., "Past-Future
 * Scheduler for LLM Serving under SLA Guarantees", 2025). With requests sorted by what remains to them, longest first, the fullest moment is one at
 * which the i-th ends: the first i have then grown by its remainder, the others have ended and given back what is theirs alone.
 */
export class PeakEstimate {
  readonly #kv: KvCache;
  readonly #lengths: OutputLengths;
  /** Group whose blocks grow with the text, or -1: windows do not grow. */
  readonly #group: number;
  readonly #keys: Float64Array;
  /** A row for each that runs or will: beams that are to come count as the first of theirs. */
  readonly #rows: Request[] = [];

  constructor(kv: KvCache, lengths: OutputLengths, maxNumSeqs: number) {
    this.#kv = kv;
    this.#lengths = lengths;
    this.#group = kv.groups.findIndex(keepsAll);
    this.#keys = new Float64Array(maxNumSeqs + 1);
  }

  /** Whether a request, its prefix already taken, can run beside the others to everybody's predicted end. */
  fits(running: readonly Request[], candidate: Request, watermark: number): boolean {
    if (this.#group < 0 || running.length === 0) return true;
    const { numBlocks } = this.#kv.groups[this.#group];
    return this.peakBlocks(running, candidate) <= numBlocks - Math.ceil(watermark * numBlocks);
  }

  peakBlocks(running: readonly Request[], candidate: Request): number {
    const { blockSize } = this.#kv;
    const rows = this.#rows;
    for (const request of running) this.#addRows(request);
    this.#addRows(candidate);
    const keys = this.#keys.subarray(0, rows.length);
    let held = this.#kv.referencedBlocks(this.#group);
    for (const [i, request] of rows.entries()) {
      const isToCome = i > 0 && rows[i - 1] === request;
      held += isToCome
        ? this.#ownBlocks(request)
        : Math.max(0, this.#kv.blocksFor(request.retention, request.sequence, request.numTokens + 1) - (request.sequence?.numBlocks ?? 0));
      // one sortable number: the remainder, then who
      keys[i] = this.#lengths.predictRemaining(request.numOutputTokens, request.params.maxTokens) * 8192 + i;
    }
    keys.sort();
    let peak = 0;
    let ended = 0;
    for (let i = 0; i < keys.length; i++) {
      const remaining = Math.floor(keys[i] / 8192);
      // last blocks are half empty on the whole, and half full at the end: no rounding row by row
      peak = Math.max(peak, held - ended + blocksForTokens((keys.length - i) * remaining, blockSize));
      ended += this.#ownBlocks(rows[keys[i] % 8192]);
    }
    rows.length = 0;
    return peak;
  }

  #addRows(request: Request): void {
    this.#rows.push(request);
    const { beams } = request;
    if (beams === null || beams.leader !== request) return;
    const numToCome = beams.numRowsToCome - (request.status === 'running' ? 0 : 1);
    for (let i = 0; i < numToCome; i++) this.#rows.push(request);
  }

  #ownBlocks({ numTokens, numSharedTokens, numPromptTokens, beams, retention, sequence }: Request): number {
    const { blockSize } = this.#kv;
    const numShared = beams === null ? numSharedTokens : numPromptTokens;
    return Math.max(0, this.#kv.blocksFor(retention, sequence, numTokens + 1) - Math.floor(numShared / blockSize));
  }
}
