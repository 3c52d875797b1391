/**
 * Reads tiktoken vocabularies: lines of a token in base64 and its rank (`qwen.tiktoken`, `tiktoken.model`, or a `tokenizer.model` of this form, as Llama 3 and
 * GLM-4 have). Format: https://github.com/openai/tiktoken. What a vocabulary does not say, its pattern and special tokens, is in code of its authors; the
 * known ones are told by tokenizer_config.json or the name of the file.
 */
import { characterOfByte } from './byte-alphabet.ts';
import {
  type AddedToken,
  type MergeList,
  maxMerges,
  maxTokenLength,
  maxVocabSize,
  type TokenizerDefinition,
  tokenizerInvalid,
} from './definition.ts';
import { checkEntry, emptyMergeList, isObject, type JsonObject, namedId, uniqueIds } from './json-values.ts';
import { kimiPattern, patterns } from './pre-tokenizer-table.ts';

/** What is known of a family of tiktoken vocabularies. */
interface Family {
  readonly pattern: string;
  readonly normalize?: 'NFC';
  /** Special tokens behind the ranks when tokenizer_config.json lists none, in order of their ids. */
  readonly specials: readonly string[];
  readonly bos?: string;
  readonly eos: readonly string[];
  readonly prefix: readonly string[];
}

const numbered = (count: number, name: (i: number) => string): string[] => Array.from({ length: count }, (_, i) => name(i));

const families = {
  qwen: {
    pattern: patterns.qwen2,
    normalize: 'NFC',
    specials: ['<|endoftext|>', '<|im_start|>', '<|im_end|>', ...numbered(205, (i) => `<|extra_${i}|>`)],
    eos: ['<|endoftext|>', '<|im_end|>'],
    prefix: [],
  },
  llama3: {
    pattern: patterns.llama3,
    specials: [
      '<|begin_of_text|>',
      '<|end_of_text|>',
      '<|reserved_special_token_0|>',
      '<|reserved_special_token_1|>',
      '<|finetune_right_pad_id|>',
      '<|step_id|>',
      '<|start_header_id|>',
      '<|end_header_id|>',
      '<|eom_id|>',
      '<|eot_id|>',
      '<|python_tag|>',
      ...numbered(245, (i) => `<|reserved_special_token_${i + 2}|>`),
    ],
    bos: '<|begin_of_text|>',
    eos: ['<|end_of_text|>', '<|eom_id|>', '<|eot_id|>'],
    prefix: ['<|begin_of_text|>'],
  },
  glm4: {
    pattern: patterns.llama3,
    specials: [
      '<|endoftext|>',
      '[MASK]',
      '[gMASK]',
      '[sMASK]',
      '<sop>',
      '<eop>',
      '<|system|>',
      '<|user|>',
      '<|assistant|>',
      '<|observation|>',
      '<|begin_of_image|>',
      '<|end_of_image|>',
      '<|begin_of_video|>',
      '<|end_of_video|>',
    ],
    eos: ['<|endoftext|>', '<|user|>', '<|observation|>'],
    prefix: ['[gMASK]', '<sop>'],
  },
  kimi: {
    pattern: kimiPattern,
    specials: ['[BOS]', '[EOS]'],
    bos: '[BOS]',
    eos: ['[EOS]', '<|im_end|>'],
    prefix: [],
  },
  gpt2: { pattern: patterns.gpt2, specials: ['<|endoftext|>'], eos: ['<|endoftext|>'], prefix: [] },
  cl100k: { pattern: patterns.llama3, specials: [], eos: [], prefix: [] },
  o200k: { pattern: patterns.o200k, specials: [], eos: [], prefix: [] },
} as const satisfies Record<string, Family>;

/** Classes of tokenizer_config.json, and names of files that stand alone. */
const familyNames: readonly (readonly [RegExp, keyof typeof families])[] = [
  [/^QWenTokenizer(Fast)?$/, 'qwen'],
  [/^qwen\.tiktoken$/, 'qwen'],
  [/^ChatGLM4Tokenizer$/, 'glm4'],
  [/^TikTokenTokenizer$/, 'kimi'],
  [/^(PreTrainedTokenizerFast|LlamaTokenizer(Fast)?)$/, 'llama3'],
  [/^(r50k|p50k)_base\.tiktoken$/, 'gpt2'],
  [/^cl100k_base\.tiktoken$/, 'cl100k'],
  [/^o200k_(base|harmony)\.tiktoken$/, 'o200k'],
];

const line = /^([A-Za-z0-9+/]+={0,2}) (\d{1,8})$/;

/** True when the first line of a file is one of a tiktoken vocabulary. */
export function isTiktoken(bytes: Uint8Array): boolean {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 4096)).toString('latin1');
  return line.test(head.slice(0, head.indexOf('\n') < 0 ? undefined : head.indexOf('\n')).trimEnd());
}

/**
 * @param bytes the whole file
 * @param fileName without folders
 * @param config parsed tokenizer_config.json; an empty object when there is none
 * @throws TOKENIZER_INVALID when a line is malformed, an id is given twice, or the pattern of the vocabulary is not known
 */
