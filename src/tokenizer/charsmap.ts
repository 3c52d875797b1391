/**
 * The normalisation table of SentencePiece (`precompiled_charsmap`): a double array of UTF-8 keys whose values are places in a blob of replacements
 * that end in zero bytes. Layout: sentencepiece's normalizer.cc and the Darts-clone double array (https://github.com/s-yata/darts-clone).
 */
import { tokenizerInvalid } from './definition.ts';

const maxBytes = 16 << 20;

export class Charsmap {
  readonly #units: Uint32Array;
  readonly #replacements: Uint8Array;
  /** Bytes that the last match took. */
  matched = 0;
  /** Where the replacement of the last match lies in `replacements`. */
  start = 0;
  end = 0;

  /** @throws TOKENIZER_INVALID when the table is damaged */
  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const trieBytes = bytes.length >= 4 ? view.getUint32(0, true) : 0;
    if (bytes.length > maxBytes || trieBytes < 4 || trieBytes % 4 !== 0 || trieBytes > bytes.length - 4) {
      throw tokenizerInvalid("The tokenizer's precompiled_charsmap is damaged.", { received: `${bytes.length} bytes` });
    }
    this.#units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.#replacements = bytes.subarray(4 + trieBytes);
  }

  get replacements(): Uint8Array {
    return this.#replacements;
  }

  /**
   * Looks `text[from .. to]` up by its longest prefix that is a key, or by the shortest.
   * @returns false when no prefix is one; else sets `matched`, `start`, `end`
   */
  find(text: Uint8Array, from: number, to: number, longest: boolean): boolean {
    const units = this.#units;
    let value = -1;
    let at = offsetOf(units[0]);
    for (let i = from; i < to && text[i] !== 0; i++) {
      at ^= text[i];
      const unit = at < units.length ? units[at] : 0;
      if ((unit & 0x800000ff) >>> 0 !== text[i]) break;
      at ^= offsetOf(unit);
      if (((unit >>> 8) & 1) === 0) continue;
      if (at >= units.length) break;
      value = units[at] & 0x7fffffff;
      this.matched = i + 1 - from;
      if (!longest) break;
    }
    if (value < 0 || value >= this.#replacements.length) return false;
    this.start = value;
    const end = this.#replacements.indexOf(0, value);
    this.end = end < 0 ? this.#replacements.length : end;
    return true;
  }
}

function offsetOf(unit: number): number {
  return ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
}

/** Growing UTF-8 under construction. */
class ByteBuffer {
  bytes: Buffer;
  length = 0;

  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafe(capacity);
  }

  append(source: Uint8Array, start: number, end: number): void {
    if (this.length + end - start > this.bytes.length) {
      const grown = Buffer.allocUnsafe((this.length + end - start) * 2);
      grown.set(this.bytes.subarray(0, this.length));
      this.bytes = grown;
    }
    for (let i = start; i < end; i++) this.bytes[this.length++] = source[i];
  }

  toString(): string {
    return this.bytes.toString('utf8', 0, this.length);
  }
}

