/** The model families: one row a family. Imported by `engine/load.ts`, `worker/`, `quantize/` and tests only. */
import { MillraceError } from '../base/errors.ts';
import type { BuildOptions } from '../plan/builder.ts';
import type { Plan } from '../plan/plan.ts';
import { baichuan } from './baichuan.ts';
import { bert, roberta } from './bert.ts';
import type { DecoderFeatures, Stage } from './blocks/decoder-features.ts';
import type { EncoderFeatures } from './blocks/encoder.ts';
import { bloom } from './bloom.ts';
import { chatglm } from './chatglm.ts';
import { ConfigReader } from './config-reader.ts';
import { deepseek } from './deepseek.ts';
import { falcon } from './falcon.ts';
import type { EncoderFamily, ModelFamily } from './family.ts';
import { gemma2 } from './gemma2.ts';
import { gemma3 } from './gemma3.ts';
import { encoderGgufToHf, ggufEncoderArchitectures } from './gguf-encoders.ts';
import { type GgufContents, type GgufTranslation, translateGguf } from './gguf-names.ts';
import { glm4 } from './glm4.ts';
import { glm4Moe } from './glm4-moe.ts';
import { gptNeox } from './gpt-neox.ts';
import { gptOss } from './gpt-oss.ts';
import { gpt2 } from './gpt2.ts';
import { granite } from './granite.ts';
import { graniteMoe } from './granite-moe.ts';
import { internlm2 } from './internlm2.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { mixtral } from './mixtral.ts';
import { modernbert } from './modernbert.ts';
import { nomicBert } from './nomic-bert.ts';
import { olmo2 } from './olmo2.ts';
import { olmoe } from './olmoe.ts';
import { phi3 } from './phi3.ts';
import { qwen2 } from './qwen2.ts';
import { qwen2Moe } from './qwen2-moe.ts';
import { qwen3 } from './qwen3.ts';
import { qwen3Moe } from './qwen3-moe.ts';
import { smollm3 } from './smollm3.ts';
import { starcoder2 } from './starcoder2.ts';

export const families = {
  llama,
  mistral,
  qwen2,
  qwen3,
  gemma2,
  gemma3,
  phi3,
  smollm3,
  olmo2,
  granite,
  glm4,
  chatglm,
  'gpt-neox': gptNeox,
  falcon,
  starcoder2,
  gpt2,
  bloom,
  internlm2,
  baichuan,
  deepseek,
  mixtral,
  'qwen2-moe': qwen2Moe,
  'qwen3-moe': qwen3Moe,
  'gpt-oss': gptOss,
  'glm4-moe': glm4Moe,
  olmoe,
  'granite-moe': graniteMoe,
} as const satisfies Record<string, ModelFamily>;

/** The family that reads a configuration, by its `architectures`; readModel calls it. @throws MODEL_ARCHITECTURE_UNKNOWN, MODEL_CANNOT_GENERATE, MODEL_CONFIG_INVALID */
export function familyFor(config: unknown): ModelFamily {
  const architectures = new ConfigReader(config).get('architectures');
  if (!Array.isArray(architectures) || !architectures.every((a) => typeof a === 'string')) {
    throw new ConfigReader(config).invalid('architectures', 'a list of names such as ["LlamaForCausalLM"]');
  }
  const all: readonly ModelFamily[] = Object.values(families);
  const family = all.find((f) => f.architectures.some((name) => architectures.includes(name)));
  if (family !== undefined) return family;
  if (encoderFamilyFor(architectures) !== undefined) {
    throw new MillraceError('MODEL_CANNOT_GENERATE', {
      message: 'This model is an encoder: it reads text and generates none.',
      expected: 'a model of language, such as those of docs/models.md',
      received: architectures.join(', ').slice(0, 200),
      hint: 'Encoder.load gives its hidden states and embeddings',
    });
  }
  throw new MillraceError('MODEL_ARCHITECTURE_UNKNOWN', {
    message: 'No model family reads this architecture.',
    expected: `one of ${all.flatMap((f) => f.architectures).join(', ')}`,
    received: architectures.join(', ').slice(0, 200) || 'an empty list',
    hint: 'docs/adding-a-model.md shows what a new family takes',
  });
}

/** Encoders: they read texts and generate none. */
export const encoders = { bert, roberta, modernbert, 'nomic-bert': nomicBert } as const satisfies Record<string, EncoderFamily>;

function encoderFamilyFor(architectures: readonly string[]): EncoderFamily | undefined {
  const all: readonly EncoderFamily[] = Object.values(encoders);
  return all.find((f) => f.architectures.some((name) => architectures.includes(name)));
}

/** An encoder that a configuration describes, ready to be planned. */
export interface EncoderModel {
  readonly family: EncoderFamily;
  readonly features: EncoderFeatures;
  build(options: BuildOptions): Plan;
}

/** As `readModel`, of an encoder; null where the architecture is not one. @throws MODEL_CONFIG_INVALID naming the field */
export function readEncoder(config: unknown, hasTensor: (name: string) => boolean = () => false): EncoderModel | null {
  const architectures = new ConfigReader(config).get('architectures');
  const family = Array.isArray(architectures) ? encoderFamilyFor(architectures) : undefined;
  if (family === undefined) return null;
  const features = family.features(new ConfigReader(config), hasTensor);
  return { family, features, build: (options) => family.build(features, options) };
}

/** A model that a configuration describes, ready to be planned. */
export interface Model {
  readonly family: ModelFamily;
  readonly features: DecoderFeatures;
  /** Writes the plan, of a run of layers if asked (S1). */
  build(options: BuildOptions, stage?: Stage): Plan;
}

/**
 * Reads a configuration: `config.json` as parsed, or `ggufToHf(...).config`. `hasTensor` answers for the checkpoint's names.
 * @throws MODEL_ARCHITECTURE_UNKNOWN, MODEL_CONFIG_INVALID naming the field
 */
export function readModel(config: unknown, hasTensor: (name: string) => boolean = () => false): Model {
  const family = familyFor(config);
  const features = family.features(new ConfigReader(config), hasTensor);
  return { family, features, build: (options, stage) => family.build(features, options, stage) };
}

/**
 * A GGUF file in Hugging Face terms: its configuration, and the name and reading rules of each tensor.
 * @throws MODEL_ARCHITECTURE_UNKNOWN, MODEL_CONFIG_INVALID
 */
export function ggufToHf(contents: GgufContents): GgufTranslation {
  const architecture = contents.metadata.get('general.architecture');
  const all: readonly ModelFamily[] = Object.values(families);
  const hasExperts = Number(contents.metadata.get(`${String(architecture)}.expert_count`) ?? 0) > 0;
  const reads = (gguf: ModelFamily['gguf']) => gguf !== undefined && gguf.architecture === architecture && (gguf.experts ?? false) === hasExperts;
  const rules = all.map((family) => family.gguf).find(reads);
  if (rules !== undefined) return translateGguf(contents, rules);
  const encoder = encoderGgufToHf(contents);
  if (encoder !== null) return encoder;
  throw new MillraceError('MODEL_ARCHITECTURE_UNKNOWN', {
    message: 'No model family reads GGUF files of this architecture.',
    expected: `one of ${all
      .flatMap((f) => (f.gguf === undefined ? [] : [f.gguf.architecture]))
      .concat(ggufEncoderArchitectures)
      .join(', ')}`,
    received: typeof architecture === 'string' ? architecture.slice(0, 100) : 'no general.architecture',
  });
}
