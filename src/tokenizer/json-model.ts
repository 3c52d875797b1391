/** The `model` of tokenizer.json: BPE, Unigram, WordPiece or WordLevel, each with its vocabulary. */
import { type MergeList, maxMerges, maxVocabSize, type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import { checkEntry, emptyMergeList, isObject, type JsonObject, namedId } from './json-values.ts';
import { unknownScoreOf } from './unigram.ts';

export interface JsonModel {
  /** Id of each spelling, without added tokens; who adds those adds them here. */
  readonly ids: Map<string, number>;
  readonly unkTokenId: number | null;
  /** @param tokens spelling of each id, added ones included */
  build(tokens: readonly (string | null)[]): TokenizerDefinition['model'];
}

/** Names of models with what tells them in old files, which have no type. */
function typeOf(model: JsonObject): string {
  if (typeof model.type === 'string') return model.type;
  if (Array.isArray(model.merges)) return 'BPE';
  if (Array.isArray(model.vocab)) return 'Unigram';
  return typeof model.continuing_subword_prefix === 'string' ? 'WordPiece' : 'WordLevel';
}

/** @throws TOKENIZER_INVALID when it is malformed or of another kind */
export function readModel(model: unknown): JsonModel {
  if (!isObject(model)) throw tokenizerInvalid('tokenizer.json has no model.');
  switch (typeOf(model)) {
    case 'BPE':
      return readBytePair(model);
    case 'Unigram':
      return readUnigram(model);
    case 'WordPiece':
      return readWords(model, typeof model.continuing_subword_prefix === 'string' ? model.continuing_subword_prefix : '##');
    case 'WordLevel':
      return readWords(model, null);
    default:
      throw tokenizerInvalid('The tokenizer is of a kind that is not read.', {
        expected: 'a BPE, Unigram, WordPiece or WordLevel model',
        received: String(model.type).slice(0, 64),
      });
  }
}

function readBytePair(model: JsonObject): JsonModel {
  for (const key of ['continuing_subword_prefix', 'end_of_word_suffix']) {
    if (typeof model[key] === 'string' && model[key].length > 0)
      throw tokenizerInvalid(`The tokenizer's BPE model has a ${key}, which is not supported.`);
  }
  const ids = readVocab(model.vocab);
  return {
    ids,
    unkTokenId: namedId(model.unk_token, ids),
    build: () => ({
      kind: 'byte-pair',
      merges: readMerges(model.merges, ids),
      byteFallback: model.byte_fallback === true,
      ignoreMerges: model.ignore_merges === true,
      fuseUnknown: model.fuse_unk === true,
    }),
  };
}

/** The vocabulary is a list of pairs of spelling and score; of equal spellings the last counts, as in a map. */
function readUnigram(model: JsonObject): JsonModel {
  const { vocab } = model;
  if (!Array.isArray(vocab) || vocab.length > maxVocabSize)
    throw tokenizerInvalid('The vocabulary of the Unigram model is not a list of bearable length.');
  const ids = new Map<string, number>();
  const scores = new Float64Array(vocab.length);
  vocab.forEach((entry: unknown, id) => {
    if (!Array.isArray(entry) || entry.length !== 2 || typeof entry[1] !== 'number')
      throw tokenizerInvalid(`Entry ${id} of the vocabulary is no pair.`);
    checkEntry(entry[0], id);
    ids.set(String(entry[0]), id);
    scores[id] = entry[1];
  });
  const unk = model.unk_id;
  const unkTokenId = typeof unk === 'number' && Number.isInteger(unk) && unk >= 0 && unk < vocab.length ? unk : null;
  if (unk !== null && unk !== undefined && unkTokenId === null) throw tokenizerInvalid('The unk_id of the Unigram model is not in its vocabulary.');
  const unknownScore = unknownScoreOf(scores, () => true);
  return {
    ids,
    unkTokenId,
    build: (tokens) => {
      const all = new Float64Array(tokens.length);
      all.set(scores.subarray(0, tokens.length));
      const usable = Uint8Array.from(tokens, (spelling, id) => (id < scores.length && spelling !== null && ids.get(spelling) === id ? 1 : 0));
      return { kind: 'unigram', scores: all, usable, unknownScore, singlePrecision: false, byteFallback: model.byte_fallback === true };
    },
  };
}

function readWords(model: JsonObject, prefix: string | null): JsonModel {
  const ids = readVocab(model.vocab);
  const limit = model.max_input_chars_per_word;
  const maxCharacters = prefix === null ? Infinity : typeof limit === 'number' && limit >= 0 ? limit : 100;
  return { ids, unkTokenId: namedId(model.unk_token ?? '[UNK]', ids), build: () => ({ kind: 'word-piece', prefix, maxCharacters }) };
}

function readVocab(vocab: unknown): Map<string, number> {
  if (!isObject(vocab)) throw tokenizerInvalid('The vocabulary in tokenizer.json is not an object.');
  const ids = new Map<string, number>();
  const taken = new Set<number>();
  for (const [spelling, id] of Object.entries(vocab)) {
    checkEntry(spelling, id);
    if (taken.has(id)) throw tokenizerInvalid(`Two entries of the vocabulary have the id ${id}.`);
    taken.add(id);
    ids.set(spelling, id);
  }
  return ids;
}

function readMerges(merges: unknown, ids: ReadonlyMap<string, number>): MergeList {
  if (!Array.isArray(merges) || merges.length > maxMerges) throw tokenizerInvalid('The merges in tokenizer.json are not a list of bearable length.');
  const list = emptyMergeList(merges.length);
  merges.forEach((merge: unknown, i) => {
    const [left, right] = mergeParts(merge, i);
    const leftId = ids.get(left);
    const rightId = ids.get(right);
    const merged = ids.get(left + right);
    if (leftId === undefined || rightId === undefined || merged === undefined) {
      throw tokenizerInvalid(`Merge ${i} uses a token that is not in the vocabulary.`, { received: JSON.stringify([left, right]).slice(0, 200) });
    }
    list.left[i] = leftId;
    list.right[i] = rightId;
    list.merged[i] = merged;
    list.rank[i] = i;
  });
  return list;
}

function mergeParts(merge: unknown, index: number): [string, string] {
  if (typeof merge === 'string') {
    const space = merge.indexOf(' ', 1);
    if (space > 0) return [merge.slice(0, space), merge.slice(space + 1)];
  } else if (Array.isArray(merge) && merge.length === 2 && typeof merge[0] === 'string' && typeof merge[1] === 'string') return [merge[0], merge[1]];
  throw tokenizerInvalid(`Merge ${index} is not a pair of tokens.`);
}
