/**
 * SentencePiece BPE vocabularies: pieces with scores, from a `tokenizer.model` protobuf or from GGUF metadata.
 * Format: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
 */
import {
  type AddedToken,
  type Component,
  type MergeList,
  maxMerges,
  maxTokenLength,
  maxVocabSize,
  type TokenizerDefinition,
  tokenizerInvalid,
} from './definition.ts';
import { emptyMergeList, uniqueIds } from './json-values.ts';
import type { SentencePieceComponent } from './normalizer.ts';
import { protobufFields } from './protobuf.ts';
import { unknownScoreOf } from './unigram.ts';

/** Kinds of pieces, numbered as SentencePiece and GGUF number them. */
export const pieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Columns of one length. */
export interface PieceList {
  readonly tokens: readonly string[];
  readonly scores: ArrayLike<number>;
  readonly types: ArrayLike<number>;
}

export interface SentencePieceOptions {
  readonly kind: 'byte-pair' | 'unigram';
  /** A space is put before the text. */
  readonly addSpacePrefix: boolean;
  /** How the text is normalised beside that; null: spaces are marked, and no more. */
  readonly rules: Omit<SentencePieceComponent['rules'], 'addPrefix' | 'userDefined'> | null;
  readonly byteFallback: boolean;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly unkTokenId: number | null;
  readonly addBos: boolean;
  readonly addEos: boolean;
}

export function definitionFromPieces(pieces: PieceList, options: SentencePieceOptions): TokenizerDefinition {
  const { tokens, types } = pieces;
  const { bosTokenId, rules } = options;
  const eosTokenIds = uniqueIds(options.eosTokenIds);
  const toSpace: Component = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  const stripsSpace = options.addSpacePrefix && rules?.prefixBehind !== true;
  const strip = stripsSpace ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : [];
  const special = [...(bosTokenId === null ? [] : [bosTokenId]), ...eosTokenIds];
  return {
    tokens,
    model: modelOfPieces(pieces, options),
    // of a Unigram model, user-defined symbols are pieces with a score of their own
    addedTokens: addedTokensOfTypes(tokens, types, special, rules !== null).filter((token) => token.special || options.kind === 'byte-pair'),
    normalizer: normalizerOf(pieces, options),
    preTokenizer: null,
    decoder: { type: 'Sequence', decoders: [toSpace, { type: 'ByteFallback' }, { type: 'Fuse' }, ...strip] },
    unkTokenId: options.unkTokenId,
    bosTokenId,
    eosTokenIds,
    prefixIds: options.addBos && bosTokenId !== null ? [bosTokenId] : [],
    suffixIds: options.addEos && eosTokenIds.length > 0 ? [eosTokenIds[0]] : [],
  };
}

function normalizerOf({ tokens, types }: PieceList, { rules, addSpacePrefix }: SentencePieceOptions): Component {
  const toMark: Component = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  if (rules === null) return { type: 'Sequence', normalizers: addSpacePrefix ? [{ type: 'Prepend', prepend: '▁' }, toMark] : [toMark] };
  const userDefined = tokens.filter((_, id) => types[id] === pieceType.userDefined);
  return { type: 'SentencePiece', rules: { ...rules, addPrefix: addSpacePrefix, userDefined } } satisfies SentencePieceComponent;
}

function modelOfPieces(pieces: PieceList, { kind, byteFallback }: SentencePieceOptions): TokenizerDefinition['model'] {
  if (kind === 'byte-pair') return { kind, merges: mergesOfPieces(pieces), byteFallback, ignoreMerges: false, fuseUnknown: true };
  const { types } = pieces;
  const scores = Float64Array.from(pieces.scores, Math.fround);
  const usable = Uint8Array.from(types, (type) => (type === pieceType.normal || type === pieceType.userDefined ? 1 : 0));
  const unknownScore = Math.fround(unknownScoreOf(scores, (id) => types[id] === pieceType.normal));
  return { kind, scores, usable, unknownScore, singlePrecision: true, byteFallback };
}

/**
 * Control and unknown pieces are special, user-defined ones are matched but are text; `alwaysSpecial` ids are special in any case.
 * @param normalized user-defined pieces are looked for in the normalised text
 */
export function addedTokensOfTypes(
  tokens: readonly string[],
  types: ArrayLike<number>,
  alwaysSpecial: readonly number[],
  normalized = false,
): AddedToken[] {
  const forced = new Set(alwaysSpecial);
  const added: AddedToken[] = [];
  tokens.forEach((content, id) => {
    const special = types[id] === pieceType.control || types[id] === pieceType.unknown || forced.has(id);
    if (content.length === 0 || !(special || types[id] === pieceType.userDefined)) return;
    added.push({ id, content, special, normalized: normalized && !special, lstrip: false, rstrip: false, singleWord: false });
  });
  return added;
}

/**
 * SentencePiece joins the adjacent pair whose result scores highest, leftmost first. So every split of a piece into two known
 * pieces is a merge, ranked by the score of the result; equal scores share a rank.
 */
