/**
 * Pre-tokenizers by the name that GGUF files give in `tokenizer.ggml.pre`. Each is what the models' own tokenizer.json says,
 * written as such a component.
 */
import type { Component } from './definition.ts';

/** What a name stands for. */
export interface NamedPreTokenizer {
  readonly component: Component;
  /** Pre-tokens in the vocabulary are taken whole. */
  readonly ignoreMerges: boolean;
  /** Whether a BOS is added when the file does not say. */
  readonly addBos: boolean;
  /** As `addBos`, of what stands behind a text. */
  readonly addSep: boolean;
  /** Pieces are characters with `▁` for spaces and `<0xNN>` for unknown ones, as in SentencePiece, rather than bytes. */
  readonly characters: boolean;
}

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const upper = '\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}';
const lower = '\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}';
const spaces = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const llama3 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`;
const qwen2 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`;
const qwen35 = `${contractions}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${spaces}`;
const tekken = `[^\\r\\n\\p{L}\\p{N}]?[${upper}]*[${lower}]+|[^\\r\\n\\p{L}\\p{N}]?[${upper}]+[${lower}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;
const o200k =
  `[^\\r\\n\\p{L}\\p{N}]?[${upper}]*[${lower}]+${contractions}?|[^\\r\\n\\p{L}\\p{N}]?[${upper}]+[${lower}]*${contractions}?` +
  `|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;
const deepseekLetters =
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|';

/** What DeepSeek LLM calls letters: cased ones of an older Unicode. */
const casedLetters =
  'A-Za-z\\u00B5\\u00C0-\\u00D6\\u00D8-\\u00F6\\u00F8-\\u01BA\\u01BC-\\u01BF\\u01C4-\\u0293\\u0295-\\u02AF\\u0370-\\u0373' +
  '\\u0376\\u0377\\u037B-\\u037D\\u037F\\u0386\\u0388-\\u038A\\u038C\\u038E-\\u03A1\\u03A3-\\u03F5\\u03F7-\\u0481\\u048A-\\u052F' +
  '\\u0531-\\u0556\\u10A0-\\u10C5\\u13A0-\\u13F5\\u13F8-\\u13FD\\u1C90-\\u1CBA\\u1CBD-\\u1CBF\\u1D00-\\u1D2B\\u1D6B-\\u1D77' +
  '\\u1D79-\\u1D9A\\u1E00-\\u1F15\\u1F18-\\u1F1D\\u1F20-\\u1F45\\u1F48-\\u1F4D\\u1F50-\\u1F57\\u1F59\\u1F5B\\u1F5D\\u1F5F-\\u1F7D' +
  '\\u1F80-\\u1FB4\\u1FB6-\\u1FBC\\u1FBE\\u1FC2-\\u1FC4\\u1FC6-\\u1FCC\\u1FD0-\\u1FD3\\u1FD6-\\u1FDB\\u1FE0-\\u1FEC\\u1FF2-\\u1FF4' +
  '\\u1FF6-\\u1FFC\\u2102\\u2107\\u210A-\\u2113\\u2115\\u2119-\\u211D\\u2124\\u2126\\u2128\\u212A-\\u212D\\u212F-\\u2134' +
  '\\u2139\\u213C-\\u213F\\u2145-\\u2149\\u214E\\u2183\\u2184\\u2C00-\\u2C7B\\u2C7E-\\u2CE4\\u2CEB-\\u2CEE\\u2CF2\\u2CF3' +
  '\\uA640-\\uA66D\\uA680-\\uA69B\\uA722-\\uA76F\\uA771-\\uA787\\uA78B-\\uA78E\\uAB70-\\uABBF\\uFB00-\\uFB06\\uFB13-\\uFB17' +
  '\\uFF21-\\uFF3A\\uFF41-\\uFF5A\\u{10400}-\\u{1044F}\\u{104B0}-\\u{104D3}\\u{104D8}-\\u{104FB}\\u{10C80}-\\u{10CB2}' +
  '\\u{10CC0}-\\u{10CF2}\\u{118A0}-\\u{118DF}\\u{1E900}-\\u{1E943}';
const symbols = '\\uFF01-\\uFF0F\\uFF1A-\\uFF5E\\u2018-\\u201F\\u3000-\\u3002';
const bloomWords = ' ?[^(\\s|.,!?\\u2026\\u3002\\uFF0C\\u3001\\u0964\\u06D4\\u060C)]+';
const asianRuns =
  '[\\u4E00-\\u9FFF\\u3400-\\u4DBF\\uF900-\\uFAFF\\u3040-\\u309F\\u30A0-\\u30FF\\uFF65-\\uFF9F\\u2F00-\\u2FDF\\u0E00-\\u0E7F\\u0E80-\\u0EFF' +
  '\\u1780-\\u17FF\\u1000-\\u109F\\uAA60-\\uAA7F\\uA9E0-\\uA9FF\\uAC00-\\uD7AF\\u1100-\\u11FF]+';
const youtuRuns =
  '[\\uAC00-\\uD7A3\\u3131-\\u318E]+|[\\uFF01\\u2026\\u201C\\u201D\\u2018\\u2019\\u2014\\uFF1A\\uFF1B\\uFF0C\\u3001-\\u303F\\uFE30-\\uFE4F]+|[\\u3105-\\u312F]+' +
  '|[\\u4E00-\\u9FA5\\u3040-\\u309F\\u30A0-\\u30FF]+';
