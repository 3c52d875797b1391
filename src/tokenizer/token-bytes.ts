/** The bytes that each token stands for, in one array, as the `decoder` of tokenizer.json says. */
import { byteOfCharacter } from './byte-alphabet.ts';
import { type AddedToken, type Component, tokenizerInvalid } from './definition.ts';
import { isComponent } from './pre-tokenizer.ts';
import type { Vocabulary } from './vocabulary.ts';

/** What a decoder does, as far as it concerns single tokens. */
export interface DecoderRules {
  readonly byteLevel: boolean;
  readonly byteFallback: boolean;
  /** The first space of a text is dropped. */
  readonly stripsLeadingSpace: boolean;
  readonly replacements: readonly { readonly from: string; readonly to: string }[];
  /** Tokens are words with a space in front, but for those with this prefix (none when empty). Null: tokens say themselves where spaces are. */
  readonly wordPrefix: string | null;
  /** Spaces before punctuation and English contractions go. */
  readonly cleanup: boolean;
}

export interface TokenBytesTable {
  readonly bytes: Uint8Array;
  /** `[vocabSize + 1]`: token `i` is `bytes[offsets[i] .. offsets[i + 1]]`. */
  readonly offsets: Uint32Array;
}

const byteToken = /^<0x([0-9A-Fa-f]{2})>$/;

/** @throws TOKENIZER_INVALID when the decoder is malformed or of a type whose text depends on more than the token */
export function parseDecoder(component: Component | null): DecoderRules {
  const rules = {
    byteLevel: false,
    byteFallback: false,
    stripsLeadingSpace: false,
    replacements: [] as { from: string; to: string }[],
    wordPrefix: null as string | null,
    cleanup: false,
  };
  // without a decoder tokens are words
  const parts: unknown[] =
    component === null
      ? [{ type: 'WordPiece', prefix: '', cleanup: false }]
      : component.type === 'Sequence' && Array.isArray(component.decoders)
        ? component.decoders
        : [component];
  for (const part of parts) {
    if (!isComponent(part)) throw tokenizerInvalid("The tokenizer's decoder is malformed.", { expected: 'objects with a type' });
    switch (part.type) {
      case 'ByteLevel':
        rules.byteLevel = true;
        break;
      case 'ByteFallback':
        rules.byteFallback = true;
        break;
      case 'Fuse':
        break;
      case 'Metaspace':
        rules.replacements.push({ from: typeof part.replacement === 'string' ? part.replacement : '▁', to: ' ' });
        rules.stripsLeadingSpace ||= part.prepend_scheme === undefined ? part.add_prefix_space !== false : part.prepend_scheme !== 'never';
        break;
      case 'WordPiece':
        rules.wordPrefix = typeof part.prefix === 'string' ? part.prefix : '##';
        rules.cleanup = part.cleanup !== false;
        rules.stripsLeadingSpace = true;
        break;
      case 'Replace':
        rules.replacements.push(parseReplacement(part));
        break;
      case 'Strip':
        if (part.content !== ' ' || part.start !== 1 || (part.stop ?? 0) !== 0) throw unknownDecoder(part);
        rules.stripsLeadingSpace = true;
        break;
      default:
        throw unknownDecoder(part);
    }
  }
  return rules;
}

export function buildTokenBytes(vocabulary: Vocabulary, rules: DecoderRules, addedTokens: readonly AddedToken[]): TokenBytesTable {
  const added = new Set(addedTokens.map((token) => token.id));
  const offsets = new Uint32Array(vocabulary.size + 1);
  // Decoding a spelling never makes it longer, but for a replacement, which grows the array below.
  let bytes = Buffer.allocUnsafe(vocabulary.data.bytes.length + 1024);
  let end = 0;
  for (let id = 0; id < vocabulary.size; id++) {
    const spelling = vocabulary.spelling(id);
    const needed = end + spelling.length * 3;
    const text = rules.byteLevel && !added.has(id) ? null : replaceAll(spelling, rules);
    if (needed + (text?.length ?? 0) * 3 > bytes.length) bytes = Buffer.concat([bytes], (needed + (text?.length ?? 0) * 3) * 2);
    const byte = rules.byteFallback ? byteToken.exec(spelling) : null;
    if (byte !== null) bytes[end++] = Number.parseInt(byte[1], 16);
    else if (text !== null) end += bytes.write(text, end, 'utf8');
    else end = writeByteLevel(spelling, bytes, end);
    offsets[id + 1] = end;
  }
  return { bytes: new Uint8Array(bytes.subarray(0, end)), offsets };
}

function replaceAll(spelling: string, rules: DecoderRules): string {
  let text = rules.wordPrefix === null ? spelling : asWord(spelling, rules.wordPrefix);
  if (rules.cleanup) text = cleaned(text);
  for (const { from, to } of rules.replacements) text = text.replaceAll(from, to);
  return text;
}

function asWord(spelling: string, prefix: string): string {
  return prefix.length > 0 && spelling.startsWith(prefix) ? spelling.slice(prefix.length) : ` ${spelling}`;
}

/** What the WordPiece decoder tidies in each token. */
const untidy: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function cleaned(text: string): string {
  return untidy.reduce((tidied, [from, to]) => tidied.replaceAll(from, to), text);
}

/** A spelling with a character outside the alphabet stands for itself. */
function writeByteLevel(spelling: string, bytes: Buffer, start: number): number {
  let end = start;
  for (let i = 0; i < spelling.length; i++) {
    const byte = byteOfCharacter[spelling.charCodeAt(i)] ?? -1;
    if (byte < 0) return start + bytes.write(spelling, start, 'utf8');
    bytes[end++] = byte;
  }
  return end;
}

function parseReplacement(part: Component): { from: string; to: string } {
  const pattern = part.pattern;
  const from = typeof pattern === 'object' && pattern !== null && 'String' in pattern ? pattern.String : undefined;
  if (typeof from !== 'string' || from.length === 0 || typeof part.content !== 'string') throw unknownDecoder(part);
  return { from, to: part.content };
}

function unknownDecoder(part: Component): Error {
  return tokenizerInvalid(`The tokenizer's decoder '${part.type.slice(0, 64)}' is not of a known form.`, {
    expected: 'ByteLevel, Metaspace, WordPiece, or Replace, ByteFallback, Fuse and Strip of one leading space',
  });
}
