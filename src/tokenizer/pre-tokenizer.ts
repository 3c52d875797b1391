/**
 * Cuts normalised text into the pieces that are merged on their own, as the `pre_tokenizer` of tokenizer.json says.
 * Patterns are compiled by the library, which knows how to write Oniguruma syntax in JavaScript; the cutting is ours.
 * A pattern is as trusted as the model that brings it: its own running time is not bounded here.
 */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { type Component, tokenizerInvalid } from './definition.ts';

type Stage = (pieces: readonly string[], sectionIndex: number) => readonly string[];

export interface PreTokenizer {
  /** Pieces are to be merged as UTF-8 bytes. */
  readonly byteLevel: boolean;
  /** @param sectionIndex 0 for text that starts the input, more for text behind an added token */
  split(text: string, sectionIndex: number): readonly string[];
}

/** White space as Unicode defines it; JavaScript's `\s` has U+FEFF and lacks U+0085. */
const gpt2Pattern =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const punctuation = '\\p{P}\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E';
const maxComponents = 64;
const maxPatternLength = 1 << 16;

/** @throws TOKENIZER_INVALID when the component is malformed or of an unknown type */
export function createPreTokenizer(component: Component | null): PreTokenizer {
  const components = flatten(component);
  const stages: Stage[] = [];
  let byteLevel = false;
  components.forEach((part, i) => {
    if (part.type !== 'ByteLevel') {
      stages.push(createStage(part));
      return;
    }
    if (part.add_prefix_space === true) stages.push(each((piece) => [piece.startsWith(' ') ? piece : ` ${piece}`]));
    if (i === components.length - 1) {
      byteLevel = true;
      if (part.use_regex !== false) stages.push(each((piece) => splitByPattern(piece, gpt2Pattern, 'Isolated', false)));
    } else stages.push(libraryStage({ ...part, add_prefix_space: false }));
  });
  return {
    byteLevel,
    split: (text, sectionIndex) => stages.reduce<readonly string[]>((pieces, stage) => stage(pieces, sectionIndex), [text]),
  };
}

/** Normaliser of tokenizer.json, run by the library; the identity when there is none. */
export function createNormalizer(component: Component | null): (text: string) => string {
  if (component === null) return (text) => text;
  checkPatterns(component);
  const normalizer = libraryPipeline({ normalizer: component }).normalizer;
  if (normalizer === null) return (text) => text;
  // The library prepends to empty texts as well; the original does not.
  return (text) => (text.length === 0 ? '' : normalizer.normalize(text));
}

/** A library tokenizer with an empty vocabulary: only its text stages are used. */
export function libraryPipeline(parts: {
  normalizer?: Component | null;
  pre_tokenizer?: Component | null;
  post_processor?: Component | null;
}): LibraryTokenizer {
  const empty = { type: 'BPE', vocab: {}, merges: [] };
  const json = { model: empty, normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [], ...parts };
  try {
    return new LibraryTokenizer(json, {});
  } catch (cause) {
    throw tokenizerInvalid(`The tokenizer's ${Object.keys(parts).join(', ')} cannot be used: ${messageOf(cause)}.`, { cause });
  }
}

function createStage(part: Component): Stage {
  switch (part.type) {
    case 'Metaspace':
      return createMetaspace(part);
    case 'Split':
      return createSplit(part);
    case 'Punctuation': {
      const isolated = (part.behavior ?? 'Isolated') === 'Isolated';
      const pattern = new RegExp(`[^${punctuation}]+|[${punctuation}]${isolated ? '' : '+'}`, 'gu');
      if (!isolated && part.behavior !== 'Contiguous') throw unsupported(part.type, 'behavior', part.behavior);
      return each((piece) => piece.match(pattern) ?? []);
    }
    case 'Digits': {
      const pattern = part.individual_digits === true ? /\p{N}/gu : /\p{N}+/gu;
      return each((piece) => splitByPattern(piece, pattern, 'Isolated', false));
    }
    case 'Whitespace':
    case 'WhitespaceSplit':
    case 'BertPreTokenizer':
      return libraryStage(part);
    default:
      throw tokenizerInvalid(`The tokenizer uses the pre-tokenizer '${String(part.type).slice(0, 64)}', which is not known.`);
  }
}

function libraryStage(part: Component): Stage {
  const preTokenizer = libraryPipeline({ pre_tokenizer: part }).pre_tokenizer;
  return each((piece) => preTokenizer?.pre_tokenize(piece) ?? [piece]);
}

function createMetaspace(part: Component): Stage {
  const mark = typeof part.replacement === 'string' && part.replacement.length > 0 ? part.replacement : '▁';
  const scheme = part.prepend_scheme ?? (part.add_prefix_space === false ? 'never' : 'always');
  const splits = part.split !== false;
  return (pieces, sectionIndex) =>
    pieces.flatMap((piece) => {
      let text = piece.replaceAll(' ', mark);
      if (!text.startsWith(mark) && (scheme === 'always' || (scheme === 'first' && sectionIndex === 0))) text = mark + text;
      return splits ? splitBeforeMark(text, mark) : [text];
    });
}