const upperMark = '\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]';
const lowerMark = '\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]';
/** Of Kimi K2, whose tokenizer keeps Chinese characters apart. */
export const kimiPattern =
  `[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[${upperMark}]*[${lowerMark}]+${contractions}?` +
  `|[^\\r\\n\\p{L}\\p{N}]?[${upperMark}]+[${lowerMark}]*${contractions}?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`;
export const patterns = { gpt2, llama3, qwen2, o200k } as const;

const digitGroups: Component = { type: 'DigitGroups' };
const gpt2Like = named([gpt2]);
const digitsFirst = named(['\\p{N}', gpt2]);
const llama3Like = named([llama3], { ignoreMerges: true, addBos: true });
const qwen2Like = named([qwen2]);
const o200kLike = named([o200k]);
const bailing = named([`'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`]);
const deepseekV3 = named(['\\p{N}{1,3}', '[一-龥぀-ゟ゠-ヿ]+', `${deepseekLetters}${spaces}`]);
const sentencePieceLike = named(['[^\\n]+|[\\n]+'], { characters: true });

/** Names that share one entry, for those that llama.cpp knows and for spellings met in files. */
const groups: readonly (readonly [names: string, entry: NamedPreTokenizer])[] = [
  // What files made before the key existed were read with: punctuation apart, digits in threes.
  ['default', named(['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2, '\\p{N}+', '[0-9][0-9][0-9]'])],
  [
    'gpt-2 gpt2 phi-2 mpt olmo jais jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum modern-bert exaone4 trillion granite-docling',
    gpt2Like,
  ],
  ['jina-v1-en jina-v2-code roberta-bpe', named([gpt2], { addBos: true, addSep: true })],
  ['dbrx smaug-bpe', named([llama3])],
  ['glm4 chatglm-bpe', named([llama3])],
  ['llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano', llama3Like],
  ['qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2', qwen2Like],
  ['qwen35', named([qwen35])],
  ['smollm starcoder refact command-r codeshell exaone minerva-7b mellum2', digitsFirst],
  ['falcon', named(['[\\p{P}\\$\\+<=>\\^~\\|`]+', gpt2, '[0-9][0-9][0-9]'])],
  ['tekken', named([tekken], { ignoreMerges: true, addBos: true })],
  ['gpt-4o llama4 kanana2 talkie minimax-m2', o200kLike],
  ['granite-embed-multi-97m', named([o200k], { ignoreMerges: true })],
  ['tiny_aya cohere2moe', named([digitGroups, o200k])],
  ['deepseek-coder', named(['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', '[一-龥ࠀ-一가-\uD7FF]+', '\\p{N}'])],
  ['deepseek-llm', named(['[\\r\\n]', `\\s?[${casedLetters}]+`, `\\s?[!-/:-~${symbols}]+`, '\\s+$', '[一-龥ࠀ-一가-\uD7FF]+', '\\p{N}+'])],
  ['deepseek-v3 hunyuan-dense joyai-llm', deepseekV3],
  [
    'jais-2',
    named([
      `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|` +
        '\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}',
    ]),
  ],
  ['youtu', named([youtuRuns, o200k.replace('\\p{N}{1,3}', '\\p{N}')], { ignoreMerges: true })],
  ['poro-chat bloom gpt3-finnish', named([bloomWords])],
  ['viking', named([bloomWords, '\\p{N}'])],
  [
    'chameleon',
    named(['<sentinel:[0-9]+>', '(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z', '([\\t\\n]|    |  )', '\\p{N}', '[\\p{P}!-/:-@\\[-`{-~]', gpt2], {
      addBos: true,
    }),
  ],
  ['kimi-k2', named([kimiPattern])],
  ['superbpe', named(['\\p{N}+', digitGroups])],
  ['bailingmoe bailingmoe2 llada-moe', bailing],
  ['seed-coder', named([`${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`])],
  ['afmoe', named([digitGroups, asianRuns, `${deepseekLetters}${spaces}`])],
  ['laguna', named(['[^\\n]+|[\\n]+', qwen2])],
  [
    'exaone-moe',
    named([
      `${contractions}|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`,
    ]),
  ],
  ['minicpm5', named(['\\p{N}{1,3}', llama3.replace('\\p{N}{1,3}', '\\p{N}+')], { ignoreMerges: true })],
  ['gemma4 granite-embed-multi-311m sarvam-moe', sentencePieceLike],
];

export const namedPreTokenizers: ReadonlyMap<string, NamedPreTokenizer> = new Map(
  groups.flatMap(([names, entry]) => names.split(' ').map((name) => [name, entry] as const)),
);

/** Names of llama.cpp's table that are refused, and why. */
export const refusedPreTokenizers: ReadonlyMap<string, string> = new Map([
  ['whitespace', 'it drops the white space between words, which no text can be made from again'],
]);

function named(
  parts: readonly (string | Component)[],
  more: { ignoreMerges?: boolean; addBos?: boolean; addSep?: boolean; characters?: boolean } = {},
): NamedPreTokenizer {
  const stages = parts.map((part) =>
    typeof part === 'string' ? { type: 'Split', pattern: { Regex: part }, behavior: 'Isolated', invert: false } : part,
  );
  const { ignoreMerges = false, addBos = false, addSep = false, characters = false } = more;
  const bytes = characters ? [] : [{ type: 'ByteLevel', add_prefix_space: false, use_regex: false }];
  return { component: { type: 'Sequence', pretokenizers: [...stages, ...bytes] }, ignoreMerges, addBos, addSep, characters };
}
