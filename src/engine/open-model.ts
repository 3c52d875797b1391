/** What lies at a model path, whatever its shape, in one form: configuration, weights, tokenizer, chat template, sampling defaults. */
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { chatTemplateFromFolder, chatTemplateFromGguf } from '../chat/load-template.ts';
import type { ChatTemplate } from '../chat/template.ts';
import { ggufEncoderArchitectures, ggufPooling } from '../models/gguf-encoders.ts';
import { type EncoderModel, ggufToHf, type Model, readEncoder, readModel } from '../models/index.ts';
import type { SamplingParams } from '../sampling/params.ts';
import { ByteTokenizer } from '../tokenizer/byte-tokenizer.ts';
import { tokenizerBytesOfFolder, tokenizerFromFolder, tokenizerFromGguf } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GgufFile } from '../weights/gguf.ts';
import { type HuggingFaceFiles, type LargeFiles, openModelFiles } from '../weights/model-files.ts';
import type { WeightSource } from '../weights/weight-source.ts';
import { type PoolingRules, poolingOf } from './pooling.ts';
import { MAX_INLINE_TOKENIZER_BYTES, readTokenizerInWorker } from './read-tokenizer.ts';

export interface OpenedModel {
  readonly path: string;
  readonly model: Model;
  readonly architecture: string;
  /** Last part of the path, the default of the served names. */
  readonly name: string;
  /** null for random weights, which are made from the plan. */
  readonly source: WeightSource | null;
  readonly samplingDefaults: SamplingParams;
  readonly eosTokenIds: readonly number[];
  /** For people, when the model is a demonstration. */
  readonly notice: string | null;
  /** Format of the weights that a configuration announces, for random ones. */
  readonly announcedDtype: string | null;
  loadTokenizer(): Promise<Tokenizer>;
  /** `override` is a file that takes the place of the model's own. */
  loadChatTemplate(tokenizer: Tokenizer, override?: string): Promise<ChatTemplate | null>;
  /** Closes the files, once everything has been read. */
  close(): void;
}

type Fields = Readonly<Record<string, unknown>>;

/**
 * @param large files that do not lie on this disk
 * @throws MODEL_NOT_FOUND, MODEL_CONFIG_INVALID, MODEL_ARCHITECTURE_UNKNOWN, WEIGHTS_FILE_INVALID
 */
export function openModel(path: string, useDummyWeights: boolean, large?: LargeFiles): OpenedModel {
  const files = openModelFiles(path, large);
  if (files.kind === 'huggingface') return openFolder(files, useDummyWeights);
  return closingOnError(files.gguf, () => openGguf(path, files.gguf, useDummyWeights));
}

function openGguf(path: string, gguf: GgufFile, useDummyWeights: boolean): OpenedModel {
  const { config, translate } = ggufToHf(gguf);
  const source = useDummyWeights ? null : gguf.source(translate);
  const names = new Set(source?.names() ?? []);
  const model = readModel(config, (name) => names.has(name));
  return {
    path,
    model,
    architecture: architectureOf(config),
    name: basename(path).replace(/\.gguf$/i, ''),
    source,
    samplingDefaults: {},
    // the tokenizer reads the end tokens from the metadata
    eosTokenIds: [],
    notice: null,
    announcedDtype: null,
    loadTokenizer: async () => (gguf.skippedLists.size > 0 ? readTokenizerInWorker({ kind: 'gguf', path }) : tokenizerFromGguf(gguf.metadata)),
    loadChatTemplate: (tokenizer, override) => chatTemplateFromGguf(gguf.metadata, tokenizer, override),
    close: () => gguf.close(),
  };
}

/** What lies at the path of an encoder. */
export interface OpenedEncoder {
  readonly model: EncoderModel;
  readonly architecture: string;
  readonly source: WeightSource;
  readonly pooling: PoolingRules;
  /** null where there is none, so that ids can be given. @throws TOKENIZER_INVALID for one that is there and wrong */
  loadTokenizer(): Promise<Tokenizer | null>;
}

/** Whether an encoder lies at a path. @throws MODEL_CONFIG_INVALID, of encoders only; WEIGHTS_FILE_INVALID */
export function isEncoder(path: string, large?: LargeFiles): boolean {
  if (large === undefined && !existsSync(path)) return false;
  const files = openModelFiles(path, large);
  if (files.kind === 'huggingface') return readEncoder(files.config) !== null;
  files.gguf.close();
  return ggufEncoderArchitectures.includes(String(files.gguf.metadata.get('general.architecture')));
}

/** @throws as `openModel`; MODEL_ARCHITECTURE_UNKNOWN for what is no encoder */
export function openEncoder(path: string, large?: LargeFiles): OpenedEncoder {
  const files = openModelFiles(path, large);
  return files.kind === 'gguf' ? closingOnError(files.gguf, () => openGgufEncoder(path, files.gguf)) : openEncoderFolder(files);
}

