/**
 * Cuts normalised text into the pieces that are encoded on their own, as the `pre_tokenizer` of tokenizer.json says. Patterns come from `pattern.ts`;
 * the cutting follows the Rust library `tokenizers` (https://github.com/huggingface/tokenizers).
 */
import { characterOfByte } from './byte-alphabet.ts';
import { type Component, tokenizerInvalid } from './definition.ts';
import { digitGroupFinder, type Finder } from './digit-groups.ts';
import { compilePattern } from './pattern.ts';

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
const word = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}';
const punctuation = '\\p{P}\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E';
const maxComponents = 64;

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
    } else {
      if (part.use_regex !== false) stages.push(each((piece) => splitByPattern(piece, gpt2Pattern, 'Isolated', false)));
      stages.push(each((piece) => [Array.from(Buffer.from(piece, 'utf8'), (byte) => characterOfByte[byte]).join('')]));
    }
  });
  return {
    byteLevel,
    split: (text, sectionIndex) => stages.reduce<readonly string[]>((pieces, stage) => stage(pieces, sectionIndex), [text]),
  };
}

function createStage(part: Component): Stage {
  switch (part.type) {
    case 'Metaspace':
      return createMetaspace(part);
    case 'Split':
      return createSplit(part);
    case 'Punctuation':
      return cutting(new RegExp(`[${punctuation}]`, 'gu'), behaviorOf(part, 'Isolated'));
    case 'Digits':
      return cutting(/\p{N}/gu, part.individual_digits === true ? 'Isolated' : 'Contiguous');
    case 'Whitespace':
      return matching(new RegExp(`[${word}]+|[^${word}\\p{White_Space}]+`, 'gu'));
    case 'WhitespaceSplit':
      return matching(/\P{White_Space}+/gu);
    case 'BertPreTokenizer':
      return matching(new RegExp(`[${punctuation}]|[^${punctuation}\\p{White_Space}]+`, 'gu'));
    case 'CharDelimiterSplit': {
      if (typeof part.delimiter !== 'string' || part.delimiter.length === 0) throw unsupported(part.type, 'delimiter', part.delimiter);
      return cutting(compilePattern({ type: part.type, pattern: { String: part.delimiter } }), 'Removed');
    }
    case 'FixedLength': {
      const { length } = part;
      if (typeof length !== 'number' || !Number.isInteger(length) || length < 1 || length > 1 << 20) throw unsupported(part.type, 'length', length);
      const pattern = new RegExp(`[^]{1,${length}}`, 'gu');
      return each((piece) => piece.match(pattern) ?? []);
    }
    case 'DigitGroups':
      return each((piece) => splitDigitGroups(piece));
    default:
      throw tokenizerInvalid(`The tokenizer uses the pre-tokenizer '${String(part.type).slice(0, 64)}', which is not known.`);
  }
}

/** Runs of digits in threes counted from their end: 1 234 567. Not of tokenizer.json: its patterns for this take quadratic time. */
function splitDigitGroups(piece: string): string[] {
  const pieces: string[] = [];
  for (const run of splitByPattern(piece, /\p{N}+/gu, 'Isolated', false)) {
    if (!/^\p{N}/u.test(run)) {
      pieces.push(run);
      continue;
    }
    const digits = Array.from(run);
    for (let end = digits.length % 3, start = 0; start < digits.length; start = end, end += 3) {
      if (end > start) pieces.push(digits.slice(start, end).join(''));
    }
  }
  return pieces;
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

function behaviorOf(part: Component, fallback?: Behavior): Behavior {
  const behavior = part.behavior === undefined ? fallback : behaviors.find((known) => known === part.behavior);
  if (behavior === undefined) throw unsupported(part.type, 'behavior', part.behavior);
  return behavior;
}

function createSplit(part: Component): Stage {
  const behavior = behaviorOf(part);
  const source = typeof part.pattern === 'object' && part.pattern !== null && 'Regex' in part.pattern ? part.pattern.Regex : undefined;
  const pattern = compilePattern(part);
  return cutting((typeof source === 'string' ? digitGroupFinder(source) : null) ?? pattern, behavior, part.invert === true);
}

/** Pieces are the matches. */
function matching(pattern: RegExp): Stage {
  return each((piece) => piece.match(pattern) ?? []);
}

function cutting(pattern: RegExp | Finder, behavior: Behavior, invert = false): Stage {
  return each((piece) => splitByPattern(piece, pattern, behavior, invert));
}

/** Cuts at matches; what becomes of a match is the behaviour. With `invert`, the text between matches is the match. */
function splitByPattern(text: string, pattern: RegExp | Finder, behavior: Behavior, invert: boolean): string[] {
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
  for (const match of typeof pattern === 'function' ? pattern(text) : text.matchAll(pattern)) {
    add(end, match.index, invert);
    end = match.index + match[0].length;
    // an empty match cuts as well
    if (match[0].length === 0) matchedBefore = !invert;
    else add(match.index, end, !invert);
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
  for (let seen = 0; open.length > 0; seen++) {
    const part = open.shift();
    if (!isComponent(part)) throw tokenizerInvalid("The tokenizer's pre-tokenizer is malformed.", { expected: 'objects with a type' });
    if (part.type === 'Sequence') open.unshift(...(Array.isArray(part.pretokenizers) ? part.pretokenizers.slice(0, maxComponents + 1) : []));
    else flat.push(part);
    if (seen + open.length > maxComponents) throw tokenizerInvalid(`The tokenizer's pre-tokenizer has more than ${maxComponents} parts.`);
  }
  return flat;
}

/** True for what can be read as a `Component`. */
export function isComponent(value: unknown): value is Component {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

function unsupported(type: string, field: string, value: unknown): Error {
  return tokenizerInvalid(`The tokenizer's '${type}' has a ${field} that is not known.`, { received: String(value).slice(0, 64) });
}
