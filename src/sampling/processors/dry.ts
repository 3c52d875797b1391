/** DRY ("don't repeat yourself"): a penalty on the token that would carry on a repetition, growing with the length of what is repeated. */

export interface DrySettings {
  /** 0: off. */
  readonly multiplier: number;
  readonly base: number;
  /** Repetitions shorter than this are free. */
  readonly allowedLength: number;
  /** How many of the last tokens are looked at; 0 or below: all. */
  readonly range: number;
  /** Whether no repetition reaches across the token. */
  isBreaker(tokenId: number): boolean;
}

/** Longest repetition that is told apart: penalties have long outgrown every logit by then. */
const MAX_LENGTH = 1024;

const most = Math.fround(3e38);

/**
 * For each token that would continue an earlier run of tokens which the history ends with, `[id, multiplier * base ^ (length - allowedLength)]`, the
 * length being that of the longest such run if it is `allowedLength` or more. Linear in the history (Z function of the history read backwards).
 */
export function dryPenalties(history: Int32Array, settings: DrySettings): [tokenId: number, penalty: number][] {
  const { multiplier, base, allowedLength, range } = settings;
  const ids = range > 0 ? history.subarray(Math.max(0, history.length - range)) : history;
  const count = ids.length;
  // no run is longer than the stretch behind the last breaker
  let longest = 0;
  while (longest < count && longest < MAX_LENGTH && !settings.isBreaker(ids[count - 1 - longest])) longest++;
  if (longest < allowedLength || multiplier === 0) return [];
  const at = (k: number) => ids[count - 1 - k];
  const shared = new Int32Array(count);
  const lengths = new Map<number, number>();
  for (let k = 1, left = 0, right = 0; k < count; k++) {
    let length = k < right ? Math.min(right - k, shared[k - left]) : 0;
    while (k + length < count && at(length) === at(k + length)) length++;
    shared[k] = length;
    if (k + length > right) [left, right] = [k, k + length];
    const run = Math.min(length, longest);
    const next = at(k - 1);
    if (run >= allowedLength && run > (lengths.get(next) ?? 0)) lengths.set(next, run);
  }
  return Array.from(lengths, ([id, length]) => [id, Math.fround(Math.min(most, multiplier * base ** (length - allowedLength)))]);
}