function openGgufEncoder(path: string, gguf: GgufFile): OpenedEncoder {
  const { config, translate } = ggufToHf(gguf);
  const source = gguf.source(translate);
  return {
    ...encoderOf(config, source),
    source,
    pooling: { pooling: ggufPooling(gguf) ?? 'mean', normalize: false },
    async loadTokenizer() {
      if (!gguf.metadata.has('tokenizer.ggml.model')) return null;
      return gguf.skippedLists.size > 0 ? readTokenizerInWorker({ kind: 'gguf', path }) : tokenizerFromGguf(gguf.metadata);
    },
  };
}

function openEncoderFolder(files: HuggingFaceFiles): OpenedEncoder {
  const { path } = files;
  const source = files.openWeights();
  return closingOnError(source, () => ({
    ...encoderOf(fieldsOf(files.config), source),
    source,
    pooling: poolingOf(path),
    async loadTokenizer() {
      const sizeBytes = tokenizerBytesOfFolder(path);
      if (sizeBytes === 0) return null;
      return sizeBytes <= MAX_INLINE_TOKENIZER_BYTES
        ? tokenizerFromFolder(path, [])
        : readTokenizerInWorker({ kind: 'folder', path, extraEosIds: [] });
    },
  }));
}

function encoderOf(config: Fields, source: WeightSource): Pick<OpenedEncoder, 'model' | 'architecture'> {
  const names = new Set(source.names());
  const architecture = architectureOf(config);
  const model = readEncoder(config, (name) => names.has(name));
  if (model !== null) return { model, architecture };
  throw new MillraceError('MODEL_ARCHITECTURE_UNKNOWN', {
    message: 'No family of encoders reads this architecture.',
    expected: 'an encoder, such as BertModel or ModernBertModel',
    received: architecture.slice(0, 200),
    hint: 'LLM.load is for models that generate',
  });
}

function closingOnError<T>(file: { close(): void } | null, open: () => T): T {
  try {
    return open();
  } catch (thrown) {
    file?.close();
    throw thrown;
  }
}

function openFolder(files: HuggingFaceFiles, useDummyWeights: boolean): OpenedModel {
  const config = fieldsOf(files.config);
  const generation = fieldsOf(files.generationConfig);
  const source = useDummyWeights ? null : files.openWeights();
  const names = new Set(source?.names() ?? []);
  const model = closingOnError(source, () => readModel(config, (name) => names.has(name)));
  const eosTokenIds = idsOf(generation.eos_token_id ?? config.eos_token_id);
  const hasTokenizer = files.tokenizerJson !== null || files.tokenizerModel !== null;
  return {
    path: files.path,
    model,
    architecture: architectureOf(config),
    name: basename(files.path),
    source,
    samplingDefaults: samplingDefaultsOf(generation),
    eosTokenIds,
    notice: typeof config.millrace_notice === 'string' ? config.millrace_notice.slice(0, 500) : null,
    announcedDtype: announcedDtypeOf(config) ?? announcedDtypeOf(nested(config.text_config)),
    loadTokenizer: async () => {
      if (useDummyWeights && !hasTokenizer) return new ByteTokenizer(model.features.vocabSize);
      if (tokenizerBytesOfFolder(files.path) <= MAX_INLINE_TOKENIZER_BYTES) return tokenizerFromFolder(files.path, eosTokenIds);
      return readTokenizerInWorker({ kind: 'folder', path: files.path, extraEosIds: eosTokenIds });
    },
    loadChatTemplate: (tokenizer, override) => chatTemplateFromFolder(files.path, tokenizer, override),
    close: () => source?.close(),
  };
}

/**
 * Sampling defaults of generation_config.json. `do_sample: false` written down means greedy, as it does for Hugging Face.
 * Values are checked with those of each request.
 */
export function samplingDefaultsOf(generation: Fields): SamplingParams {
  const number = (field: string) => (typeof generation[field] === 'number' ? generation[field] : undefined);
  return {
    temperature: generation.do_sample === false ? 0 : number('temperature'),
    topP: number('top_p'),
    topK: number('top_k'),
    minP: number('min_p'),
    typicalP: number('typical_p'),
    repetitionPenalty: number('repetition_penalty'),
    maxTokens: number('max_new_tokens'),
  };
}

/** `torch_dtype`, which newer checkpoints call `dtype`. */
function announcedDtypeOf(config: Fields): string | null {
  const value = config.torch_dtype ?? config.dtype;
  return typeof value === 'string' ? value : null;
}

/** A section of a configuration; empty when there is none. */
function nested(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function architectureOf(config: Fields): string {
  const first: unknown = Array.isArray(config.architectures) ? config.architectures[0] : undefined;
  return typeof first === 'string' ? first : 'unknown';
}

function idsOf(value: unknown): number[] {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.filter((id): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0);
}

function fieldsOf(value: unknown): Fields {
  if (value === null || value === undefined) return {};
  if (typeof value === 'object' && !Array.isArray(value)) return value as Fields;
  throw new MillraceError('MODEL_CONFIG_INVALID', { message: 'A configuration file of the model is not a JSON object.', received: typeof value });
}