function splitBeforeMark(text: string, mark: string): string[] {
  const pieces: string[] = [];
  let start = 0;
  for (let at = text.indexOf(mark, 1); at >= 0; at = text.indexOf(mark, at + mark.length)) {
    pieces.push(text.slice(start, at));
    start = at;
  }
  pieces.push(text.slice(start));
  return pieces;
}

const behaviors = ['Isolated', 'Removed', 'Contiguous', 'MergedWithPrevious', 'MergedWithNext'] as const;
type Behavior = (typeof behaviors)[number];

function createSplit(part: Component): Stage {
  checkPatterns(part);
  const behavior = behaviors.find((known) => known === part.behavior);
  if (behavior === undefined) throw unsupported('Split', 'behavior', part.behavior);
  const split = libraryPipeline({ pre_tokenizer: { ...part, invert: false } }).pre_tokenizer;
  const pattern = split !== null && 'pattern' in split ? split.pattern : null;
  if (!(pattern instanceof RegExp)) throw tokenizerInvalid("The tokenizer's pre-tokenizer 'Split' has a pattern that cannot be compiled.");
  return each((piece) => splitByPattern(piece, pattern, behavior, part.invert === true));
}

/** Cuts at matches; what becomes of a match is the behaviour. With `invert`, the text between matches is the match. */
function splitByPattern(text: string, pattern: RegExp, behavior: Behavior, invert: boolean): string[] {
  const pieces: string[] = [];
  let matchedBefore = false;
  const add = (from: number, to: number, isMatch: boolean): void => {
    if (from === to) return;
    const piece = text.slice(from, to);
    const last = pieces.length - 1;
    if (behavior === 'Removed') {
      if (!isMatch) pieces.push(piece);
    } else if (behavior === 'Contiguous' && last >= 0 && isMatch === matchedBefore) pieces[last] += piece;
    else if (behavior === 'MergedWithPrevious' && last >= 0 && isMatch && !matchedBefore) pieces[last] += piece;
    else if (behavior === 'MergedWithNext' && last >= 0 && !isMatch && matchedBefore) pieces[last] += piece;
    else pieces.push(piece);
    matchedBefore = isMatch;
  };
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (match[0].length === 0) continue;
    add(end, match.index, invert);
    end = match.index + match[0].length;
    add(match.index, end, !invert);
  }
  add(end, text.length, invert);
  return pieces;
}

function each(cut: (piece: string) => readonly string[]): Stage {
  return (pieces) => (pieces.length === 1 ? cut(pieces[0]) : pieces.flatMap(cut));
}

function flatten(component: Component | null): Component[] {
  if (component === null) return [];
  const flat: Component[] = [];
  const open: unknown[] = [component];
  while (open.length > 0) {
    const part = open.shift();
    if (!isComponent(part)) throw tokenizerInvalid("The tokenizer's pre-tokenizer is malformed.", { expected: 'objects with a type' });
    if (part.type === 'Sequence') open.unshift(...(Array.isArray(part.pretokenizers) ? part.pretokenizers : []));
    else flat.push(part);
    if (flat.length + open.length > maxComponents) throw tokenizerInvalid(`The tokenizer's pre-tokenizer has more than ${maxComponents} parts.`);
  }
  return flat;
}

/** The library drops text silently when a pattern is missing. */
function checkPatterns(component: Component): void {
  const open: unknown[] = [component];
  for (let seen = 0; open.length > 0; seen++) {
    const part = open.pop();
    if (!isComponent(part) || seen > maxComponents) throw tokenizerInvalid("The tokenizer's normalizer or pre-tokenizer is malformed.");
    if (Array.isArray(part.normalizers)) open.push(...part.normalizers.slice(0, maxComponents + 1));
    if (part.type !== 'Replace' && part.type !== 'Split') continue;
    const pattern = typeof part.pattern === 'object' && part.pattern !== null ? Object.values(part.pattern) : [];
    if (pattern.length !== 1 || typeof pattern[0] !== 'string' || pattern[0].length > maxPatternLength) {
      throw tokenizerInvalid(`The tokenizer's '${part.type}' has no usable pattern.`, { expected: '{"Regex": "..."} or {"String": "..."}' });
    }
  }
}

/** True for what can be read as a `Component`. */
export function isComponent(value: unknown): value is Component {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

function unsupported(type: string, field: string, value: unknown): Error {
  return tokenizerInvalid(`The tokenizer's '${type}' has a ${field} that is not known.`, { received: String(value).slice(0, 64) });
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message.slice(0, 400) : String(thrown).slice(0, 400);
}
