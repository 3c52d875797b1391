/** Penalties on ids that were seen before. Repetition is that of Keskar et al. 2019 (arXiv:1909.05858), the others are OpenAI's. */
export interface Penalties {
  /** Divides a positive logit of an id seen in prompt or output, multiplies one that is not. 1: off. */
  readonly repetition: number;
  /** Subtracted once from ids seen in the output. */
  readonly presence: number;
  /** Subtracted from ids seen in the output once for each time. */
  readonly frequency: number;
}

/**
 * Applies penalties to each distinct id of `history[begin, end)`, of which the first `numPrompt` are prompt: repetition, then frequency
 * (`logit - count * frequency`), then presence, each operation rounded to f32. `counts` has an entry an id, all -1 before and after.
 */
export function applyPenalties(
  logits: Float32Array,
  vocabSize: number,
  history: Int32Array,
  begin: number,
  end: number,
  numPrompt: number,
  penalties: Penalties,
  counts: Int32Array,
): void {
  const f = Math.fround;
  for (let i = begin; i < end; i++) {
    const id = history[i];
    if (id < 0 || id >= vocabSize) continue;
    if (counts[id] < 0) counts[id] = 0;
    if (i >= begin + numPrompt) counts[id]++;
  }
  for (let i = begin; i < end; i++) {
    const id = history[i];
    if (id < 0 || id >= vocabSize || counts[id] < 0) continue;
    let logit = logits[id];
    if (penalties.repetition !== 1) logit = logit > 0 ? f(logit / penalties.repetition) : f(logit * penalties.repetition);
    if (counts[id] > 0) {
      logit = f(logit - f(counts[id] * penalties.frequency));
      logit = f(logit - penalties.presence);
    }
    logits[id] = logit;
    counts[id] = -1;
  }
}
