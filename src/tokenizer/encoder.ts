/**
 * Text to ids: added tokens, normaliser, pre-tokenizer, model, tokens around the text.
 * Built from plain data, so that the main thread and the encoding worker run the same code on the same tables.
 */
import { MillraceError } from '../base/errors.ts';
import { AddedTokenSplitter, type TextRange } from './added-tokens.ts';
import { type BytePairData, BytePairModel, buildMergeTable, IdBuffer } from './byte-pair.ts';
import type { AddedToken, Component, TokenizerDefinition } from './definition.ts';
import { createNormalizer, type Normalize } from './normalizer.ts';
import { createPreTokenizer, type PreTokenizer } from './pre-tokenizer.ts';
import type { EncodeOptions } from './tokenizer.ts';
import { buildTrie, type UnigramData, UnigramModel } from './unigram.ts';
import { Vocabulary, type VocabularyData } from './vocabulary.ts';
import { type WordPieceData, WordPieceModel } from './word-piece.ts';

/** Everything an encoder needs; big tables lie in shared memory. */
export interface EncoderData {
  readonly vocabulary: VocabularyData;
  readonly model: BytePairData | UnigramData | WordPieceData;
  readonly addedTokens: readonly AddedToken[];
  readonly normalizer: Component | null;
  readonly preTokenizer: Component | null;
  readonly prefixIds: readonly number[];
  readonly suffixIds: readonly number[];
}

/** Cuts one pre-token into ids. */
interface Model {
  encode(piece: string, out: IdBuffer): void;
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
  createNormalizer(definition.normalizer);
  const { addedTokens, normalizer, preTokenizer, prefixIds, suffixIds } = definition;
  const model = buildModelData(definition, vocabulary, blocked, byteLevel);
  return { vocabulary: vocabulary.data, model, addedTokens, normalizer, preTokenizer, prefixIds, suffixIds };
}

function buildModelData(definition: TokenizerDefinition, vocabulary: Vocabulary, blocked: Uint8Array, byteLevel: boolean): EncoderData['model'] {
  const { model, tokens } = definition;
  const unkId = definition.unkTokenId ?? -1;
  switch (model.kind) {
    case 'byte-pair': {
      const { byteFallback, ignoreMerges, fuseUnknown } = model;
      let cutsBeforeSpaceMark = !byteLevel && !ignoreMerges;
      for (const id of model.merges.merged) cutsBeforeSpaceMark &&= !wordBoundary.test(tokens[id] ?? '');
      const merges = buildMergeTable(model.merges, blocked);
      return { kind: 'byte-pair', merges, blocked, byteLevel, byteFallback, ignoreMerges, unkId, fuseUnknown, cutsBeforeSpaceMark };
    }
    case 'unigram': {
      const { unknownScore, singlePrecision, byteFallback } = model;
      const usable = model.usable.map((flag, id) => (blocked[id] === 1 ? 0 : flag));
      const scores = new Float64Array(new SharedArrayBuffer(tokens.length * 8));
      scores.set(model.scores);
      return { kind: 'unigram', scores, unknownScore, singlePrecision, byteFallback, unkId, ...buildTrie(vocabulary.data, usable) };
    }
    case 'word-piece': {
      const { prefix, maxCharacters } = model;
      return { kind: 'word-piece', prefix, maxCharacters, longest: vocabulary.longestBytes(), blocked, unkId };
    }
  }
}

function createModel(data: EncoderData['model'], vocabulary: Vocabulary): Model {
  if (data.kind === 'byte-pair') return new BytePairModel(data, vocabulary);
  return data.kind === 'unigram' ? new UnigramModel(data, vocabulary) : new WordPieceModel(data, vocabulary);
}

export class Encoder {
  readonly #data: EncoderData;
  readonly #model: Model;
  readonly #normalize: Normalize;
  readonly #preTokenizer: PreTokenizer;
  readonly #withSpecial: Splitters;
  readonly #withoutSpecial: Splitters;

  constructor(data: EncoderData, vocabulary: Vocabulary = new Vocabulary(data.vocabulary)) {
    this.#data = data;
    this.#model = createModel(data.model, vocabulary);
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
      splitters.normalized.split(this.#normalize(section.text)).forEach((part, partIndex) => {
        if (part.token !== null) out.push(part.token.id);
        else for (const piece of this.#preTokenizer.split(part.text, sectionIndex + partIndex)) this.#model.encode(piece, out);
      });
    });
  }

  /** Special tokens are always looked for in the raw text: a normaliser must neither make nor hide one. */
  #createSplitters(tokens: readonly AddedToken[]): Splitters {
    const inNormalized = (token: AddedToken): boolean => token.normalized && !token.special && this.#data.normalizer !== null;
    // a user-defined symbol of SentencePiece is spelled as it stands in the normalised text
    const spell = this.#data.normalizer?.type === 'SentencePiece' ? (content: string): string => content : this.#normalize;
    return {
      raw: new AddedTokenSplitter(tokens.filter((token) => !inNormalized(token)).map((token) => ({ spelling: token.content, token }))),
      normalized: new AddedTokenSplitter(tokens.filter(inNormalized).map((token) => ({ spelling: spell(token.content), token }))),
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