/** Bytes of the character that starts with this one. */
function characterLength(lead: number): number {
  return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

const segmenter = new Intl.Segmenter('und', { granularity: 'grapheme' });
const textEncoder = new TextEncoder();

/**
 * The `Precompiled` normaliser of tokenizer.json: a grapheme of fewer than six bytes is replaced as a whole by what its shortest prefix in the table
 * stands for, else each of its characters is. This is not what SentencePiece does, but what models with that file were trained and published with.
 */
export function normalizeGraphemes(text: string, map: Charsmap): string {
  const out = new ByteBuffer(text.length * 3 + 16);
  for (const { ascii, part } of asciiRuns(text)) {
    if (ascii) {
      const bytes = textEncoder.encode(part);
      for (let i = 0; i < bytes.length; ) {
        // carriage return and line feed are one grapheme
        const length = bytes[i] === 13 && bytes[i + 1] === 10 ? 2 : 1;
        replaceGrapheme(bytes.subarray(i, i + length), map, out);
        i += length;
      }
    } else for (const grapheme of graphemes(part)) replaceGrapheme(textEncoder.encode(grapheme), map, out);
  }
  return out.toString();
}

/** In short stretches: a step of the platform's segmenter takes time that grows with the text. */
function* graphemes(text: string): Generator<string> {
  for (let start = 0, length = 256; start < text.length; ) {
    const stretch = text.slice(start, start + length);
    const atEnd = start + length >= text.length;
    let done = 0;
    for (const { segment, index } of segmenter.segment(stretch)) {
      // the last one may go on behind the stretch
      if (!atEnd && index + segment.length === stretch.length) break;
      yield segment;
      done = index + segment.length;
    }
    length = done === 0 ? length * 2 : 256;
    start += done;
  }
}

/** Runs that are all ASCII, and the rest with an ASCII character on either side, which may belong to a grapheme of it. */
function* asciiRuns(text: string): Generator<{ ascii: boolean; part: string }> {
  const isAscii = (at: number): boolean => text.charCodeAt(at) < 0x80;
  for (let start = 0; start < text.length; ) {
    let end = start;
    while (end < text.length && isAscii(end)) end++;
    const ascii = end === text.length ? end : end - 1;
    if (ascii > start) {
      yield { ascii: true, part: text.slice(start, ascii) };
      start = ascii;
    }
    if (start === text.length) return;
    while (end < text.length && !(isAscii(end) && isAscii(end + 1))) end++;
    end = Math.min(text.length, end + (text.startsWith('\r\n', end) ? 2 : 1));
    yield { ascii: false, part: text.slice(start, end) };
    start = end;
  }
}

function replaceGrapheme(grapheme: Uint8Array, map: Charsmap, out: ByteBuffer): void {
  if (grapheme.length < 6 && map.find(grapheme, 0, grapheme.length, false)) {
    out.append(map.replacements, map.start, map.end);
    return;
  }
  for (let i = 0; i < grapheme.length; ) {
    const length = characterLength(grapheme[i]);
    if (map.find(grapheme, i, i + length, false)) out.append(map.replacements, map.start, map.end);
    else out.append(grapheme, i, i + length);
    i += length;
  }
}

/** How SentencePiece writes a text before it looks for pieces. */
export interface SentencePieceRules {
  /** Null: characters stay as they are. */
  readonly charsmap: Uint8Array | null;
  readonly addPrefix: boolean;
  readonly removeExtraWhitespace: boolean;
  readonly escapeWhitespace: boolean;
  /** The mark that stands for the space in front goes behind the text. */
  readonly prefixBehind: boolean;
  /** Spellings that are never rewritten. */
  readonly userDefined: readonly string[];
}

const space = textEncoder.encode(' ');
const spaceMark = textEncoder.encode('▁');

/** The normaliser of SentencePiece: longest matches of the table, white space pruned, marked, and put in front. */
export function createSentencePieceNormalizer(rules: SentencePieceRules): (text: string) => string {
  const map = rules.charsmap === null || rules.charsmap.length === 0 ? null : new Charsmap(rules.charsmap);
  const userDefined = [...rules.userDefined].filter((word) => word.length > 0).map((word) => textEncoder.encode(word));
  const starts = new Map<number, Uint8Array[]>();
  for (const word of userDefined.sort((a, b) => b.length - a.length)) starts.set(word[0], [...(starts.get(word[0]) ?? []), word]);
  const mark = rules.escapeWhitespace ? spaceMark : space;
  const plain = map === null && !rules.removeExtraWhitespace && !rules.prefixBehind;
  return (text) => {
    if (text.length === 0) return '';
    if (plain) return (rules.addPrefix ? (rules.escapeWhitespace ? '▁' : ' ') : '') + (rules.escapeWhitespace ? text.replaceAll(' ', '▁') : text);
    const source = textEncoder.encode(text);
    const out = new ByteBuffer(source.length * 3 + 16);
    if (rules.addPrefix && !rules.prefixBehind) out.append(mark, 0, mark.length);
    const isBlank = !rewrite(source, map, starts, rules.removeExtraWhitespace, mark, out);
    if (isBlank && rules.removeExtraWhitespace) return '';
    // literal marks at the end go as well, and the one in front when nothing else is left
    while (rules.removeExtraWhitespace && out.length >= mark.length && startsWith(out.bytes, out.length - mark.length, mark))
      out.length -= mark.length;
    if (rules.addPrefix && rules.prefixBehind) out.append(mark, 0, mark.length);
    return out.toString();
  };
}

/** @returns whether there was anything but white space */
function rewrite(
  source: Uint8Array,
  map: Charsmap | null,
  userDefined: ReadonlyMap<number, readonly Uint8Array[]>,
  prune: boolean,
  mark: Uint8Array,
  out: ByteBuffer,
): boolean {
  let written = false;
  let afterSpace = prune;
  for (let i = 0; i < source.length; ) {
    const word = userDefined.get(source[i])?.find((candidate) => startsWith(source, i, candidate));
    const found = word === undefined && map?.find(source, i, source.length, true) === true;
    const from = found && map !== null ? map.replacements : source;
    let at = found && map !== null ? map.start : i;
    const end = found && map !== null ? map.end : i + (word?.length ?? characterLength(source[i]));
    i += found && map !== null ? map.matched : end - at;
    while (afterSpace && at < end && from[at] === 0x20) at++;
    if (at < end) {
      afterSpace = prune && from[end - 1] === 0x20;
      written = true;
    }
    for (; at < end; at++) {
      if (from[at] === 0x20) out.append(mark, 0, mark.length);
      else out.append(from, at, at + 1);
    }
  }
  return written;
}

function startsWith(bytes: Uint8Array, at: number, word: Uint8Array): boolean {
  for (let i = 0; i < word.length; i++) if (bytes[at + i] !== word[i]) return false;
  return true;
}
