/**
 * Sampling parameters of a step as columns, one entry a logit row. Arrays may be longer than `numRows`; they belong to the caller and are
 * reused from step to step.
 */
export interface SamplingBatch {
  readonly numRows: number;
  /** 0: greedy. */
  readonly temperature: Float32Array;
  readonly topP: Float32Array;
  /** 0: off. */
  readonly topK: Int32Array;
  readonly minP: Float32Array;
  readonly repetitionPenalty: Float32Array;
  readonly presencePenalty: Float32Array;
  readonly frequencyPenalty: Float32Array;
  /** Philox key: low and high half of the 64-bit seed. `[rows * 2]` */
  readonly seed: Uint32Array;
  /** Choice index (`n > 1`), third word of the Philox counter. */
  readonly choice: Uint32Array;
  /** Position of the token about to be sampled, first word of the Philox counter; the second is the draw, the fourth 0. */
  readonly position: Uint32Array;
  /** -1: no logprobs; 0: of the sampled token; k: with the k best alternatives. */
  readonly numLogprobs: Int32Array;
  /** Ids seen so far (prompt first), for the penalties: row r owns `[historyStart[r], historyStart[r + 1])`. Empty where no penalty is set. */
  readonly historyIds: Int32Array;
  readonly historyStart: Int32Array;
  /** Of that range, how many are prompt: repetition counts them, presence and frequency do not. */
  readonly historyPrompt: Int32Array;
  /** Additions to logits: row r owns `[biasStart[r], biasStart[r + 1])`. -Infinity forbids an id (min_tokens). */
  readonly biasIds: Int32Array;
  readonly biasValues: Float32Array;
  readonly biasStart: Int32Array;
  /** `[rows, SHAPING_WIDTH]`: fields of `Shaping` in the order of `shapingFields`, or empty when no row of the step shapes anything. */
  readonly shaping: Float32Array;
  /** Ids whose log probabilities are wanted: row r owns `[wantedStart[r], wantedStart[r + 1])`. They stand behind its alternatives. */
  readonly wantedIds: Int32Array;
  readonly wantedStart: Int32Array;
}
