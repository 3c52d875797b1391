/**
 * Tokenizers of repositories older than tokenizer.json: `vocab.json` with `merges.txt` (GPT-2 and its kin), `vocab.txt` (BERT). What these files leave to
 * the code of a class - the pattern, the special tokens and where they stand - is written out as tokenizer.json would say it, and read as such.
 * Classes: transformers, tokenization_{gpt2,roberta,whisper,qwen2,bert}.py.
 */
import { maxMerges, maxVocabSize, type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import { definitionFromJson } from './from-json.ts';
import { isObject, type JsonObject, spellingOf } from './json-values.ts';
import { patterns } from './pre-tokenizer-table.ts';

/** Files beside a vocabulary, as parsed; null where absent. */
export interface SmallFiles {
  /** tokenizer_config.json; `{}` when there is none. */
  readonly config: unknown;
  /** special_tokens_map.json. */
  readonly specialTokens: unknown;
  /** added_tokens.json: id of each spelling. */
  readonly addedTokens: unknown;
  /** `model_type` of config.json, for repositories that name no class. */
  readonly modelType: unknown;
}

const specialKeys = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'cls_token', 'sep_token', 'mask_token'] as const;

/** What a class brings along. */
interface TokenizerClass {
  readonly names: RegExp;
  readonly modelTypes: readonly string[];
  readonly defaults: Readonly<Partial<Record<(typeof specialKeys)[number], string>>>;
}

const gpt2Class: TokenizerClass = {
  names: /^(GPT2|CodeGen|Bloom|GPTNeoX)Tokenizer(Fast)?$/,
  modelTypes: ['gpt2', 'gpt_neo', 'gptj', 'codegen', 'opt', 'gpt_bigcode', 'starcoder2'],
  defaults: { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>', unk_token: '<|endoftext|>' },
};
const robertaClass: TokenizerClass = {
  names: /^(Roberta|Longformer|LED|Bart)Tokenizer(Fast)?$/,
  modelTypes: ['roberta', 'longformer', 'led', 'bart'],
  defaults: {
    bos_token: '<s>',
    eos_token: '</s>',
    sep_token: '</s>',
    cls_token: '<s>',
    unk_token: '<unk>',
    pad_token: '<pad>',
    mask_token: '<mask>',
  },
};
const whisperClass: TokenizerClass = { ...gpt2Class, names: /^WhisperTokenizer(Fast)?$/, modelTypes: ['whisper'] };
const qwen2Class: TokenizerClass = {
  names: /^Qwen2Tokenizer(Fast)?$/,
  modelTypes: ['qwen2', 'qwen2_moe', 'qwen3', 'qwen3_moe'],
  defaults: { eos_token: '<|endoftext|>', pad_token: '<|endoftext|>' },
};
const bytePairClasses = [gpt2Class, robertaClass, whisperClass, qwen2Class];

const bertClass: TokenizerClass = {
  names: /^(Bert|DistilBert|Electra|MobileBert)Tokenizer(Fast)?$/,
  modelTypes: ['bert', 'distilbert', 'electra', 'mobilebert', 'nomic_bert'],
  defaults: { unk_token: '[UNK]', sep_token: '[SEP]', pad_token: '[PAD]', cls_token: '[CLS]', mask_token: '[MASK]' },
};

/**
 * `vocab.json` and `merges.txt`.
 * @param vocab as parsed
 * @throws TOKENIZER_INVALID, also for classes whose rules are not known
 */
export function definitionFromMerges(vocab: unknown, merges: string, files: SmallFiles, extraEosIds: readonly number[]): TokenizerDefinition {
  if (!isObject(vocab)) throw tokenizerInvalid('vocab.json is not an object.');
  const kind = classOf(files, bytePairClasses) ?? (Object.hasOwn(vocab, '</s>') && Object.hasOwn(vocab, '<mask>') ? robertaClass : gpt2Class);
  const settings = settingsOf(files, kind);
  const qwen = kind === qwen2Class;
  const spaced = { type: 'ByteLevel', add_prefix_space: settings.add_prefix_space === true, use_regex: !qwen };
  const cut = { type: 'Split', pattern: { Regex: patterns.qwen2 }, behavior: 'Isolated', invert: false };
  return definitionFromJson(
    {
      added_tokens: addedTokens(files, settings, vocab, kind === robertaClass),
      normalizer: qwen ? { type: 'NFC' } : null,
      pre_tokenizer: qwen ? { type: 'Sequence', pretokenizers: [cut, spaced] } : spaced,
      post_processor: surroundings(kind, settings, vocab, files),
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab, merges: mergeLines(merges) },
    },
    settings,
    extraEosIds,
  );
}

