/**
 * The tokenizer of a GGUF file as files of a Hugging Face folder: `tokenizer.model` for those of SentencePiece, whose order of merges tokenizer.json cannot say
 * exactly, else `tokenizer.json`.
 */
import { type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import { definitionFromGguf, type GgufMetadata } from './from-gguf.ts';
import { tokenizerFromFolder, tokenizerFromGguf } from './load-tokenizer.ts';
import { differenceOfTokenizers } from './same-tokenizer.ts';

/** Content of each file by its name. */
export type TokenizerFiles = ReadonlyMap<string, string | Uint8Array>;

/** @throws TOKENIZER_INVALID when the file holds none */
export function tokenizerToFolder(metadata: GgufMetadata): TokenizerFiles {
  const definition = definitionFromGguf(metadata);
  const kind = metadata.get('tokenizer.ggml.model');
  const files = new Map<string, string | Uint8Array>([
    ['tokenizer_config.json', `${JSON.stringify(configOf(definition, metadata), null, 2)}\n`],
    ['generation_config.json', `${JSON.stringify({ bos_token_id: definition.bosTokenId, eos_token_id: definition.eosTokenIds }, null, 2)}\n`],
  ]);
  if (kind === 'llama' || kind === 't5') files.set('tokenizer.model', sentencePieceBytes(definition, metadata, kind));
  else files.set('tokenizer.json', `${JSON.stringify(jsonOf(definition))}\n`);
  return files;
}

/** Reads what was written again. @throws TOKENIZER_INVALID when it is not the tokenizer of the GGUF file */
export async function checkTokenizerFolder(metadata: GgufMetadata, folder: string): Promise<void> {
  const difference = differenceOfTokenizers(tokenizerFromGguf(metadata), await tokenizerFromFolder(folder));
  if (difference === null) return;
  throw tokenizerInvalid(`The tokenizer of the GGUF file cannot be written for a folder: it would differ in ${difference}.`, {
    received: String(metadata.get('tokenizer.ggml.model')),
  });
}

function configOf(definition: TokenizerDefinition, metadata: GgufMetadata): Record<string, unknown> {
  const { tokens, bosTokenId, eosTokenIds, unkTokenId, prefixIds, suffixIds } = definition;
  const spelling = (id: unknown) => (typeof id === 'number' && tokens[id] !== undefined ? tokens[id] : null);
  const isPieces = ['llama', 't5'].includes(String(metadata.get('tokenizer.ggml.model')));
  return {
    tokenizer_class: isPieces ? 'LlamaTokenizer' : 'PreTrainedTokenizerFast',
    bos_token: spelling(bosTokenId),
    eos_token: spelling(eosTokenIds[0]),
    unk_token: spelling(unkTokenId),
    pad_token: spelling(metadata.get('tokenizer.ggml.padding_token_id')),
    add_bos_token: prefixIds.length > 0,
    add_eos_token: suffixIds.length > 0,
  };
}

/** As https://github.com/huggingface/tokenizers writes it. */
function jsonOf(definition: TokenizerDefinition): unknown {
  const { tokens, model, addedTokens, normalizer, preTokenizer, decoder, prefixIds, suffixIds, unkTokenId } = definition;
  const vocab = Object.fromEntries(tokens.flatMap((token, id) => (token === null ? [] : [[token, id] as const])));
  const around = [...new Set([...prefixIds, ...suffixIds])].map((id) => tokens[id] ?? '');
  const template = (ids: readonly number[]) => ids.map((id) => ({ SpecialToken: { id: tokens[id], type_id: 0 } }));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens.map(({ singleWord, ...token }) => ({ ...token, single_word: singleWord })),
    normalizer,
    pre_tokenizer: preTokenizer,
    post_processor: {
      type: 'TemplateProcessing',
      single: [...template(prefixIds), { Sequence: { id: 'A', type_id: 0 } }, ...template(suffixIds)],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: Object.fromEntries(around.map((token) => [token, { id: token, ids: [vocab[token]], tokens: [token] }])),
    },
    decoder,
    model: { ...modelOf(definition, model), unk_token: unkTokenId === null ? null : tokens[unkTokenId], vocab },
  };
}

function modelOf({ tokens }: TokenizerDefinition, model: TokenizerDefinition['model']): Record<string, unknown> {
  if (model.kind === 'word-piece') {
    return { type: 'WordPiece', continuing_subword_prefix: model.prefix, max_input_chars_per_word: model.maxCharacters };
  }
  if (model.kind !== 'byte-pair') throw tokenizerInvalid('A Unigram model is written as tokenizer.model only.');
  const { left, right, rank } = model.merges;
  const order = Array.from(rank, (_, i) => i).sort((a, b) => rank[a] - rank[b]);
  return {
    type: 'BPE',
    byte_fallback: model.byteFallback,
    ignore_merges: model.ignoreMerges,
    fuse_unk: model.fuseUnknown,
    merges: order.map((i) => [tokens[left[i]], tokens[right[i]]]),
  };
}

/** Message of sentencepiece_model.proto: pieces (1), trainer's settings (2), normaliser's (3). */
function sentencePieceBytes(
  { tokens, bosTokenId, eosTokenIds, unkTokenId }: TokenizerDefinition,
  metadata: GgufMetadata,
  kind: 'llama' | 't5',
): Uint8Array {
  const scores = metadata.get('tokenizer.ggml.scores') as ArrayLike<number>;
  const types = metadata.get('tokenizer.ggml.token_type') as ArrayLike<number> | undefined;
  const flag = (key: string, fallback: boolean) => (metadata.get(`tokenizer.ggml.${key}`) ?? fallback) === true;
  const pieces = tokens.map((token, id) => {
    const score = Buffer.alloc(5);
    score[0] = (2 << 3) | 5;
    score.writeFloatLE(Number(scores[id]), 1);
    return message(1, Buffer.concat([message(1, Buffer.from(token ?? '')), score, number(3, Number(types?.[id] ?? 1))]));
  });
  const trainer = [
    number(3, kind === 't5' ? 1 : 2),
    ...(kind === 'llama' ? [number(35, 1)] : []),
    number(40, unkTokenId ?? -1),
    number(41, bosTokenId ?? -1),
    number(42, eosTokenIds[0] ?? -1),
  ];
  const map = metadata.get('tokenizer.ggml.precompiled_charsmap');
  const normalizer = [
    ...(map === undefined || kind === 'llama'
      ? []
      : [message(2, Buffer.from(Uint8Array.from(map as ArrayLike<number>, (byte) => Number(byte) & 255)))]),
    number(3, flag('add_space_prefix', kind === 'llama') ? 1 : 0),
    number(4, kind === 't5' && flag('remove_extra_whitespaces', false) ? 1 : 0),
    number(5, 1),
  ];
  return Buffer.concat([...pieces, message(2, Buffer.concat(trainer)), message(3, Buffer.concat(normalizer))]);
}

function message(field: number, content: Uint8Array): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(content.length), content]);
}

function number(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

/** Negative numbers take ten bytes, as 64-bit ones. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 128 : low);
  } while (rest > 0n);
  return Buffer.from(bytes);
}
