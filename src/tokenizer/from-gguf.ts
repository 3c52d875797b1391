/**
 * Reads the tokenizer that a GGUF file carries in its metadata.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, keys `tokenizer.ggml.*`.
 */
import { type MergeList, maxMerges, maxTokenLength, maxVocabSize, type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import { emptyMergeList, uniqueIds } from './from-json.ts';
import { addedTokensOfTypes, definitionFromPieces, type PieceList, pieceType } from './from-sentencepiece.ts';
import { namedPreTokenizers } from './pre-tokenizer-table.ts';

/** Metadata by key: strings, numbers, booleans, bigints, arrays and typed arrays of these. */
export type GgufMetadata = ReadonlyMap<string, unknown>;

/** Control tokens that end a turn in some family, for files that name only one of them as EOS. */
const endOfTurnSpellings = new Set([
  '<|eot_id|>',
  '<|im_end|>',
  '<|end|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|eom_id|>',
  '<EOT>',
  '<|end_of_text|>',
  '<|return|>',
  '<|call|>',
]);

/**
 * @param extraEosIds further ids that end a generation
 * @throws TOKENIZER_INVALID when keys are missing, of the wrong type, or name an unknown kind of tokenizer
 */
export function definitionFromGguf(metadata: GgufMetadata, extraEosIds: readonly number[] = []): TokenizerDefinition {
  const model = metadata.get('tokenizer.ggml.model');
  const tokens = readTokens(metadata);
  const types = readColumn(metadata, 'tokenizer.ggml.token_type', tokens.length) ?? new Int32Array(tokens.length).fill(pieceType.normal);
  const ids = {
    bosTokenId: readId(metadata, 'tokenizer.ggml.bos_token_id', tokens.length),
    unkTokenId: readId(metadata, 'tokenizer.ggml.unknown_token_id', tokens.length),
    eosTokenIds: uniqueIds([...endIds(metadata, tokens, types), ...extraEosIds]).filter((id) => id < tokens.length),
  };
  if (model === 'llama') return spmDefinition(metadata, { tokens, types }, ids);
  if (model === 'gpt2') return bpeDefinition(metadata, { tokens, types }, ids);
  throw tokenizerInvalid('The tokenizer in the GGUF file is of a kind that is not read.', {
    expected: "'llama' (SentencePiece BPE) or 'gpt2' (byte-level BPE)",
    received: String(model).slice(0, 64),
  });
}

type Ids = { bosTokenId: number | null; unkTokenId: number | null; eosTokenIds: number[] };
type Pieces = Omit<PieceList, 'scores'>;

function spmDefinition(metadata: GgufMetadata, pieces: Pieces, ids: Ids): TokenizerDefinition {
  const scores = readColumn(metadata, 'tokenizer.ggml.scores', pieces.tokens.length);
  if (scores === null) throw tokenizerInvalid('The GGUF file lacks tokenizer.ggml.scores.');
  const unkTokenId = ids.unkTokenId ?? firstOfType(pieces.types, pieceType.unknown);
  return definitionFromPieces(
    { ...pieces, scores },
    {
      ...ids,
      // Files of this kind that name no ids follow SentencePiece's own numbering.
      bosTokenId: ids.bosTokenId ?? (pieces.tokens[1] === '<s>' ? 1 : null),
      eosTokenIds: ids.eosTokenIds.length > 0 ? ids.eosTokenIds : pieces.tokens[2] === '</s>' ? [2] : [],
      unkTokenId,
      addSpacePrefix: readFlag(metadata, 'tokenizer.ggml.add_space_prefix', true),
      addBos: readFlag(metadata, 'tokenizer.ggml.add_bos_token', true),
      addEos: readFlag(metadata, 'tokenizer.ggml.add_eos_token', false),
    },
  );
}

function bpeDefinition(metadata: GgufMetadata, { tokens, types }: Pieces, ids: Ids): TokenizerDefinition {
  const name = metadata.get('tokenizer.ggml.pre') ?? 'default';
  const pre = typeof name === 'string' ? namedPreTokenizers.get(name) : undefined;
  if (pre === undefined) {
    throw tokenizerInvalid(`The GGUF file names the pre-tokenizer '${String(name).slice(0, 64)}', which is not known.`, {
      expected: `one of ${[...namedPreTokenizers.keys()].join(', ')}`,
      hint: 'use the Hugging Face folder of the model, whose tokenizer.json describes its pre-tokenizer',
    });
  }
  const { bosTokenId, eosTokenIds } = ids;
  const addBos = readFlag(metadata, 'tokenizer.ggml.add_bos_token', pre.addBos);
  const addEos = readFlag(metadata, 'tokenizer.ggml.add_eos_token', false);
  return {
    tokens,
    merges: readMerges(metadata, tokens, types),
    addedTokens: addedTokensOfTypes(tokens, types, [...(bosTokenId === null ? [] : [bosTokenId]), ...eosTokenIds]),
    normalizer: null,
    preTokenizer: pre.component,
    decoder: { type: 'ByteLevel' },
    byteFallback: false,
    ignoreMerges: pre.ignoreMerges,
    unkTokenId: null,
    fuseUnknown: false,
    bosTokenId,
    eosTokenIds,
    prefixIds: addBos && bosTokenId !== null ? [bosTokenId] : [],
    suffixIds: addEos && eosTokenIds.length > 0 ? [eosTokenIds[0]] : [],
  };
}

function readTokens(metadata: GgufMetadata): string[] {
  const tokens = metadata.get('tokenizer.ggml.tokens');
  if (!Array.isArray(tokens) || tokens.length === 0) {
    throw tokenizerInvalid('The GGUF file holds no tokenizer.', { hint: 'use a file with tokenizer.ggml.* metadata' });
  }
  if (tokens.length > maxVocabSize)
    throw tokenizerInvalid('The vocabulary in the GGUF file is too large.', { expected: `at most ${maxVocabSize} tokens` });
  return tokens.map((token: unknown, id) => {
    if (typeof token !== 'string' || token.length > maxTokenLength)
      throw tokenizerInvalid(`The token ${id} in the GGUF file is not a string of bearable length.`);
    return token;
  });
}

/** Merges of unknown or control tokens are passed over: converters leave such. */
function readMerges(metadata: GgufMetadata, tokens: readonly string[], types: ArrayLike<number>): MergeList {
  const merges = metadata.get('tokenizer.ggml.merges');
  if (!Array.isArray(merges) || merges.length > maxMerges) throw tokenizerInvalid('The GGUF file lacks tokenizer.ggml.merges, or has too many.');
  const ids = new Map<string, number>();
  tokens.forEach((token, id) => {
    if (types[id] !== pieceType.control && !ids.has(token)) ids.set(token, id);
  });
  const list = emptyMergeList(merges.length);
  let count = 0;
  merges.forEach((merge: unknown, i) => {
    const space = typeof merge === 'string' ? merge.indexOf(' ', 1) : -1;
    if (typeof merge !== 'string' || space < 0) throw tokenizerInvalid(`Merge ${i} in the GGUF file is not a pair of tokens.`);
    const left = ids.get(merge.slice(0, space));
    const right = ids.get(merge.slice(space + 1));
    const merged = ids.get(merge.slice(0, space) + merge.slice(space + 1));
    if (left === undefined || right === undefined || merged === undefined) return;
    list.left[count] = left;
    list.right[count] = right;
    list.merged[count] = merged;
    list.rank[count++] = i;
  });
  return {
    left: list.left.subarray(0, count),
    right: list.right.subarray(0, count),
    merged: list.merged.subarray(0, count),
    rank: list.rank.subarray(0, count),
  };
}

function endIds(metadata: GgufMetadata, tokens: readonly string[], types: ArrayLike<number>): number[] {
  const ids: number[] = [];
  for (const key of ['eos', 'eot', 'eom']) {
    const id = readId(metadata, `tokenizer.ggml.${key}_token_id`, tokens.length);
    if (id !== null) ids.push(id);
  }
  tokens.forEach((token, id) => {
    if (types[id] === pieceType.control && endOfTurnSpellings.has(token)) ids.push(id);
  });
  return ids;
}

function readColumn(metadata: GgufMetadata, key: string, length: number): Float64Array | null {
  const column = metadata.get(key);
  if (column === undefined) return null;
  const isList = Array.isArray(column) || (ArrayBuffer.isView(column) && 'length' in column);
  const values = isList ? Float64Array.from(column as ArrayLike<number | bigint>, Number) : new Float64Array(0);
  if (values.length !== length || values.some(Number.isNaN)) {
    throw tokenizerInvalid(`${key} in the GGUF file is not what it should be.`, {
      expected: `${length} numbers`,
      received: `${values.length} values`,
    });
  }
  return values;
}

function readId(metadata: GgufMetadata, key: string, vocabSize: number): number | null {
  const value = metadata.get(key);
  if (value === undefined) return null;
  const id = typeof value === 'bigint' ? Number(value) : value;
  // Converters write 2^32 - 1 for "none".
  if (id === 0xffff_ffff || id === -1) return null;
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
    throw tokenizerInvalid(`${key} in the GGUF file is not an id of the vocabulary.`, {
      expected: `0 to ${vocabSize - 1}`,
      received: String(value).slice(0, 64),
    });
  }
  return id;
}

function readFlag(metadata: GgufMetadata, key: string, fallback: boolean): boolean {
  const value = metadata.get(key);
  return typeof value === 'boolean' ? value : fallback;
}

function firstOfType(types: ArrayLike<number>, type: number): number | null {
  for (let id = 0; id < types.length; id++) if (types[id] === type) return id;
  return null;
}
