/** Proposes draft tokens for a row; the scheduler pays for them by the one counter (idea 1). Drafters arrive with the speculation issue. */
export interface Drafter {
  /**
   * Writes up to `maxDraft` ids after `tokenIds[0..numTokens)` into `out`.
   * @returns how many were written
   */
  propose(tokenIds: Int32Array, numTokens: number, maxDraft: number, out: Int32Array): number;
}
