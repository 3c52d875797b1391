/** What a request's sampling parameters come to, worked out once at admission, and what of it moves with its tokens. */
import { badWordSequences, completingTokens } from '../sampling/processors/bad-words.ts';
import { type DrySettings, dryPenalties } from '../sampling/processors/dry.ts';
import { needsOrder, plainShaping, type Shaping, shapingFields } from '../sampling/shaping.ts';
import type { Request } from '../scheduler/request.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

export interface RequestSampling {
  readonly seedLow: number;
  readonly seedHigh: number;
  readonly biasIds: Int32Array;
  readonly biasValues: Float32Array;
  /** Ids that would end the generation: forbidden until `minTokens` are there. */
  readonly endIds: Int32Array;
  readonly usesHistory: boolean;
  /** As `SamplingBatch.numLogprobs`. */
  readonly numLogprobs: number;
  /** A row of `SamplingBatch.shaping`; null where nothing is shaped. Mirostat's `mu` in it is the state of the request: it follows its tokens alone. */
  readonly shaping: Float32Array | null;
  /** Ids whose log probabilities are wanted at each place. */
  readonly wantedIds: Int32Array;
  readonly dry: DrySettings | null;
  readonly badWords: readonly Int32Array[];
  /** Bits of the ids that may come; null for all. */
  readonly allowed: Uint32Array | null;
  /** Its next sample depends on the tokens before it. */
  readonly waitsForSample: boolean;
  /** A grammar's forced tokens could be forbidden, or move a state: each takes a step of its own. */
  readonly forbidsJumps: boolean;
}

export function requestSampling(
  request: Request,
  eosTokenIds: readonly number[],
  tokenizer: Pick<Tokenizer, 'encode' | 'tokenBytes' | 'specialTokenIds'>,
  vocabSize: number,
): RequestSampling {
  const { params } = request;
  const seed = BigInt.asUintN(64, BigInt(params.seed));
  const bias = Object.entries(params.logitBias);
  const ends = params.ignoreEos ? params.stopTokenIds : [...eosTokenIds, ...params.stopTokenIds];
  const usesHistory = params.repetitionPenalty !== 1 || params.presencePenalty !== 0 || params.frequencyPenalty !== 0;
  const badWords = badWordSequences(params.badWords, tokenizer);
  const usesMirostat = params.mirostatMode !== 0 && params.temperature > 0;
  return {
    seedLow: Number(seed & 0xffffffffn),
    seedHigh: Number(seed >> 32n),
    biasIds: Int32Array.from(bias, ([id]) => Number(id)),
    biasValues: Float32Array.from(bias, ([, value]) => value),
    endIds: params.minTokens > 0 ? Int32Array.from(new Set(ends)) : new Int32Array(0),
    usesHistory,
    numLogprobs: params.logprobs || params.bestOf > params.n ? params.topLogprobs : -1,
    shaping: shapingOf(request),
    wantedIds: Int32Array.from(params.logprobTokenIds),
    dry: drySettings(request, tokenizer),
    badWords,
    allowed: params.allowedTokenIds === null ? null : bitsOf(params.allowedTokenIds, vocabSize),
    waitsForSample: usesHistory || usesMirostat || params.dryMultiplier > 0 || badWords.some((ids) => ids.length > 1),
    forbidsJumps: usesMirostat || badWords.length > 0 || params.allowedTokenIds !== null,
  };
}

function shapingOf({ params }: Request): Float32Array | null {
  const shaping: Shaping = { ...plainShaping, ...params, mirostatMu: 2 * params.mirostatTau };
  if (!needsOrder(shaping) && shaping.dynatempRange === 0) return null;
  return Float32Array.from(shapingFields, (field) => shaping[field]);
}

function drySettings({ params }: Request, tokenizer: Pick<Tokenizer, 'tokenBytes' | 'specialTokenIds'>): DrySettings | null {
  if (params.dryMultiplier === 0) return null;
  const known = new Map<number, boolean>();
  const isBreaker = (id: number) => {
    const answer = known.get(id);
    if (answer !== undefined) return answer;
    const text = new TextDecoder().decode(tokenizer.tokenBytes(id));
    const breaks = tokenizer.specialTokenIds.has(id) || params.drySequenceBreakers.some((breaker) => text.includes(breaker));
    known.set(id, breaks);
    return breaks;
  };
  return { multiplier: params.dryMultiplier, base: params.dryBase, allowedLength: params.dryAllowedLength, range: params.dryRange, isBreaker };
}

function bitsOf(ids: readonly number[], vocabSize: number): Uint32Array {
  const bits = new Uint32Array(Math.ceil(vocabSize / 32));
  for (const id of ids) bits[id >>> 5] |= 1 << (id & 31);
  return bits;
}

/** What DRY and bad words add to logits behind `tokenIds`, of which the first `numPrompt` are prompt. */
export function movingBias({ dry, badWords }: RequestSampling, tokenIds: Int32Array, numPrompt: number): [tokenId: number, value: number][] {
  if (dry === null && badWords.length === 0) return [];
  const bias = dry === null ? [] : dryPenalties(tokenIds, dry).map(([id, penalty]): [number, number] => [id, -penalty]);
  for (const id of completingTokens(badWords, tokenIds.subarray(numPrompt))) bias.push([id, -Infinity]);
  return bias;
}
