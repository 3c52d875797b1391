/**
 * Reads the tokenizer that a GGUF file carries in its metadata.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, keys `tokenizer.ggml.*`.
 */
import { type Component, type MergeList, maxMerges, maxTokenLength, maxVocabSize, type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import { addedTokensOfTypes, definitionFromPieces, type PieceList, pieceType } from './from-sentencepiece.ts';
import { emptyMergeList, uniqueIds } from './json-values.ts';
import { namedPreTokenizers, refusedPreTokenizers } from './pre-tokenizer-table.ts';

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
  switch (model) {
    case 'llama':
      return spmDefinition(metadata, { tokens, types }, ids);
    case 't5':
      return unigramDefinition(metadata, { tokens, types }, ids);
    case 'bert':
      return bertDefinition(metadata, { tokens, types }, ids);
    case 'gpt2':
      return bpeDefinition(metadata, { tokens, types }, ids, metadata.get('tokenizer.ggml.pre') ?? 'default');
    case 'gemma4':
      return bpeDefinition(metadata, { tokens, types }, ids, 'gemma4');
    default:
      throw tokenizerInvalid(`The tokenizer in the GGUF file is of the kind '${String(model).slice(0, 64)}', which is not read.`, {
        expected: "'llama' (SentencePiece BPE), 'gpt2' (byte-level BPE), 'gemma4', 't5' (Unigram) or 'bert' (WordPiece)",
        received: String(model).slice(0, 64),
      });
  }
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
      kind: 'byte-pair',
      rules: null,
      byteFallback: true,
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

function unigramDefinition(metadata: GgufMetadata, pieces: Pieces, ids: Ids): TokenizerDefinition {
  const scores = readColumn(metadata, 'tokenizer.ggml.scores', pieces.tokens.length);
  if (scores === null) throw tokenizerInvalid('The GGUF file lacks tokenizer.ggml.scores.');
  const map = metadata.get('tokenizer.ggml.precompiled_charsmap');
  const charsmap = map === undefined ? null : Uint8Array.from(isNumberList(map) ? map : [], (byte) => Number(byte) & 255);
  const removeExtraWhitespace = readFlag(metadata, 'tokenizer.ggml.remove_extra_whitespaces', false);
  return definitionFromPieces(
    { ...pieces, scores },
    {
      ...ids,
      kind: 'unigram',
      rules: { charsmap, removeExtraWhitespace, escapeWhitespace: true, prefixBehind: false },
      byteFallback: firstOfType(pieces.types, pieceType.byte) !== null,
      unkTokenId: ids.unkTokenId ?? firstOfType(pieces.types, pieceType.unknown),
      addSpacePrefix: readFlag(metadata, 'tokenizer.ggml.add_space_prefix', false),
      addBos: readFlag(metadata, 'tokenizer.ggml.add_bos_token', false),
      addEos: readFlag(metadata, 'tokenizer.ggml.add_eos_token', true),
    },
  );
}

/** Converters write pieces that start a word with `▁` in front and take `##` from the others; here it is the other way round again. */
function bertDefinition(metadata: GgufMetadata, { tokens, types }: Pieces, ids: Ids): TokenizerDefinition {
  const marked = tokens.filter((token) => token.startsWith('▁')).length * 8 > tokens.length;
  const spellings = marked ? tokens.map((token, id) => wordPieceSpelling(token, types[id])) : tokens;
  const idOf = (key: string, spelling: string): number | null => {
    const id = readId(metadata, `tokenizer.ggml.${key}_token_id`, tokens.length) ?? tokens.indexOf(spelling);
    return id < 0 ? null : id;
  };
  const clsTokenId = idOf('cls', '[CLS]') ?? ids.bosTokenId;
  const sepTokenId = idOf('seperator', '[SEP]') ?? ids.eosTokenIds[0] ?? null;
  const special = ['[CLS]', '[SEP]', '[PAD]', '[UNK]', '[MASK]'].map((spelling) => tokens.indexOf(spelling)).filter((id) => id >= 0);
  // no key says it in older files: a vocabulary of lower case is what a lower-casing model has
  const cased = tokens.some((token) => /^▁?[A-Z]{1,2}$/.test(token)) && tokens.some((token) => /^▁[A-Z][a-z]+$/.test(token));
  const lowercase = readFlag(metadata, 'tokenizer.ggml.normalizer.lowercase', !cased);
  const normalizer = {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: readFlag(metadata, 'tokenizer.ggml.normalizer.strip_accents', lowercase),
    lowercase,
  };
  const addBos = readFlag(metadata, 'tokenizer.ggml.add_bos_token', true);
  const addSep = readFlag(metadata, 'tokenizer.ggml.add_sep_token', readFlag(metadata, 'tokenizer.ggml.add_eos_token', true));
  return {
    tokens: spellings,
    model: { kind: 'word-piece', prefix: '##', maxCharacters: 100 },
    addedTokens: addedTokensOfTypes(spellings, types, [...special, ...ids.eosTokenIds]),
    normalizer,
    preTokenizer: { type: 'BertPreTokenizer' },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    unkTokenId: ids.unkTokenId ?? idOf('unknown', '[UNK]'),
    bosTokenId: clsTokenId,
    eosTokenIds: ids.eosTokenIds.length > 0 || sepTokenId === null ? ids.eosTokenIds : [sepTokenId],
    prefixIds: addBos && clsTokenId !== null ? [clsTokenId] : [],
    suffixIds: addSep && sepTokenId !== null ? [sepTokenId] : [],
  };
}

function wordPieceSpelling(token: string, type: number): string {
  if (token.startsWith('▁')) return token.slice(1);
  return type === pieceType.normal && !/^\[.+\]$/.test(token) ? `##${token}` : token;
}

function bpeDefinition(metadata: GgufMetadata, { tokens, types }: Pieces, ids: Ids, name: unknown): TokenizerDefinition {
  const pre = typeof name === 'string' ? namedPreTokenizers.get(name) : undefined;
  if (pre === undefined) {
    const reason = typeof name === 'string' ? refusedPreTokenizers.get(name) : undefined;
    throw tokenizerInvalid(
      `The GGUF file names the pre-tokenizer '${String(name).slice(0, 64)}', which is ${reason === undefined ? 'not known' : `refused: ${reason}`}.`,
      {
        expected: `one of ${[...namedPreTokenizers.keys()].join(', ')}`,
        hint: 'use the Hugging Face folder of the model, whose tokenizer.json describes its pre-tokenizer',
      },
    );
  }
  const { bosTokenId, eosTokenIds } = ids;
  const sepTokenId = readId(metadata, 'tokenizer.ggml.seperator_token_id', tokens.length) ?? eosTokenIds[0] ?? null;
  const addBos = readFlag(metadata, 'tokenizer.ggml.add_bos_token', pre.addBos);
  const addEos = readFlag(metadata, 'tokenizer.ggml.add_eos_token', false);
  const addSep = readFlag(metadata, 'tokenizer.ggml.add_sep_token', pre.addSep);
  const endId = addEos && eosTokenIds.length > 0 ? eosTokenIds[0] : addSep ? sepTokenId : null;
  const toMark: Component = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const toSpace: Component = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  return {
    tokens,
    model: {
      kind: 'byte-pair',
      merges: readMerges(metadata, tokens, types),
      byteFallback: pre.characters,
      ignoreMerges: pre.ignoreMerges,
      fuseUnknown: false,
    },
    addedTokens: addedTokensOfTypes(tokens, types, [...(bosTokenId === null ? [] : [bosTokenId]), ...eosTokenIds]),
    normalizer: pre.characters ? toMark : null,
    preTokenizer: pre.component,
    decoder: pre.characters ? { type: 'Sequence', decoders: [toSpace, { type: 'ByteFallback' }, { type: 'Fuse' }] } : { type: 'ByteLevel' },
    unkTokenId: pre.characters ? ids.unkTokenId : null,
    bosTokenId,
    eosTokenIds,
    prefixIds: addBos && bosTokenId !== null ? [bosTokenId] : [],
    suffixIds: endId === null ? [] : [endId],
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
  const values = isNumberList(column) ? Float64Array.from(column, Number) : new Float64Array(0);
  if (values.length !== length || values.some(Number.isNaN)) {
    throw tokenizerInvalid(`${key} in the GGUF file is not what it should be.`, {
      expected: `${length} numbers`,
      received: `${values.length} values`,
    });
  }
  return values;
}

function isNumberList(value: unknown): value is ArrayLike<number | bigint> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && 'length' in value);
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