export function definitionFromTiktoken(
  bytes: Uint8Array,
  fileName: string,
  config: unknown,
  extraEosIds: readonly number[] = [],
): TokenizerDefinition {
  const settings = isObject(config) ? config : {};
  const ranks = readRanks(bytes);
  const family = familyOf(fileName, settings, ranks);
  const tokens: (string | null)[] = ranks.slice();
  const ids = new Map<string, number>();
  const added = readSpecials(settings, family, tokens.length);
  for (const token of added) {
    while (tokens.length <= token.id) tokens.push(null);
    if (tokens[token.id] !== null)
      throw tokenizerInvalid(`The special token '${token.content.slice(0, 64)}' has the id of a token of the vocabulary.`);
    tokens[token.id] = token.content;
    ids.set(token.content, token.id);
  }
  const named = (spellings: readonly string[]): number[] => spellings.flatMap((spelling) => ids.get(spelling) ?? []);
  const eosTokenId = namedId(settings.eos_token, ids);
  return {
    tokens,
    model: { kind: 'byte-pair', merges: mergesOfRanks(ranks), byteFallback: false, ignoreMerges: true, fuseUnknown: false },
    addedTokens: added,
    normalizer: family.normalize === undefined ? null : { type: family.normalize },
    preTokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: family.pattern }, behavior: 'Isolated', invert: false },
        { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
      ],
    },
    decoder: { type: 'ByteLevel' },
    unkTokenId: null,
    bosTokenId: namedId(settings.bos_token, ids) ?? (family.bos === undefined ? null : (ids.get(family.bos) ?? null)),
    eosTokenIds: uniqueIds([...(eosTokenId === null ? [] : [eosTokenId]), ...named(family.eos), ...extraEosIds]).filter((id) => id < tokens.length),
    prefixIds: named(family.prefix),
    suffixIds: [],
  };
}

/** Spelling by rank, in the byte alphabet of GPT-2. */
function readRanks(bytes: Uint8Array): (string | null)[] {
  const tokens: (string | null)[] = [];
  for (const text of Buffer.from(bytes).toString('latin1').split('\n')) {
    if (text.trim().length === 0) continue;
    const parts = line.exec(text.trimEnd());
    const id = Number(parts?.[2]);
    if (parts === null || id >= maxVocabSize)
      throw tokenizerInvalid('A line of the tiktoken vocabulary is malformed.', { expected: 'base64, a space, a rank' });
    const spelling = Array.from(Buffer.from(parts[1], 'base64'), (byte) => characterOfByte[byte]).join('');
    if (spelling.length === 0 || spelling.length > maxTokenLength)
      throw tokenizerInvalid(`The token ${id} of the tiktoken vocabulary has no bearable length.`);
    while (tokens.length <= id) tokens.push(null);
    if (tokens[id] !== null) throw tokenizerInvalid(`Two tokens of the tiktoken vocabulary have the rank ${id}.`);
    tokens[id] = spelling;
  }
  if (tokens.length === 0) throw tokenizerInvalid('The tiktoken vocabulary is empty.');
  return tokens;
}

function familyOf(fileName: string, settings: JsonObject, ranks: readonly unknown[]): Family {
  const name = typeof settings.tokenizer_class === 'string' ? settings.tokenizer_class : null;
  for (const candidate of [name, fileName]) {
    const found = candidate === null ? undefined : familyNames.find(([pattern]) => pattern.test(candidate));
    if (found !== undefined) return families[found[1]];
  }
  // Llama 3 ships its vocabulary alone, as `original/tokenizer.model`
  if (name === null && fileName === 'tokenizer.model' && ranks.length === 128_000) return families.llama3;
  throw tokenizerInvalid(`The tiktoken vocabulary ${fileName} is of a tokenizer whose pattern is not known.`, {
    expected: 'tokenizer_config.json with a tokenizer_class of Qwen, Llama 3, GLM-4 or Kimi, or a file name of OpenAI',
    received: name?.slice(0, 64) ?? 'no tokenizer_class',
    hint: 'use a checkpoint with tokenizer.json',
  });
}

/** Those of tokenizer_config.json; else those that the authors' code puts behind the vocabulary. */
function readSpecials(settings: JsonObject, family: Family, numRanks: number): AddedToken[] {
  const listed = settings.added_tokens_decoder;
  const entries: [number, unknown][] = isObject(listed)
    ? Object.entries(listed).map(([id, entry]) => [Number(id), entry])
    : family.specials.map((content, i) => [numRanks + i, { content, special: true }]);
  if (entries.length > maxVocabSize) throw tokenizerInvalid('There are too many special tokens.');
  return entries.map(([id, entry]) => {
    if (!isObject(entry)) throw tokenizerInvalid('A special token is not an object.');
    checkEntry(entry.content, id);
    const special = entry.special !== false;
    return {
      id,
      content: String(entry.content),
      special,
      normalized: false,
      lstrip: entry.lstrip === true,
      rstrip: entry.rstrip === true,
      singleWord: false,
    };
  });
}

/** tiktoken joins the pair whose bytes have the lowest rank: every split of a token into two others is a merge of that rank. */
function mergesOfRanks(ranks: readonly (string | null)[]): MergeList {
  const ids = new Map<string, number>();
  ranks.forEach((spelling, id) => {
    if (spelling !== null && !ids.has(spelling)) ids.set(spelling, id);
  });
  const left: number[] = [];
  const right: number[] = [];
  const merged: number[] = [];
  ranks.forEach((spelling, id) => {
    if (spelling === null || ids.get(spelling) !== id) return;
    for (let cut = 1; cut < spelling.length; cut++) {
      const first = ids.get(spelling.slice(0, cut));
      const second = first === undefined ? undefined : ids.get(spelling.slice(cut));
      if (first === undefined || second === undefined) continue;
      left.push(first);
      right.push(second);
      merged.push(id);
    }
    if (merged.length > maxMerges) throw tokenizerInvalid('The vocabulary has more splits than can be tabled.', { expected: `at most ${maxMerges}` });
  });
  const list = emptyMergeList(merged.length);
  list.left.set(left);
  list.right.set(right);
  list.merged.set(merged);
  list.rank.set(merged);
  return list;
}
