/**
 * Reads `tokenizer.json` with `tokenizer_config.json` (Hugging Face) into a `TokenizerDefinition`.
 * Format: https://huggingface.co/docs/tokenizers and the files of transformers' fast tokenizers.
 */
import { type AddedToken, type Component, maxVocabSize, type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import { readModel } from './json-model.ts';
import { checkEntry, isObject, type JsonObject, namedId, spellingOf, uniqueIds } from './json-values.ts';
import { readPostProcessor, type Surroundings } from './post-processor.ts';
import { isComponent } from './pre-tokenizer.ts';

/** Keys of tokenizer_config.json whose tokens are control tokens, whatever tokenizer.json says of them. */
const specialKeys = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'cls_token', 'sep_token', 'mask_token'];
/** Classes that build their post-processor from `add_bos_token` and `add_eos_token`. */
const bosByConfig = /^(Code)?(Llama|Gemma)Tokenizer(Fast)?$/;

/**
 * @param json parsed tokenizer.json
 * @param config parsed tokenizer_config.json; an empty object when there is none
 * @param extraEosIds further ids that end a generation (generation_config.json)
 * @throws TOKENIZER_INVALID for anything that is not a BPE, Unigram, WordPiece or WordLevel tokenizer of known parts
 */
export function definitionFromJson(json: unknown, config: unknown, extraEosIds: readonly number[] = []): TokenizerDefinition {
  if (!isObject(json)) throw tokenizerInvalid('tokenizer.json is not an object.');
  const settings = isObject(config) ? config : {};
  const model = readModel(json.model);
  const { ids } = model;
  const added = new Map<number, AddedToken>();
  readAddedTokens(json.added_tokens, settings, ids, added);
  for (const token of added.values()) ids.set(token.content, token.id);
  markSpecial(settings, ids, added);

  const tokens = new Array<string | null>(1 + maxId(ids)).fill(null);
  for (const [spelling, id] of ids) tokens[id] = spelling;
  const bosTokenId = namedId(settings.bos_token, ids);
  const eosTokenId = namedId(settings.eos_token, ids);
  const around = readPostProcessor(component(json.post_processor, 'post_processor'), ids);
  const { prefixIds, suffixIds } = configured(around, settings, bosTokenId, eosTokenId);
  return {
    tokens,
    model: model.build(tokens),
    addedTokens: [...added.values()],
    normalizer: component(json.normalizer, 'normalizer'),
    preTokenizer: component(json.pre_tokenizer, 'pre_tokenizer'),
    decoder: component(json.decoder, 'decoder'),
    unkTokenId: model.unkTokenId,
    bosTokenId,
    eosTokenIds: uniqueIds([...(eosTokenId === null ? [] : [eosTokenId]), ...extraEosIds]),
    prefixIds,
    suffixIds,
  };
}

function maxId(ids: ReadonlyMap<string, number>): number {
  let largest = -1;
  for (const id of ids.values()) largest = Math.max(largest, id);
  if (largest < 0) throw tokenizerInvalid('The vocabulary is empty.');
  return largest;
}

/** Those of tokenizer.json, then those that only tokenizer_config.json has, as transformers adds them. */
function readAddedTokens(list: unknown, config: JsonObject, ids: ReadonlyMap<string, number>, into: Map<number, AddedToken>): void {
  const entries: [unknown, unknown][] = Array.isArray(list) ? list.map((entry) => [isObject(entry) ? entry.id : undefined, entry]) : [];
  if (isObject(config.added_tokens_decoder)) {
    for (const [id, entry] of Object.entries(config.added_tokens_decoder)) entries.push([Number(id), entry]);
  }
  if (entries.length > maxVocabSize) throw tokenizerInvalid('There are too many added tokens.');
  for (const [id, entry] of entries) {
    if (!isObject(entry)) throw tokenizerInvalid('An added token is not an object.');
    checkEntry(entry.content, id);
    if (into.has(id)) continue;
    const content = String(entry.content);
    const known = ids.get(content);
    // A file that gives one spelling two ids is taken by its vocabulary.
    if (known !== undefined && known !== id) continue;
    const special = entry.special === true;
    into.set(id, {
      id,
      content,
      special,
      normalized: typeof entry.normalized === 'boolean' ? entry.normalized : !special,
      lstrip: entry.lstrip === true,
      rstrip: entry.rstrip === true,
      singleWord: entry.single_word === true,
    });
  }
}

function markSpecial(config: JsonObject, ids: ReadonlyMap<string, number>, added: Map<number, AddedToken>): void {
  const named = specialKeys.map((key) => config[key]);
  if (Array.isArray(config.additional_special_tokens)) named.push(...config.additional_special_tokens.slice(0, maxVocabSize));
  for (const name of named) {
    const content = spellingOf(name);
    const id = content === null ? undefined : ids.get(content);
    if (content === null || id === undefined) continue;
    const known = added.get(id) ?? { id, content, normalized: false, lstrip: false, rstrip: false, singleWord: false };
    added.set(id, { ...known, special: true });
  }
}

function component(value: unknown, field: string): Component | null {
  if (value === null || value === undefined) return null;
  if (!isComponent(value)) throw tokenizerInvalid(`The ${field} in tokenizer.json is malformed.`, { expected: 'an object with a type, or null' });
  return value;
}

/** Some classes of tokenizer_config.json say themselves what stands around a text. */
function configured(around: Surroundings, config: JsonObject, bosTokenId: number | null, eosTokenId: number | null): Surroundings {
  let { prefixIds, suffixIds } = around;
  if (typeof config.tokenizer_class === 'string' && bosByConfig.test(config.tokenizer_class)) {
    if (typeof config.add_bos_token === 'boolean' && bosTokenId !== null) prefixIds = config.add_bos_token ? [bosTokenId] : [];
    if (typeof config.add_eos_token === 'boolean' && eosTokenId !== null) suffixIds = config.add_eos_token ? [eosTokenId] : [];
  }
  return { prefixIds, suffixIds };
}
