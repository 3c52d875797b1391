/** What lies at a model path, whatever its shape, in one form: configuration, weights, tokenizer, chat template, sampling defaults. */
import { basename } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { chatTemplateFromFolder, chatTemplateFromGguf } from '../chat/load-template.ts';
import type { ChatTemplate } from '../chat/template.ts';
import { ggufToHf, type Model, readModel } from '../models/index.ts';
import type { SamplingParams } from '../sampling/params.ts';
import { ByteTokenizer } from '../tokenizer/byte-tokenizer.ts';
import { tokenizerFromFolder, tokenizerFromGguf } from '../tokenizer/load-tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type HuggingFaceFiles, openModelFiles } from '../weights/model-files.ts';
import type { WeightSource } from '../weights/weight-source.ts';

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
}

type Fields = Readonly<Record<string, unknown>>;

/** @throws MODEL_NOT_FOUND, MODEL_CONFIG_INVALID, MODEL_ARCHITECTURE_UNKNOWN, WEIGHTS_FILE_INVALID */
export function openModel(path: string, useDummyWeights: boolean): OpenedModel {
  const files = openModelFiles(path);
  if (files.kind === 'huggingface') return openFolder(files, useDummyWeights);
  const { gguf } = files;
  const translation = ggufToHf(gguf);
  const source = useDummyWeights ? null : gguf.source(translation.translate);
  const names = new Set(source?.names() ?? []);
  const model = readModel(translation.config, (name) => names.has(name));
  const eosTokenIds = idsOf(translation.config.eos_token_id);
  return {
    path,
    model,
    architecture: architectureOf(translation.config),
    name: basename(path).replace(/\.gguf$/i, ''),
    source,
    samplingDefaults: {},
    eosTokenIds,
    notice: null,
    announcedDtype: null,
    loadTokenizer: async () => tokenizerFromGguf(gguf.metadata, eosTokenIds),
    loadChatTemplate: (tokenizer, override) => chatTemplateFromGguf(gguf.metadata, tokenizer, override),
  };
}

function openFolder(files: HuggingFaceFiles, useDummyWeights: boolean): OpenedModel {
  const config = fieldsOf(files.config);
  const generation = fieldsOf(files.generationConfig);
  const source = useDummyWeights ? null : files.openWeights();
  const names = new Set(source?.names() ?? []);
  const model = readModel(config, (name) => names.has(name));
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
    announcedDtype: typeof config.torch_dtype === 'string' ? config.torch_dtype : null,
    loadTokenizer: async () => {
      if (useDummyWeights && !hasTokenizer) return new ByteTokenizer(model.features.vocabSize);
      return tokenizerFromFolder(files.path, eosTokenIds);
    },
    loadChatTemplate: (tokenizer, override) => chatTemplateFromFolder(files.path, tokenizer, override),
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
    repetitionPenalty: number('repetition_penalty'),
  };
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
