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
import { emptyMergeList, uniqueIds } from './from-json.ts';

/** Kinds of pieces, numbered as SentencePiece and GGUF number them. */
export const pieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Columns of one length. */
export interface PieceList {
  readonly tokens: readonly string[];
  readonly scores: ArrayLike<number>;
  readonly types: ArrayLike<number>;
}

export interface SentencePieceOptions {
  /** A space is put before the text. */
  readonly addSpacePrefix: boolean;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly unkTokenId: number | null;
  readonly addBos: boolean;
  readonly addEos: boolean;
}

export function definitionFromPieces(pieces: PieceList, options: SentencePieceOptions): TokenizerDefinition {
  const { tokens, types } = pieces;
  const { bosTokenId } = options;
  const eosTokenIds = uniqueIds(options.eosTokenIds);
  const toMark: Component = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const toSpace: Component = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  const spacePrefix = { type: 'Prepend', prepend: '▁' };
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  return {
    tokens,
    merges: mergesOfPieces(pieces),
    addedTokens: addedTokensOfTypes(tokens, types, [...(bosTokenId === null ? [] : [bosTokenId]), ...eosTokenIds]),
    normalizer: { type: 'Sequence', normalizers: options.addSpacePrefix ? [spacePrefix, toMark] : [toMark] },
    preTokenizer: null,
    decoder: { type: 'Sequence', decoders: [toSpace, { type: 'ByteFallback' }, { type: 'Fuse' }, ...(options.addSpacePrefix ? [strip] : [])] },
    byteFallback: true,
    ignoreMerges: false,
    unkTokenId: options.unkTokenId,
    fuseUnknown: true,
    bosTokenId,
    eosTokenIds,
    prefixIds: options.addBos && bosTokenId !== null ? [bosTokenId] : [],
    suffixIds: options.addEos && eosTokenIds.length > 0 ? [eosTokenIds[0]] : [],
  };
}

/** Control and unknown pieces are special, user-defined ones are matched but are text; `alwaysSpecial` ids are special in any case. */
export function addedTokensOfTypes(tokens: readonly string[], types: ArrayLike<number>, alwaysSpecial: readonly number[]): AddedToken[] {
  const forced = new Set(alwaysSpecial);
  const added: AddedToken[] = [];
  tokens.forEach((content, id) => {
    const special = types[id] === pieceType.control || types[id] === pieceType.unknown || forced.has(id);
    if (content.length === 0 || !(special || types[id] === pieceType.userDefined)) return;
    added.push({ id, content, special, normalized: false, lstrip: false, rstrip: false, singleWord: false });
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
  readonly addSpacePrefix: boolean;
  readonly unkTokenId: number;
  readonly bosTokenId: number;
  readonly eosTokenId: number;
}

const bytePairModelType = 2;

/**
 * Reads a `tokenizer.model` protobuf.
 * @throws TOKENIZER_INVALID when it is truncated, not a SentencePiece model, or not of the BPE kind
 */
export function readSentencePieceModel(bytes: Uint8Array): SentencePieceModel {
  const tokens: string[] = [];
  const scores: number[] = [];
  const types: number[] = [];
  const model = { addSpacePrefix: true, unkTokenId: 0, bosTokenId: 1, eosTokenId: 2 };
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
        else if (number === 40) model.unkTokenId = value | 0;
        else if (number === 41) model.bosTokenId = value | 0;
        else if (number === 42) model.eosTokenId = value | 0;
      }
    } else if (field.number === 3 && field.bytes !== null) {
      for (const { number, value } of protobufFields(field.bytes)) if (number === 3) model.addSpacePrefix = value !== 0;
    }
  }
  if (tokens.length === 0) throw tokenizerInvalid('tokenizer.model holds no pieces; it is not a SentencePiece model.');
  if (modelType !== bytePairModelType) {
    throw tokenizerInvalid('tokenizer.model is of a kind that is not read.', { expected: 'a BPE model (2)', received: `model type ${modelType}` });
  }
  return { tokens, scores, types, ...model };
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

interface ProtobufField {
  readonly number: number;
  /** Varint, low 53 bits; 0 for other wire types. */
  readonly value: number;
  /** 32-bit float; 0 for other wire types. */
  readonly float: number;
  /** Length-delimited content; null for other wire types. */
  readonly bytes: Uint8Array | null;
}

/** Fields of one message, in order. Wire format: https://protobuf.dev/programming-guides/encoding/ */
function* protobufFields(bytes: Uint8Array): Generator<ProtobufField> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= bytes.length) throw truncated();
      const byte = bytes[at++];
      if (shift < 49) value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw truncated();
  };
  const advance = (length: number): number => {
    if (length > bytes.length - at) throw truncated();
    at += length;
    return at - length;
  };
  while (at < bytes.length) {
    const key = varint();
    const number = Math.floor(key / 8);
    const empty = { number, value: 0, float: 0, bytes: null };
    switch (key % 8) {
      case 0:
        yield { ...empty, value: varint() };
        break;
      case 1:
        advance(8);
        break;
      case 2: {
        const length = varint();
        const start = advance(length);
        yield { ...empty, bytes: bytes.subarray(start, start + length) };
        break;
      }
      case 5:
        yield { ...empty, float: view.getFloat32(advance(4), true) };
        break;
      default:
        throw truncated();
    }
  }
}

function truncated(): Error {
  return tokenizerInvalid('tokenizer.model is truncated or not a SentencePiece model.');
}
