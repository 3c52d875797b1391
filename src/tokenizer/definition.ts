/**
 * What every tokenizer file is turned into before a tokenizer is built from it: `tokenizer.json`, GGUF metadata and
 * SentencePiece models meet here. It is a plain value that may be sent to a worker thread.
 */
import { MillraceError } from '../base/errors.ts';

/** A normalizer, pre-tokenizer or decoder as `tokenizer.json` writes it. */
export interface Component {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** An entry that is matched in the text before anything else. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Control tokens: recognised only with `parseSpecial`, left out by `skipSpecialTokens`. */
  readonly special: boolean;
  /** Matched in the normalised text rather than in the raw one. */
  readonly normalized: boolean;
  /** Swallows white space to its left. */
  readonly lstrip: boolean;
  /** Swallows white space to its right. */
  readonly rstrip: boolean;
  /** Matches only between non-word characters. */
  readonly singleWord: boolean;
}

/**
 * Merges as four columns of one length: `left[i] + right[i] -> merged[i]`, lower `rank` first. Merges of equal rank are
 * applied from left to right (SentencePiece orders by score alone, so that different merges may share a rank).
 */
export interface MergeList {
  readonly left: Int32Array;
  readonly right: Int32Array;
  readonly merged: Int32Array;
  readonly rank: Int32Array;
}

/** Merges of adjacent pieces. */
export interface BytePairDefinition {
  readonly kind: 'byte-pair';
  readonly merges: MergeList;
  /** Characters outside the vocabulary become `<0xNN>` tokens. */
  readonly byteFallback: boolean;
  /** A pre-token that is in the vocabulary is taken whole, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Several unknown characters in a row become one unknown token. */
  readonly fuseUnknown: boolean;
}

/** The cut of the highest sum of scores. */
export interface UnigramDefinition {
  readonly kind: 'unigram';
  /** Score of each id. */
  readonly scores: Float64Array;
  /** `[size]`: 1 for ids that text may become. */
  readonly usable: Uint8Array;
  readonly unknownScore: number;
  readonly singlePrecision: boolean;
  readonly byteFallback: boolean;
}

/** The longest known piece, again and again. */
export interface WordPieceDefinition {
  readonly kind: 'word-piece';
  /** In front of pieces that continue a word. Null: words are never cut. */
  readonly prefix: string | null;
  /** Longer words are unknown. */
  readonly maxCharacters: number;
}

export interface TokenizerDefinition {
  /** Spelling of each id; `null` where the file names none. Added tokens are included. */
  readonly tokens: readonly (string | null)[];
  readonly model: BytePairDefinition | UnigramDefinition | WordPieceDefinition;
  readonly addedTokens: readonly AddedToken[];
  readonly normalizer: Component | null;
  readonly preTokenizer: Component | null;
  readonly decoder: Component | null;
  readonly unkTokenId: number | null;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  /** What `addSpecialTokens` puts before the text. */
  readonly prefixIds: readonly number[];
  /** What `addSpecialTokens` puts after the text. */
  readonly suffixIds: readonly number[];
}

/** Ids above this are refused: no vocabulary is near it, and tables are sized by the largest id. */
export const maxVocabSize = 1 << 22;
/** More merges than this are refused. */
export const maxMerges = 1 << 23;
/** Longest spelling of a token, in UTF-16 units. */
export const maxTokenLength = 1 << 14;

/** @returns the error of this room, to be thrown: TOKENIZER_INVALID */
export function tokenizerInvalid(
  message: string,
  more: { expected?: string; received?: string; hint?: string; cause?: unknown } = {},
): MillraceError {
  return new MillraceError('TOKENIZER_INVALID', { message, ...more });
}
