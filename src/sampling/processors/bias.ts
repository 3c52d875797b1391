/** Adds to the logits of single ids. -Infinity forbids an id whatever its logit. Ids outside the vocabulary are passed over. */
export function applyBias(logits: Float32Array, vocabSize: number, ids: Int32Array, values: Float32Array, begin: number, end: number): void {
  for (let i = begin; i < end; i++) {
    const id = ids[i];
    if (id < 0 || id >= vocabSize) continue;
    logits[id] = values[i] === -Infinity ? -Infinity : logits[id] + values[i];
  }
}