function mergesOfPieces({ tokens, scores, types }: PieceList): MergeList {
  const ids = new Map<string, number>();
  const mergeable = (id: number): boolean => types[id] === pieceType.normal || types[id] === pieceType.userDefined;
  tokens.forEach((token, id) => {
    if (mergeable(id) && !ids.has(token)) ids.set(token, id);
  });
  const triples: [left: number, right: number, merged: number][] = [];
  tokens.forEach((token, id) => {
    if (!mergeable(id) || ids.get(token) !== id) return;
    for (let cut = 1; cut < token.length; cut++) {
      const left = ids.get(token.slice(0, cut));
      const right = left === undefined ? undefined : ids.get(token.slice(cut));
      if (left !== undefined && right !== undefined) triples.push([left, right, id]);
    }
    if (triples.length > maxMerges)
      throw tokenizerInvalid('The vocabulary has more splits than can be tabled.', { expected: `at most ${maxMerges}` });
  });
  triples.sort((a, b) => scores[b[2]] - scores[a[2]]);
  const list = emptyMergeList(triples.length);
  let rank = -1;
  triples.forEach(([left, right, merged], i) => {
    if (i === 0 || scores[merged] !== scores[triples[i - 1][2]]) rank++;
    list.left[i] = left;
    list.right[i] = right;
    list.merged[i] = merged;
    list.rank[i] = rank;
  });
  return list;
}

/** What a `tokenizer.model` file says. */
export interface SentencePieceModel extends PieceList {
  readonly types: readonly number[];
  readonly kind: 'byte-pair' | 'unigram';
  readonly addSpacePrefix: boolean;
  readonly removeExtraWhitespace: boolean;
  readonly escapeWhitespace: boolean;
  readonly prefixBehind: boolean;
  readonly charsmap: Uint8Array | null;
  readonly byteFallback: boolean;
  readonly unkTokenId: number;
  readonly bosTokenId: number;
  readonly eosTokenId: number;
}

/** `ModelType` of the trainer's settings. */
const modelTypes: Readonly<Record<number, SentencePieceModel['kind'] | undefined>> = { 1: 'unigram', 2: 'byte-pair' };

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Reads a `tokenizer.model` protobuf.
 * @throws TOKENIZER_INVALID when it is truncated, not a SentencePiece model, or of the word or character kind
 */
export function readSentencePieceModel(bytes: Uint8Array): SentencePieceModel {
  const tokens: string[] = [];
  const scores: number[] = [];
  const types: number[] = [];
  const model: Writable<Omit<SentencePieceModel, 'tokens' | 'scores' | 'types' | 'kind'>> = {
    addSpacePrefix: true,
    removeExtraWhitespace: true,
    escapeWhitespace: true,
    prefixBehind: false,
    charsmap: null,
    byteFallback: false,
    unkTokenId: 0,
    bosTokenId: 1,
    eosTokenId: 2,
  };
  let modelType = 1;
  for (const field of protobufFields(bytes)) {
    if (field.number === 1 && field.bytes !== null) {
      const piece = readPiece(field.bytes);
      if (tokens.length >= maxVocabSize) throw tokenizerInvalid('tokenizer.model has too many pieces.');
      tokens.push(piece.token);
      scores.push(piece.score);
      types.push(piece.type);
    } else if (field.number === 2 && field.bytes !== null) {
      for (const { number, value } of protobufFields(field.bytes)) {
        if (number === 3) modelType = value;
        else if (number === 24) model.prefixBehind = value !== 0;
        else if (number === 35) model.byteFallback = value !== 0;
        else if (number === 40) model.unkTokenId = value | 0;
        else if (number === 41) model.bosTokenId = value | 0;
        else if (number === 42) model.eosTokenId = value | 0;
      }
    } else if (field.number === 3 && field.bytes !== null) {
      for (const { number, value, bytes: content } of protobufFields(field.bytes)) {
        if (number === 2 && content !== null && content.length > 0) model.charsmap = content.slice();
        else if (number === 3) model.addSpacePrefix = value !== 0;
        else if (number === 4) model.removeExtraWhitespace = value !== 0;
        else if (number === 5) model.escapeWhitespace = value !== 0;
      }
    }
  }
  if (tokens.length === 0) throw tokenizerInvalid('tokenizer.model holds no pieces; it is not a SentencePiece model.');
  const kind = modelTypes[modelType];
  if (kind === undefined) {
    throw tokenizerInvalid('tokenizer.model is of a kind that is not read.', {
      expected: 'a Unigram (1) or BPE (2) model',
      received: `model type ${modelType}`,
    });
  }
  return { tokens, scores, types, kind, ...model };
}

function readPiece(bytes: Uint8Array): { token: string; score: number; type: number } {
  const piece = { token: '', score: 0, type: pieceType.normal as number };
  for (const field of protobufFields(bytes)) {
    if (field.number === 1 && field.bytes !== null) {
      if (field.bytes.length > maxTokenLength) throw tokenizerInvalid('tokenizer.model has an absurdly long piece.');
      piece.token = Buffer.from(field.bytes).toString('utf8');
    } else if (field.number === 2) piece.score = field.float;
    else if (field.number === 3) piece.type = field.value;
  }
  return piece;
}