/** `vocab.txt`: a piece of WordPiece a line. @throws as `definitionFromMerges` */
export function definitionFromWordList(text: string, files: SmallFiles, extraEosIds: readonly number[]): TokenizerDefinition {
  const settings = settingsOf(files, classOf(files, [bertClass]) ?? bertClass);
  if (settings.do_basic_tokenize === false) throw tokenizerInvalid('The tokenizer asks for do_basic_tokenize false, which is not supported.');
  const lines = text.split(/\r\n|\n|\r/);
  if (lines.at(-1) === '') lines.pop();
  if (lines.length > maxVocabSize) throw tokenizerInvalid('vocab.txt is too long.', { expected: `at most ${maxVocabSize} lines` });
  // of equal lines the last counts
  const vocab = Object.fromEntries(lines.map((line, id) => [line, id]));
  const lowercase = settings.do_lower_case !== false;
  const normalizer = {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: settings.tokenize_chinese_chars !== false,
    strip_accents: typeof settings.strip_accents === 'boolean' ? settings.strip_accents : null,
    lowercase,
  };
  return definitionFromJson(
    {
      added_tokens: addedTokens(files, settings, vocab, false),
      normalizer,
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: between(settings.cls_token, settings.sep_token),
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
      model: { type: 'WordPiece', vocab, unk_token: spellingOf(settings.unk_token), continuing_subword_prefix: '##', max_input_chars_per_word: 100 },
    },
    settings,
    extraEosIds,
  );
}

/** The class that the files name; null where they name none. @throws TOKENIZER_INVALID for one that is not known */
function classOf({ config, modelType }: SmallFiles, classes: readonly TokenizerClass[]): TokenizerClass | null {
  const name = isObject(config) ? config.tokenizer_class : undefined;
  if (typeof name === 'string' && name !== 'PreTrainedTokenizer' && name !== 'PreTrainedTokenizerFast') {
    const found = classes.find(({ names }) => names.test(name));
    if (found !== undefined) return found;
    throw tokenizerInvalid(`The rules of the tokenizer class '${name.slice(0, 64)}' are not known, and the files do not say them.`, {
      expected: 'a tokenizer.json',
      received: name.slice(0, 64),
      hint: 'save one with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...)',
    });
  }
  return classes.find(({ modelTypes }) => typeof modelType === 'string' && modelTypes.includes(modelType)) ?? null;
}

/** tokenizer_config.json over special_tokens_map.json over what the class brings. */
function settingsOf({ config, specialTokens }: SmallFiles, { defaults }: TokenizerClass): JsonObject {
  const settings: Record<string, unknown> = { ...defaults };
  for (const given of [specialTokens, config]) {
    if (!isObject(given)) continue;
    for (const [key, value] of Object.entries(given)) if (value !== null && value !== undefined) settings[key] = value;
  }
  return settings;
}

/** Ids of `added_tokens_decoder`, or of added_tokens.json where that is absent, and the flags of special tokens. */
function addedTokens({ addedTokens: given }: SmallFiles, settings: JsonObject, vocab: JsonObject, stripsMask: boolean): unknown[] {
  const list: unknown[] = [];
  const special = new Set(specialKeys.flatMap((key) => spellingOf(settings[key]) ?? []));
  if (Array.isArray(settings.additional_special_tokens)) {
    for (const token of settings.additional_special_tokens.slice(0, maxVocabSize)) special.add(spellingOf(token) ?? '');
  }
  if (settings.added_tokens_decoder === undefined && isObject(given)) {
    for (const [content, id] of Object.entries(given)) list.push({ id, content, special: special.has(content), normalized: !special.has(content) });
  }
  // RoBERTa takes the space before its mask along
  const mask = spellingOf(settings.mask_token);
  if (stripsMask && settings.added_tokens_decoder === undefined && mask !== null && Object.hasOwn(vocab, mask)) {
    list.push({ id: vocab[mask], content: mask, special: true, normalized: false, lstrip: true });
  }
  return list;
}

/** What stands around a text, as a post-processor. */
function surroundings(kind: TokenizerClass, settings: JsonObject, vocab: JsonObject, { addedTokens: given }: SmallFiles): unknown {
  if (kind === robertaClass) return between(settings.cls_token, settings.sep_token);
  const bos = spellingOf(settings.bos_token);
  if (kind === whisperClass) {
    const known = (name: string | null) =>
      name !== null && (Object.hasOwn(vocab, name) || (isObject(given) && Object.hasOwn(given, name)) || names(settings).has(name));
    const before = ['<|startoftranscript|>', '<|notimestamps|>'].filter(known);
    const after = [spellingOf(settings.eos_token)].filter(known);
    return template(before, after);
  }
  return settings.add_bos_token === true && bos !== null ? template([bos], []) : null;
}

function names({ added_tokens_decoder: decoder }: JsonObject): ReadonlySet<string | null> {
  return new Set(isObject(decoder) ? Object.values(decoder).map(spellingOf) : []);
}

function between(cls: unknown, sep: unknown): unknown {
  return template([spellingOf(cls)], [spellingOf(sep)]);
}

function template(before: readonly (string | null)[], after: readonly (string | null)[]): unknown {
  const token = (id: string | null) => ({ SpecialToken: { id, type_id: 0 } });
  return {
    type: 'TemplateProcessing',
    single: [...before.map(token), { Sequence: { id: 'A', type_id: 0 } }, ...after.map(token)],
    special_tokens: {},
  };
}

/** The first line may say a version; empty lines say nothing. */
function mergeLines(text: string): string[] {
  const lines = text.split('\n').map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
  const merges = lines.filter((line, i) => line !== '' && !(i === 0 && line.startsWith('#version')));
  if (merges.length <= maxMerges) return merges;
  throw tokenizerInvalid('merges.txt is too long.', { expected: `at most ${maxMerges} lines` });
}
