/**
 * A tokenizer as metadata of a GGUF file. The file names its way of cutting text instead of describing it, so the name is found by trying, and what was made
 * is read again and compared.
 * Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { type Component, type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import { definitionFromGguf } from './from-gguf.ts';
import { pieceType } from './from-sentencepiece.ts';
import { HfTokenizer } from './hf-tokenizer.ts';
import { createPreTokenizer } from './pre-tokenizer.ts';
import { namedPreTokenizers } from './pre-tokenizer-table.ts';
import { cutProbes, differenceOfTokenizers } from './same-tokenizer.ts';
import { buildTokenizerData } from './tokenizer-data.ts';

/** Value with the type that the file gives it. */
export type TokenizerEntry =
  | readonly ['u32', number]
  | readonly ['bool', boolean]
  | readonly ['string', string]
  | readonly ['strings', readonly string[]]
  | readonly ['f32s' | 'i32s', ArrayLike<number>];

type Entries = Map<string, TokenizerEntry>;

/**
 * @param vocabSize rows of the embedding: ids without a token become unused ones
 * @throws TOKENIZER_INVALID when files of this kind cannot say what the tokenizer does
 */
export function tokenizerToGguf(definition: TokenizerDefinition, vocabSize: number): Entries {
  if (definition.tokens.length > vocabSize) {
    throw tokenizerInvalid('The tokenizer has tokens that the model has no embedding for, which GGUF files cannot have.', {
      expected: `at most ${vocabSize} tokens`,
      received: String(definition.tokens.length),
    });
  }
  const original = new HfTokenizer(buildTokenizerData(definition));
  let difference = 'everything';
  for (const entries of candidates(definition, vocabSize)) {
    const metadata = new Map<string, unknown>([...entries].map(([key, [, value]]) => [key, value]));
    const found = differenceOfTokenizers(original, new HfTokenizer(buildTokenizerData(definitionFromGguf(metadata))));
    if (found === null) return entries;
    difference = found;
  }
  throw tokenizerInvalid(`A GGUF file cannot say what this tokenizer does: it would differ in ${difference}.`, {
    expected: 'byte-level BPE cut in a way that llama.cpp has a name for, or BPE as SentencePiece has it',
    received: definition.model.kind,
    hint: 'write safetensors: --to safetensors',
  });
}

function* candidates(definition: TokenizerDefinition, vocabSize: number): Generator<Entries> {
  const { model } = definition;
  if (model.kind !== 'byte-pair') return;
  if (model.byteFallback) {
    for (const prefix of [true, false]) {
      const entries = common(definition, vocabSize, 'llama');
      entries.set('tokenizer.ggml.scores', ['f32s', scoresOf(definition, vocabSize)]);
      entries.set('tokenizer.ggml.add_space_prefix', ['bool', prefix]);
      yield entries;
    }
    return;
  }
  for (const pre of namesLike(definition.preTokenizer, model.ignoreMerges)) {
    const entries = common(definition, vocabSize, 'gpt2');
    entries.set('tokenizer.ggml.pre', ['string', pre]);
    entries.set('tokenizer.ggml.merges', ['strings', mergesOf(definition)]);
    yield entries;
  }
}

/** Names whose cuts of all probes are those of the component, the first of each way. */
function namesLike(component: Component | null, ignoreMerges: boolean): string[] {
  const wanted = createPreTokenizer(component);
  if (!wanted.byteLevel) return [];
  const cuts = cutProbes(wanted);
  const seen = new Set<unknown>();
  const names: string[] = [];
  for (const [name, entry] of namedPreTokenizers) {
    if (seen.has(entry) || entry.characters || entry.ignoreMerges !== ignoreMerges) continue;
    seen.add(entry);
    if (cutProbes(createPreTokenizer(entry.component)) === cuts) names.push(name);
  }
  return names;
}

function common(definition: TokenizerDefinition, vocabSize: number, kind: 'llama' | 'gpt2'): Entries {
  const { tokens, bosTokenId, eosTokenIds, unkTokenId, prefixIds, suffixIds } = definition;
  const entries: Entries = new Map();
  entries.set('tokenizer.ggml.model', ['string', kind]);
  if (kind === 'llama') entries.set('tokenizer.ggml.pre', ['string', 'default']);
  entries.set('tokenizer.ggml.tokens', ['strings', Array.from({ length: vocabSize }, (_, id) => tokens[id] ?? `[PAD${id}]`)]);
  entries.set('tokenizer.ggml.token_type', ['i32s', typesOf(definition, vocabSize)]);
  const ids = { bos: bosTokenId, eos: eosTokenIds[0], eot: eosTokenIds[1], eom: eosTokenIds[2], unknown: unkTokenId };
  for (const [key, id] of Object.entries(ids)) {
    if (id !== null && id !== undefined) entries.set(`tokenizer.ggml.${key}_token_id`, ['u32', id]);
  }
  entries.set('tokenizer.ggml.add_bos_token', ['bool', prefixIds.length > 0]);
  entries.set('tokenizer.ggml.add_eos_token', ['bool', suffixIds.length > 0]);
  return entries;
}

function typesOf({ tokens, addedTokens, model, unkTokenId }: TokenizerDefinition, vocabSize: number): Int32Array {
  const types = new Int32Array(vocabSize).fill(pieceType.unused);
  const bytes = model.kind === 'byte-pair' && model.byteFallback;
  tokens.forEach((token, id) => {
    if (token !== null) types[id] = bytes && /^<0x[0-9A-F]{2}>$/.test(token) ? pieceType.byte : pieceType.normal;
  });
  for (const { id, special } of addedTokens) types[id] = special ? pieceType.control : pieceType.userDefined;
  if (bytes && unkTokenId !== null) types[unkTokenId] = pieceType.unknown;
  return types;
}

/** Of a piece, what puts merges in the order of their ranks; pieces that no merge makes come last. */
function scoresOf({ model }: TokenizerDefinition, vocabSize: number): Float32Array {
  const scores = new Float32Array(vocabSize).fill(-1e9);
  if (model.kind !== 'byte-pair') return scores;
  const { merged, rank } = model.merges;
  merged.forEach((id, i) => {
    scores[id] = Math.max(scores[id], -rank[i]);
  });
  return scores;
}

function mergesOf({ tokens, model }: TokenizerDefinition): string[] {
  if (model.kind !== 'byte-pair') return [];
  const { left, right, rank } = model.merges;
  const order = Array.from(rank, (_, i) => i).sort((a, b) => rank[a] - rank[b]);
  return order.map((i) => `${tokens[left[i]]} ${tokens[right[i]]}`);
}
