/** How a long text is cut into sequences that a model of limited context can read, and which tokens count in each. */

/** Tokens `[begin, end)` of the text are one sequence; those from `firstScored` on count. */
export interface ScoringWindow {
  readonly begin: number;
  readonly end: number;
  /** Behind `begin`: the first token of a sequence follows nothing. */
  readonly firstScored: number;
}

export interface ScoringOptions {
  /**
   * `sliding`: windows `stride` apart, each counting what the one before has not seen (transformers' documentation, "Perplexity of fixed-length models"): every
   * token of the text but the first counts once (with `stride` equal to `context`, but the first of each window). `llama.cpp`: disjoint windows of which the second half counts, each begun with BOS where the tokenizer
   * adds one, what is left behind the last whole one dropped (llama-perplexity).
   */
  readonly method: 'sliding' | 'llama.cpp';
  /** Tokens of a sequence. */
  readonly context: number;
  /** Of `sliding`: 1 to `context`. */
  readonly stride: number;
}

export function scoringWindows(numTokens: number, { method, context, stride }: ScoringOptions): ScoringWindow[] {
  const windows: ScoringWindow[] = [];
  if (method === 'llama.cpp') {
    const half = Math.floor(context / 2);
    for (let begin = 0; begin + context <= numTokens; begin += context) windows.push({ begin, end: begin + context, firstScored: begin + half + 1 });
    return windows;
  }
  for (let begin = 0, seen = 0; seen < numTokens; begin += stride) {
    const end = Math.min(begin + context, numTokens);
    windows.push({ begin, end, firstScored: Math.max(begin + 1, seen) });
    seen = end;
  }
  return windows;
}

/** Tokens that count. */
export function numScored(windows: readonly ScoringWindow[]): number {
  return windows.reduce((sum, { end, firstScored }) => sum + Math.max(0, end - firstScored), 0);
}
