/** Forbids every id whose bit is 0 in `mask[at ...]`: bit `id % 32` of word `id / 32`. */
export function applyMask(logits: Float32Array, vocabSize: number, mask: Uint32Array, at: number): void {
  for (let id = 0; id < vocabSize; id++) {
    if (((mask[at + (id >>> 5)] >>> (id & 31)) & 1) === 0) logits[id] = -Infinity;
  }
}
