/**
 * A folder's SentencePiece model with what stands beside it: tokens that were added later (tokenizer_config.json, added_tokens.json), and the numbering of
 * XLM-RoBERTa, which is fairseq's. Rules: transformers, tokenization_{llama,t5,xlm_roberta}.py.
 */
import { type AddedToken, maxVocabSize, type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import type { SmallFiles } from './from-plain-files.ts';
import { definitionFromPieces, pieceType, readSentencePieceModel, type SentencePieceModel } from './from-sentencepiece.ts';
import { checkEntry, isObject, type JsonObject, spellingOf } from './json-values.ts';

const specialKeys = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'cls_token', 'sep_token', 'mask_token', 'additional_special_tokens'];

/** Whose `sentencepiece.bpe.model` is numbered as XLM-RoBERTa's. */
const fairseqClasses = /^XLMRobertaTokenizer(Fast)?$/;

/**
 * @param name of the file
 * @throws TOKENIZER_INVALID
 */
export function definitionFromModelFile(bytes: Uint8Array, name: string, files: SmallFiles, eosIds: readonly number[]): TokenizerDefinition {
  const settings: JsonObject = { ...(isObject(files.specialTokens) ? files.specialTokens : {}), ...(isObject(files.config) ? files.config : {}) };
  const read = readSentencePieceModel(bytes);
  if (name === 'sentencepiece.bpe.model') return fairseqDefinition(read, settings, files, eosIds);
  const later = laterTokens(files, settings, read.tokens);
  const model = withTokens(read, later);
  const known = (id: number): number | null => (id >= 0 && id < read.tokens.length ? id : null);
  const own = known(model.eosTokenId);
  // a chat model ends with a token that was added
  const named = later.find(({ content }) => content === spellingOf(settings.eos_token))?.id;
  const first = named ?? own;
  return withAddedTokens(
    definitionFromPieces(model, {
      ...optionsOf(model),
      addSpacePrefix: settings.add_prefix_space === false ? false : model.addSpacePrefix,
      bosTokenId: known(model.bosTokenId),
      eosTokenIds: [...(first === null ? [] : [first]), ...eosIds].filter((id) => id < model.tokens.length),
      unkTokenId: known(model.unkTokenId),
      // T5 and its kin have no BOS and end every text
      addBos:
        settings.add_bos_token === undefined ? known(model.bosTokenId) !== null && model.kind === 'byte-pair' : settings.add_bos_token !== false,
      addEos: settings.add_eos_token === undefined ? model.kind === 'unigram' : settings.add_eos_token === true,
    }),
    later,
  );
}

function optionsOf({ kind, charsmap, removeExtraWhitespace, escapeWhitespace, prefixBehind, byteFallback, types }: SentencePieceModel) {
  const rules = { charsmap, removeExtraWhitespace, escapeWhitespace, prefixBehind };
  return { kind, rules, byteFallback: byteFallback || types.includes(pieceType.byte) };
}

/** `<s>`, `<pad>`, `</s>`, `<unk>`, then the pieces behind the model's own three, then `<mask>`. */
function fairseqDefinition(read: SentencePieceModel, settings: JsonObject, files: SmallFiles, eosIds: readonly number[]): TokenizerDefinition {
  const { tokenizer_class: name } = settings;
  if (
    (typeof name === 'string' && !fairseqClasses.test(name)) ||
    (name === undefined && files.modelType !== undefined && files.modelType !== 'xlm-roberta')
  ) {
    throw tokenizerInvalid('How sentencepiece.bpe.model is numbered is known of XLM-RoBERTa only.', {
      expected: 'a tokenizer.json, or the class XLMRobertaTokenizer',
      received: String(name ?? files.modelType).slice(0, 64),
      hint: 'save one with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...)',
    });
  }
  const { control, unknown } = pieceType;
  const behind = <T>(list: ArrayLike<T>) => Array.from(list).slice(3);
  const pieces = {
    tokens: ['<s>', '<pad>', '</s>', '<unk>', ...behind(read.tokens), '<mask>'],
    scores: [0, 0, 0, 0, ...behind(read.scores), 0],
    types: [control, control, control, unknown, ...behind(read.types), control],
  };
  const later = laterTokens(files, settings, pieces.tokens);
  const model = withTokens({ ...read, ...pieces }, later);
  const definition = definitionFromPieces(model, {
    ...optionsOf(read),
    addSpacePrefix: read.addSpacePrefix,
    bosTokenId: 0,
    eosTokenIds: [2, ...eosIds.filter((id) => id < model.tokens.length)],
    unkTokenId: 3,
    addBos: true,
    addEos: true,
  });
  const maskId = pieces.tokens.length - 1;
  const mask = { id: maskId, content: '<mask>', special: true, normalized: false, lstrip: true, rstrip: false, singleWord: false };
  return withAddedTokens(definition, [mask, ...later.filter(({ id }) => id !== maskId)]);
}

/** Tokens that the configuration names by id: those of the model with other flags, and those behind it. */
function laterTokens({ addedTokens }: SmallFiles, settings: JsonObject, tokens: readonly string[]): AddedToken[] {
  const decoder = settings.added_tokens_decoder;
  const special = new Set(specialKeys.flatMap((key) => [settings[key]].flat().map(spellingOf)));
  const listed: [unknown, JsonObject][] = isObject(decoder)
    ? Object.entries(decoder).map(([id, token]) => [Number(id), isObject(token) ? token : {}])
    : Object.entries(isObject(addedTokens) ? addedTokens : {}).map(([content, id]) => [id, { content, special: special.has(content) }]);
  return listed.flatMap(([id, token]) => {
    const { content } = token;
    checkEntry(content, id);
    // what the model has under another spelling stays as it is
    if (typeof content !== 'string' || content === '' || (id < tokens.length && tokens[id] !== content)) return [];
    const isSpecial = token.special === true || special.has(content);
    const normalized = typeof token.normalized === 'boolean' ? token.normalized : !isSpecial;
    const [lstrip, rstrip, singleWord] = [token.lstrip === true, token.rstrip === true, token.single_word === true];
    return [{ id, content, special: isSpecial, normalized, lstrip, rstrip, singleWord }];
  });
}

/** The pieces with those behind them, which no merge and no cut of the text gives. @throws TOKENIZER_INVALID */
function withTokens(model: SentencePieceModel, later: readonly AddedToken[]): SentencePieceModel {
  const length = later.reduce((most, { id }) => Math.max(most, id + 1), model.tokens.length);
  if (length > Math.min(maxVocabSize, model.tokens.length + later.length + 65_536)) {
    throw tokenizerInvalid('An added token has an id far behind the vocabulary.', { received: String(length - 1) });
  }
  const spellings = new Map(later.map(({ id, content }) => [id, content]));
  const extra = Array.from({ length: length - model.tokens.length }, (_, i) => spellings.get(model.tokens.length + i) ?? '');
  return {
    ...model,
    tokens: [...model.tokens, ...extra],
    scores: [...Array.from(model.scores), ...extra.map(() => 0)],
    types: [...model.types, ...extra.map(() => pieceType.unused)],
  };
}

function withAddedTokens(definition: TokenizerDefinition, later: readonly AddedToken[]): TokenizerDefinition {
  const byId = new Map(definition.addedTokens.map((token) => [token.id, token]));
  for (const token of later) byId.set(token.id, token);
  return { ...definition, addedTokens: [...byId.values()] };
}
