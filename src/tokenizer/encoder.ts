/**
 * Text to ids: added tokens, normaliser, pre-tokenizer, byte pair merges, tokens around the text.
 * Built from plain data, so that the main thread and the encoding worker run the same code on the same tables.
 */
import { MillraceError } from '../base/errors.ts';
import { AddedTokenSplitter, type TextRange } from './added-tokens.ts';
import { type BytePairData, BytePairModel, buildMergeTable, IdBuffer } from './byte-pair.ts';
import type { AddedToken, Component, TokenizerDefinition } from './definition.ts';
import { createNormalizer, createPreTokenizer, type PreTokenizer } from './pre-tokenizer.ts';
import type { EncodeOptions } from './tokenizer.ts';
import { Vocabulary, type VocabularyData } from './vocabulary.ts';

/** Everything an encoder needs; big tables lie in shared memory. */
export interface EncoderData {
  readonly vocabulary: VocabularyData;
  readonly bytePair: BytePairData;
  readonly addedTokens: readonly AddedToken[];
  readonly normalizer: Component | null;
  readonly preTokenizer: Component | null;
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
  /** A merge never crosses from another character into `▁`, so text may be cut before it. */
  readonly cutsBeforeSpaceMark: boolean;
}

/** Longest text that is encoded, in UTF-16 units: 16 Mi; the regular expression engine overflows somewhere above. */
export const maxTextLength = 1 << 24;

interface Splitters {
  readonly raw: AddedTokenSplitter;
  readonly normalized: AddedTokenSplitter;
}

const wordBoundary = /(?<=[^▁])(?=▁)/u;

/** @throws TOKENIZER_INVALID when a component is unknown */
export function buildEncoderData(definition: TokenizerDefinition): EncoderData {
  const vocabulary = Vocabulary.build(definition.tokens);
  const blocked = new Uint8Array(new SharedArrayBuffer(definition.tokens.length));
  for (const token of definition.addedTokens) if (token.special) blocked[token.id] = 1;
  const { byteLevel } = createPreTokenizer(definition.preTokenizer);
  const bytePair: BytePairData = {
    merges: buildMergeTable(definition.merges, blocked),
    blocked,
    byteLevel,
    byteFallback: definition.byteFallback,
    ignoreMerges: definition.ignoreMerges,
    unkId: definition.unkTokenId ?? -1,
    fuseUnknown: definition.fuseUnknown,
  };
  let cutsBeforeSpaceMark = !byteLevel && !definition.ignoreMerges;
  for (const id of definition.merges.merged) cutsBeforeSpaceMark &&= !wordBoundary.test(definition.tokens[id] ?? '');
  const { addedTokens, normalizer, preTokenizer, prefixIds, suffixIds } = definition;
  return { vocabulary: vocabulary.data, bytePair, addedTokens, normalizer, preTokenizer, prefixIds, suffixIds, cutsBeforeSpaceMark };
}

export class Encoder {
  readonly #data: EncoderData;
  readonly #model: BytePairModel;
  readonly #normalize: (text: string) => string;
  readonly #preTokenizer: PreTokenizer;
  readonly #withSpecial: Splitters;
  readonly #withoutSpecial: Splitters;

  constructor(data: EncoderData, vocabulary: Vocabulary = new Vocabulary(data.vocabulary)) {
    this.#data = data;
    this.#model = new BytePairModel(data.bytePair, vocabulary);
    this.#normalize = createNormalizer(data.normalizer);
    this.#preTokenizer = createPreTokenizer(data.preTokenizer);
    this.#withSpecial = this.#createSplitters(data.addedTokens);
    this.#withoutSpecial = this.#createSplitters(data.addedTokens.filter((token) => !token.special));
  }

  /**
   * @returns ids `[numTokens]`
   * @throws PROMPT_TOO_LONG above `maxTextLength`
   */
  encode(text: string, options: EncodeOptions): Int32Array {
    checkTextLength(text);
    const out = new IdBuffer();
    if (options.addSpecialTokens) out.append(this.#data.prefixIds, this.#data.prefixIds.length);
    this.#encodeText(text, options.parseSpecial ? this.#withSpecial : this.#withoutSpecial, options.literalRanges ?? [], out);
    if (options.addSpecialTokens) out.append(this.#data.suffixIds, this.#data.suffixIds.length);
    return out.take();
  }

  #encodeText(text: string, splitters: Splitters, literalRanges: readonly TextRange[], out: IdBuffer): void {
    splitters.raw.split(text, literalRanges).forEach((section, sectionIndex) => {
      if (section.token !== null) {
        out.push(section.token.id);
        return;
      }
      for (const part of splitters.normalized.split(this.#normalize(section.text))) {
        if (part.token !== null) out.push(part.token.id);
        else for (const piece of this.#preTokenizer.split(part.text, sectionIndex)) this.#encodePiece(piece, out);
      }
    });
  }

  #encodePiece(piece: string, out: IdBuffer): void {
    if (!this.#data.cutsBeforeSpaceMark) {
      this.#model.encode(piece, out);
      return;
    }
    let start = 0;
    for (let at = piece.indexOf('▁', 1); at >= 0; at = piece.indexOf('▁', at + 1)) {
      if (piece[at - 1] === '▁') continue;
      this.#model.encode(piece.slice(start, at), out);
      start = at;
    }
    this.#model.encode(start === 0 ? piece : piece.slice(start), out);
  }

  /** Special tokens are always looked for in the raw text: a normaliser must neither make nor hide one. */
  #createSplitters(tokens: readonly AddedToken[]): Splitters {
    const inNormalized = (token: AddedToken): boolean => token.normalized && !token.special && this.#data.normalizer !== null;
    return {
      raw: new AddedTokenSplitter(tokens.filter((token) => !inNormalized(token)).map((token) => ({ spelling: token.content, token }))),
      normalized: new AddedTokenSplitter(tokens.filter(inNormalized).map((token) => ({ spelling: this.#normalize(token.content), token }))),
    };
  }
}

/** @throws PROMPT_TOO_LONG */
export function checkTextLength(text: string): void {
  if (text.length <= maxTextLength) return;
  throw new MillraceError('PROMPT_TOO_LONG', {
    message: 'The text is longer than the tokenizer takes.',
    expected: `at most ${maxTextLength} characters`,
    received: `${text.length}`,
  });
}
