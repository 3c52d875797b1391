/**
 * Reads `tokenizer.json` with `tokenizer_config.json` (Hugging Face) into a `TokenizerDefinition`.
 * Format: https://huggingface.co/docs/tokenizers and the files of transformers' fast tokenizers.
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
import { isComponent, libraryPipeline } from './pre-tokenizer.ts';

type JsonObject = Readonly<Record<string, unknown>>;

/** Keys of tokenizer_config.json whose tokens are control tokens, whatever tokenizer.json says of them. */
const specialKeys = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'cls_token', 'sep_token', 'mask_token'];
/** Classes that build their post-processor from `add_bos_token` and `add_eos_token`. */
const bosByConfig = /^(Code)?(Llama|Gemma)Tokenizer(Fast)?$/;

/**
 * @param json parsed tokenizer.json
 * @param config parsed tokenizer_config.json; an empty object when there is none
 * @param extraEosIds further ids that end a generation (generation_config.json)
 * @throws TOKENIZER_INVALID for anything that is not a BPE tokenizer of known parts
 */
export function definitionFromJson(json: unknown, config: unknown, extraEosIds: readonly number[] = []): TokenizerDefinition {
  if (!isObject(json)) throw tokenizerInvalid('tokenizer.json is not an object.');
  const settings = isObject(config) ? config : {};
  const model = readModel(json.model);
  const ids = readVocab(model.vocab);
  const added = new Map<number, AddedToken>();
  readAddedTokens(json.added_tokens, settings, ids, added);
  for (const token of added.values()) ids.set(token.content, token.id);
  markSpecial(settings, ids, added);

  const tokens = new Array<string | null>(1 + maxId(ids)).fill(null);
  for (const [spelling, id] of ids) tokens[id] = spelling;
  const bosTokenId = namedId(settings.bos_token, ids);
  const eosTokenId = namedId(settings.eos_token, ids);
  const { prefixIds, suffixIds } = surroundings(component(json.post_processor, 'post_processor'), settings, ids, bosTokenId, eosTokenId);
  return {
    tokens,
    merges: readMerges(model.merges, ids),
    addedTokens: [...added.values()],
    normalizer: component(json.normalizer, 'normalizer'),
    preTokenizer: component(json.pre_tokenizer, 'pre_tokenizer'),
    decoder: component(json.decoder, 'decoder'),
    byteFallback: model.byte_fallback === true,
    ignoreMerges: model.ignore_merges === true,
    unkTokenId: namedId(model.unk_token, ids),
    fuseUnknown: model.fuse_unk === true,
    bosTokenId,
    eosTokenIds: uniqueIds([...(eosTokenId === null ? [] : [eosTokenId]), ...extraEosIds]),
    prefixIds,
    suffixIds,
  };
}

/** @returns the ids in order, each once; negative and fractional ones are left out */
export function uniqueIds(ids: readonly number[]): number[] {
  return [...new Set(ids.filter((id) => Number.isInteger(id) && id >= 0))];
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readModel(model: unknown): JsonObject {
  if (!isObject(model)) throw tokenizerInvalid('tokenizer.json has no model.');
  const isBytePair = model.type === 'BPE' || (model.type === undefined && isObject(model.vocab) && Array.isArray(model.merges));
  if (!isBytePair) {
    throw tokenizerInvalid('The tokenizer is of a kind that is not read.', { expected: 'a BPE model', received: String(model.type).slice(0, 64) });
  }
  for (const key of ['continuing_subword_prefix', 'end_of_word_suffix']) {
    if (typeof model[key] === 'string' && model[key].length > 0)
      throw tokenizerInvalid(`The tokenizer's BPE model has a ${key}, which is not supported.`);
  }
  return model;
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

function checkEntry(spelling: unknown, id: unknown): asserts id is number {
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= maxVocabSize) {
    throw tokenizerInvalid('A token has an id that cannot be one.', {
      expected: `an integer from 0 to ${maxVocabSize - 1}`,
      received: String(id).slice(0, 64),
    });
  }
  if (typeof spelling !== 'string' || spelling.length > maxTokenLength)
    throw tokenizerInvalid(`The token ${id} has no spelling or an absurdly long one.`);
}

function maxId(ids: ReadonlyMap<string, number>): number {
  let largest = -1;
  for (const id of ids.values()) largest = Math.max(largest, id);
  if (largest < 0) throw tokenizerInvalid('The vocabulary is empty.');
  return largest;
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

/** @returns columns for that many merges, all zero */
export function emptyMergeList(length: number): MergeList {
  return { left: new Int32Array(length), right: new Int32Array(length), merged: new Int32Array(length), rank: new Int32Array(length) };
}

function mergeParts(merge: unknown, index: number): [string, string] {
  if (typeof merge === 'string') {
    const space = merge.indexOf(' ', 1);
    if (space > 0) return [merge.slice(0, space), merge.slice(space + 1)];
  } else if (Array.isArray(merge) && merge.length === 2 && typeof merge[0] === 'string' && typeof merge[1] === 'string') return [merge[0], merge[1]];
  throw tokenizerInvalid(`Merge ${index} is not a pair of tokens.`);
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

function namedId(name: unknown, ids: ReadonlyMap<string, number>): number | null {
  const spelling = spellingOf(name);
  return spelling === null ? null : (ids.get(spelling) ?? null);
}

/** A token in a configuration: a string or an object with `content`. */
function spellingOf(name: unknown): string | null {
  if (typeof name === 'string') return name;
  return isObject(name) && typeof name.content === 'string' ? name.content : null;
}

function component(value: unknown, field: string): Component | null {
  if (value === null || value === undefined) return null;
  if (!isComponent(value)) throw tokenizerInvalid(`The ${field} in tokenizer.json is malformed.`, { expected: 'an object with a type, or null' });
  return value;
}

/** What the post-processor puts around a text, found by giving it one token to process. */
function surroundings(
  postProcessor: Component | null,
  config: JsonObject,
  ids: ReadonlyMap<string, number>,
  bosTokenId: number | null,
  eosTokenId: number | null,
): { prefixIds: number[]; suffixIds: number[] } {
  const text = '\u0000text';
  const around = postProcessor === null ? [text] : postProcess(postProcessor, text);
  const at = around.indexOf(text);
  if (at < 0 || around.length > 64) throw tokenizerInvalid("The tokenizer's post-processor does not keep the text.");
  const toId = (spelling: string): number => {
    const id = ids.get(spelling);
    if (id === undefined) throw tokenizerInvalid(`The tokenizer's post-processor adds '${spelling.slice(0, 64)}', which is not in the vocabulary.`);
    return id;
  };
  let prefixIds = around.slice(0, at).map(toId);
  let suffixIds = around.slice(at + 1).map(toId);
  if (typeof config.tokenizer_class === 'string' && bosByConfig.test(config.tokenizer_class)) {
    if (typeof config.add_bos_token === 'boolean' && bosTokenId !== null) prefixIds = config.add_bos_token ? [bosTokenId] : [];
    if (typeof config.add_eos_token === 'boolean' && eosTokenId !== null) suffixIds = config.add_eos_token ? [eosTokenId] : [];
  }
  return { prefixIds, suffixIds };
}

function postProcess(postProcessor: Component, text: string): readonly string[] {
  try {
    return libraryPipeline({ post_processor: postProcessor }).post_processor?.post_process([text], null, true).tokens ?? [text];
  } catch (cause) {
    throw tokenizerInvalid("The tokenizer's post-processor cannot be used.", { cause });
  }
}
