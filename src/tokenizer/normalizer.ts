/**
 * Rewrites a text before it is cut, as the `normalizer` of tokenizer.json says. Behaviour follows the Rust library `tokenizers`
 * (https://github.com/huggingface/tokenizers), not its JavaScript sibling, which differs in white space, case and empty texts.
 */
import { characterOfByte } from './byte-alphabet.ts';
import { Charsmap, createSentencePieceNormalizer, normalizeGraphemes, type SentencePieceRules } from './charsmap.ts';
import { type Component, tokenizerInvalid } from './definition.ts';
import { compilePattern } from './pattern.ts';
import { isComponent } from './pre-tokenizer.ts';

export type Normalize = (text: string) => string;

/** What a `tokenizer.model` says of texts, as a component beside those of tokenizer.json. */
export interface SentencePieceComponent extends Component {
  readonly type: 'SentencePiece';
  readonly rules: SentencePieceRules;
}

const maxComponents = 64;
const forms = ['NFC', 'NFD', 'NFKC', 'NFKD'] as const;

/** The identity when there is none. @throws TOKENIZER_INVALID when the component is malformed or of an unknown type */
export function createNormalizer(component: Component | null): Normalize {
  const steps = flatten(component).map(createStep);
  return (text) => {
    let normalized = text;
    for (const step of steps) {
      if (normalized.length === 0) return '';
      normalized = step(normalized);
    }
    return normalized;
  };
}

function flatten(component: Component | null): Component[] {
  if (component === null) return [];
  const flat: Component[] = [];
  const open: unknown[] = [component];
  for (let seen = 0; open.length > 0; seen++) {
    const part = open.shift();
    if (!isComponent(part)) throw tokenizerInvalid("The tokenizer's normalizer is malformed.", { expected: 'objects with a type' });
    if (part.type === 'Sequence') {
      if (!Array.isArray(part.normalizers)) throw tokenizerInvalid("The tokenizer's normalizer is a Sequence without normalizers.");
      open.unshift(...part.normalizers.slice(0, maxComponents + 1));
    } else flat.push(part);
    if (seen + open.length > maxComponents) throw tokenizerInvalid(`The tokenizer's normalizer has more than ${maxComponents} parts.`);
  }
  return flat;
}

function createStep(part: Component): Normalize {
  const form = forms.find((known) => known === part.type);
  if (form !== undefined) return (text) => text.normalize(form);
  switch (part.type) {
    case 'Lowercase':
      return lowercase;
    case 'Prepend': {
      const { prepend } = part;
      if (typeof prepend !== 'string') throw malformed(part);
      return (text) => prepend + text;
    }
    case 'Replace':
      return createReplace(part);
    case 'Strip': {
      const left = part.strip_left !== false;
      const right = part.strip_right !== false;
      return (text) => strip(text, left, right);
    }
    case 'StripAccents':
      return (text) => text.replace(/\p{M}/gu, '');
    case 'BertNormalizer':
      return createBert(part);
    case 'Nmt':
      return nmt;
    case 'ByteLevel':
      return (text) => byteLevel(text);
    case 'Precompiled': {
      if (typeof part.precompiled_charsmap !== 'string') throw malformed(part);
      if (part.precompiled_charsmap.length === 0) return (text) => text;
      const map = new Charsmap(Buffer.from(part.precompiled_charsmap, 'base64'));
      return (text) => normalizeGraphemes(text, map);
    }
    case 'SentencePiece':
      return createSentencePieceNormalizer((part as SentencePieceComponent).rules);
    default:
      throw tokenizerInvalid(`The tokenizer uses the normalizer '${part.type.slice(0, 64)}', which is not known.`);
  }
}

function createReplace(part: Component): Normalize {
  const { content } = part;
  if (typeof content !== 'string') throw malformed(part);
  const { pattern } = part;
  const plain = typeof pattern === 'object' && pattern !== null && 'String' in pattern ? pattern.String : null;
  const expression = compilePattern(part);
  if (typeof plain === 'string' && plain.length > 0) return (text) => text.replaceAll(plain, () => content);
  return (text) => text.replace(expression, () => content);
}

/** Character by character: a final sigma is a sigma like any other. */
export function lowercase(text: string): string {
  return text.replaceAll('Σ', 'σ').toLowerCase();
}

function strip(text: string, left: boolean, right: boolean): string {
  const isSpace = (at: number): boolean => /\p{White_Space}/u.test(text[at]);
  let start = 0;
  let end = text.length;
  while (left && start < end && isSpace(start)) start++;
  while (right && end > start && isSpace(end - 1)) end--;
  return text.slice(start, end);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const invisible = /[\u0001-\u0008\u000B\u000E-\u001F\u007F\u008F\u009F]/gu;
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above
const spaceLike = /[\u0009\u000A\u000C\u000D\u1680\u200B-\u200F\u2028\u2029\u2581\uFEFF\uFFFD]/gu;

/** Characters of no width or without a shape go, others become spaces. */
function nmt(text: string): string {
  return text.replace(invisible, '').replace(spaceLike, ' ');
}

function byteLevel(text: string): string {
  let out = '';
  for (const byte of Buffer.from(text, 'utf8')) out += characterOfByte[byte];
  return out;
}

/** Ideographs that BERT takes one by one. */
export const ideographs =
  '\\u4E00-\\u9FFF\\u3400-\\u4DBF\\u{20000}-\\u{2A6DF}\\u{2A700}-\\u{2B73F}\\u{2B740}-\\u{2B81F}\\u{2B920}-\\u{2CEAF}\\uF900-\\uFAFF\\u{2F800}-\\u{2FA1F}';

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const unwanted = /[\0-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\uFFFD\p{Cf}\p{Co}]/gu;
/** White space but for the space itself, of which there is too much to replace. */
const otherSpace = /[\t\n\r\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]/gu;

function createBert(part: Component): Normalize {
  const lower = part.lowercase !== false;
  const accents = typeof part.strip_accents === 'boolean' ? part.strip_accents : lower;
  const steps: Normalize[] = [];
  if (part.clean_text !== false) {
    steps.push((text) => text.replace(unwanted, '').replace(otherSpace, ' '));
  }
  if (part.handle_chinese_chars !== false) {
    const pattern = new RegExp(`[${ideographs}]`, 'gu');
    steps.push((text) => text.replace(pattern, ' $& '));
  }
  if (accents) steps.push((text) => text.normalize('NFD').replace(/\p{Mn}/gu, ''));
  if (lower) steps.push(lowercase);
  return (text) => steps.reduce((rewritten, step) => step(rewritten), text);
}

function malformed(part: Component): Error {
  return tokenizerInvalid(`The tokenizer's normalizer '${part.type.slice(0, 64)}' is malformed.`);
}
