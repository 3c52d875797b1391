/**
 * Keeps what users wrote from becoming control tokens.
 *
 * The rendered prompt is encoded with special tokens recognised, for the template's own. Before rendering, every spelling of a special token in
 * what came with the request, and every beginning or end of one that could be completed by what the template puts beside it, is
 * exchanged for a placeholder of digits that nobody can guess and that survives upper, lower, trim and tojson. After rendering, the placeholders
 * give way to the text again, and the places are told to the tokenizer as literal.
 */
import { randomInt } from 'node:crypto';
import { AddedTokenSplitter, type TextRange } from '../tokenizer/added-tokens.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { isSpace } from './jinja/text.ts';
import type { PlainObject } from './message-values.ts';

/** What is to be looked for, made once for a tokenizer. */
interface SpecialSpellings {
  readonly splitter: AddedTokenSplitter;
  /** Proper beginnings and ends of all spellings. */
  readonly beginnings: ReadonlySet<string>;
  readonly endings: ReadonlySet<string>;
  readonly maxLength: number;
}

const spellingsOfTokenizer = new WeakMap<Tokenizer, SpecialSpellings>();
const indexDigits = 7;

/** Placeholders of one rendering. */
export class LiteralText {
  readonly #spellings: SpecialSpellings;
  readonly #nonce: string;
  readonly #texts: string[] = [];

  constructor(tokenizer: Tokenizer) {
    this.#spellings = specialSpellings(tokenizer);
    this.#nonce = Array.from({ length: 4 }, () => String(randomInt(1e11, 1e12))).join('');
  }

  /** Copies plain data with placeholders in its strings and keys. */
  hide(value: unknown): unknown {
    if (typeof value === 'string') return this.#hideText(value);
    if (Array.isArray(value)) return value.map((item: unknown) => this.hide(item));
    if (typeof value !== 'object' || value === null) return value;
    const copy: PlainObject = {};
    for (const [key, item] of Object.entries(value)) copy[this.#hideText(key)] = this.hide(item);
    return copy;
  }

  /** @returns the text with what was hidden, and where that is */
  reveal(rendered: string): { text: string; literalRanges: TextRange[] } {
    const literalRanges: TextRange[] = [];
    if (this.#texts.length === 0) return { text: rendered, literalRanges };
    let text = '';
    let end = 0;
    for (const match of rendered.matchAll(new RegExp(`${this.#nonce}(\\d{${indexDigits}})`, 'g'))) {
      const hidden = this.#texts[Number(match[1])] ?? '';
      text += rendered.slice(end, match.index);
      literalRanges.push([text.length, text.length + hidden.length]);
      text += hidden;
      end = match.index + match[0].length;
    }
    return { text: text + rendered.slice(end), literalRanges };
  }

  #hideText(text: string): string {
    let hidden = '';
    for (const section of this.#spellings.splitter.split(text)) hidden += section.token === null ? section.text : this.#placeholder(section.text);
    return this.#hideEdges(hidden);
  }

  /** White space at the edges is skipped: templates trim it. */
  #hideEdges(text: string): string {
    const start = blanks(text, 0, 1);
    const end = blanks(text, text.length - 1, -1) + 1;
    if (start >= end) return text;
    const trimmed = text.slice(start, end);
    const { beginnings, endings, maxLength } = this.#spellings;
    let head = 0;
    let tail = 0;
    for (let length = Math.min(maxLength - 1, trimmed.length); length > 0 && head === 0; length--)
      if (endings.has(trimmed.slice(0, length))) head = length;
    for (let length = Math.min(maxLength - 1, trimmed.length - head); length > 0 && tail === 0; length--)
      if (beginnings.has(trimmed.slice(-length))) tail = length;
    if (head + tail === 0) return text;
    const hide = (part: string): string => (part.length === 0 ? '' : this.#placeholder(part));
    return (
      text.slice(0, start) +
      hide(text.slice(start, start + head)) +
      text.slice(start + head, end - tail) +
      hide(text.slice(end - tail, end)) +
      text.slice(end)
    );
  }

  #placeholder(text: string): string {
    this.#texts.push(text);
    return this.#nonce + String(this.#texts.length - 1).padStart(indexDigits, '0');
  }
}

/** Index of the first character from there on that neither Python nor JavaScript calls white space. */
function blanks(text: string, from: number, direction: 1 | -1): number {
  let at = from;
  while (at >= 0 && at < text.length && (isSpace(text.charCodeAt(at)) || text[at] === '\ufeff')) at += direction;
  return at;
}

function specialSpellings(tokenizer: Tokenizer): SpecialSpellings {
  const known = spellingsOfTokenizer.get(tokenizer);
  if (known !== undefined) return known;
  const beginnings = new Set<string>();
  const endings = new Set<string>();
  let maxLength = 0;
  const tokens = [...tokenizer.specialTokenIds].map((id) => {
    const spelling = tokenizer.tokenText(id);
    for (let cut = 1; cut < spelling.length; cut++) {
      beginnings.add(spelling.slice(0, cut));
      endings.add(spelling.slice(cut));
    }
    maxLength = Math.max(maxLength, spelling.length);
    return { spelling, token: { id, content: spelling, special: true, normalized: false, lstrip: false, rstrip: false, singleWord: false } };
  });
  const spellings = { splitter: new AddedTokenSplitter(tokens), beginnings, endings, maxLength };
  spellingsOfTokenizer.set(tokenizer, spellings);
  return spellings;
}
