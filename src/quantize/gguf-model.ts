/**
 * A model in the terms of GGUF: metadata from what the model is, tensors by the names of its family. Names are found with the table that reads such files, turned
 * round, and what was made is read again with that table: a model that the file cannot describe is refused.
 * Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the converters of llama.cpp.
 */
import { MillraceError } from '../base/errors.ts';
import type { DecoderFeatures, LayerFeatures } from '../models/blocks/decoder-features.ts';
import { type RopeFeatures, ropeFrequencies } from '../models/blocks/rope-frequencies.ts';
import { type GgufContents, type GgufTranslation, possibleFileNames } from '../models/gguf-names.ts';
import { ggufToHf, type Model, readModel } from '../models/index.ts';
import type { Plan } from '../plan/plan.ts';
import type { GgufEntry } from './gguf-writer.ts';
import { differenceOf } from './remap.ts';

/** What a file is to hold, without the numbers of its weights. */
export interface GgufModel {
  readonly metadata: Map<string, GgufEntry>;
  /** As a reader of the file will see it. */
  readonly model: Model;
  readonly plan: Plan;
  /** Name in the file by Hugging Face name, and how the rows lie. */
  readonly tensors: ReadonlyMap<string, { name: string; translation: NonNullable<ReturnType<GgufTranslation['translate']>> }>;
  /** Tensors beside those of the plan: divisors of rotary frequencies. */
  readonly extra: ReadonlyMap<string, Float32Array>;
}

/** Structure alone: every weight in one format, so that what could lie together does. */
export function structureOf(model: Model): Plan {
  return model.build({ formatOf: () => 'f32', activationFor: () => 'f32' });
}

/** Files that llama.cpp reads under another family's name. */
const architectureOf: Readonly<Record<string, string>> = { mistral: 'llama' };
/** Those whose q, k and v are apart in the file and together in the checkpoint. */
const apart: readonly string[] = ['internlm2', 'baichuan'];
/** Read from files, but not written: latent attention is split up there in a way that is not undone here. */
const unwritten: readonly string[] = ['deepseek2'];

/**
 * @param hasTensor of the checkpoint
 * @throws MODEL_ARCHITECTURE_UNKNOWN when the family has no GGUF files or they are not written; MODEL_CONFIG_INVALID when they cannot say what the model does
 */
export function describeAsGguf({ family, features }: Model, plan: Plan, hasTensor: (name: string) => boolean): GgufModel {
  const architecture = family.gguf?.architecture ?? architectureOf[family.name];
  if (architecture === undefined || unwritten.includes(architecture)) {
    throw new MillraceError('MODEL_ARCHITECTURE_UNKNOWN', {
      message: `Models of the family ${family.name} are not written as GGUF files.`,
      expected: 'a family whose GGUF files are written (docs/quantization.md)',
      received: family.name,
      hint: 'write safetensors: --to safetensors',
    });
  }
  const { numLayers, extra } = { numLayers: features.layers.length, extra: rotaryTensors(features) };
  const metadata = metadataOf(architecture, features);
  const contents = (names: ReadonlySet<string>): GgufContents => ({
    metadata: new Map([...metadata].map(([key, [, value]]) => [key, value])),
    tensorShape: (name) => (name === 'token_embd.weight' ? [features.vocabSize, features.hiddenSize] : names.has(name) ? [1] : undefined),
    readVector: (name) => extra.get(name),
  });
  const { translate } = ggufToHf(contents(new Set(extra.keys())));
  const candidates = possibleFileNames(family.gguf ?? {}, numLayers);
  const names = namesFor(candidates, translate, { family: architecture, features, plan, hasTensor });
  const described = ggufToHf(contents(new Set([...names, ...extra.keys()])));
  const tensors = new Map<string, { name: string; translation: NonNullable<ReturnType<typeof translate>> }>();
  for (const name of names) {
    const translation = described.translate(name);
    if (translation !== null) tensors.set(translation.name, { name, translation });
  }
  const model = readModel(described.config, (name) => tensors.has(name));
  const written = structureOf(model);
  const missing = written.weights.flatMap(({ parts }) => parts).find(({ tensor }) => !tensors.has(tensor))?.tensor;
  const difference = missing ?? differenceOf(plan, written);
  if (difference !== null) {
    throw new MillraceError('MODEL_CONFIG_INVALID', {
      message: `A GGUF file cannot say what this model does: read again, it would differ in ${difference}.`,
      expected: `what files of the architecture ${architecture} can describe`,
      hint: 'write safetensors: --to safetensors',
    });
  }
  return { metadata, model, plan: written, tensors, extra };
}

interface Named {
  readonly family: string;
  readonly features: DecoderFeatures;
  readonly plan: Plan;
  hasTensor(name: string): boolean;
}

/** The names of a file that holds what the plan reads. */
function namesFor(candidates: readonly string[], translate: GgufTranslation['translate'], { family, features, plan }: Named): Set<string> {
  const inFile = new Map<string, string>();
  for (const candidate of candidates) {
    const translation = translate(candidate);
    if (translation !== null && !inFile.has(translation.name)) inFile.set(translation.name, candidate);
  }
  // checkpoints saved from inside a model lack its prefix
  const nameOf = (name: string) => inFile.get(name) ?? inFile.get(`transformer.${name}`) ?? inFile.get(`model.${name}`);
  const names = new Set<string>();
  for (const { tensor } of plan.weights.flatMap(({ parts }) => parts)) {
    const name = nameOf(tensor);
    if (name !== undefined && !(apart.includes(family) && name.includes('.attn_qkv.'))) names.add(name);
  }
  features.layers.forEach((layer, i) => {
    for (const word of wordsBeyond(family, features, layer)) names.add(`blk.${i}.${word}`);
  });
  return names;
}

/** Tensors that files have where checkpoints have others. */
function wordsBeyond(family: string, features: DecoderFeatures, { attention, experts }: LayerFeatures): string[] {
  const words: string[] = [];
  const kinds = (has: boolean) => (has ? ['weight', 'bias'] : ['weight']);
  if (apart.includes(family)) words.push(...['q', 'k', 'v'].flatMap((letter) => kinds(attention.qkvBias).map((kind) => `attn_${letter}.${kind}`)));
  if (experts !== undefined) words.push(...['gate', 'up', 'down'].flatMap((role) => kinds(experts.bias).map((kind) => `ffn_${role}_exps.${kind}`)));
  if (family === 'falcon' && features.parallel === 'two-norms')
    words.push(...kinds(true).flatMap((kind) => [`attn_norm.${kind}`, `attn_norm_2.${kind}`]));
  return words;
}

/** The rotary rules of the layers that see everything. */
function ropeOf({ layers }: DecoderFeatures): RopeFeatures | null {
  return (layers.find(({ attention }) => attention.window === 0 && attention.rope !== null) ?? layers[0]).attention.rope;
}

function rotaryTensors(features: DecoderFeatures): Map<string, Float32Array> {
  const rope = ropeOf(features);
  const scaling = rope?.scaling;
  if (rope === null || scaling === undefined) return new Map();
  if (scaling.kind === 'longrope') {
    return new Map([
      ['rope_factors_short.weight', Float32Array.from(scaling.shortDivisors)],
      ['rope_factors_long.weight', Float32Array.from(scaling.longDivisors)],
    ]);
  }
  if (scaling.kind === 'divisors') return new Map([['rope_freqs.weight', Float32Array.from(scaling.divisors)]]);
  if (scaling.kind !== 'llama3') return new Map();
  const plain = ropeFrequencies({ ...rope, scaling: { kind: 'none' } }).frequencies;
  const { frequencies } = ropeFrequencies(rope);
  return new Map([['rope_freqs.weight', frequencies.map((f, i) => plain[i] / f)]]);
}

function metadataOf(architecture: string, features: DecoderFeatures): Map<string, GgufEntry> {
  const [{ attention, mlp }] = features.layers;
  const entries: [string, GgufEntry][] = [
    ['block_count', ['u32', features.layers.length]],
    ['context_length', ['u32', features.maxPositions]],
    ['embedding_length', ['u32', features.hiddenSize]],
    ['feed_forward_length', ['u32', mlp.intermediateSize]],
    ['vocab_size', ['u32', features.vocabSize]],
    ['attention.head_count', ['u32', attention.numHeads]],
    ['attention.head_count_kv', ['u32', attention.numKvHeads]],
    ['attention.key_length', ['u32', attention.headDim]],
    ['attention.value_length', ['u32', attention.headDim]],
    [`attention.layer_norm_${features.norm === 'rms' ? 'rms_' : ''}epsilon`, ['f32', features.normEpsilon]],
    ...windowEntries(features),
    ...ropeEntries(features),
    ...scaleEntries(architecture, features),
    ...expertEntries(features.layers),
  ];
  return new Map<string, GgufEntry>([
    ['general.architecture', ['string', architecture]],
    ['general.quantization_version', ['u32', 2]],
    ...entries.map(([key, entry]): [string, GgufEntry] => [`${architecture}.${key}`, entry]),
  ]);
}

function windowEntries({ layers }: DecoderFeatures): [string, GgufEntry][] {
  const window = Math.max(...layers.map(({ attention }) => attention.window));
  const sliding = layers.find(({ attention }) => attention.window > 0)?.attention;
  const full = layers.findIndex(({ attention }) => attention.window === 0);
  if (window <= 0 || sliding === undefined) return [];
  const ownBase = full >= 0 && sliding.rope !== null && sliding.rope.theta !== layers[full].attention.rope?.theta;
  return [
    ['attention.sliding_window', ['u32', window]],
    ...(ownBase && sliding.rope !== null ? [['rope.freq_base_swa', ['f32', sliding.rope.theta]] as [string, GgufEntry]] : []),
    ...(ownBase ? [['attention.sliding_window_pattern', ['u32', full + 1]] as [string, GgufEntry]] : []),
  ];
}

function ropeEntries(features: DecoderFeatures): [string, GgufEntry][] {
  const rope = ropeOf(features);
  if (rope === null) return [];
  const { scaling } = rope;
  const entries: [string, GgufEntry][] = [
    ['rope.freq_base', ['f32', rope.theta]],
    ['rope.dimension_count', ['u32', rope.rotaryDim]],
  ];
  if (scaling.kind === 'yarn' || scaling.kind === 'linear') {
    entries.push(['rope.scaling.type', ['string', scaling.kind]], ['rope.scaling.factor', ['f32', scaling.factor]]);
  }
  if (scaling.kind === 'yarn' || scaling.kind === 'longrope') {
    entries.push(['rope.scaling.original_context_length', ['u32', scaling.originalPositions]]);
  }
  if (scaling.kind === 'longrope') entries.push(['rope.scaling.attn_factor', ['f32', scaling.attentionFactor]]);
  return entries;
}

function scaleEntries(architecture: string, features: DecoderFeatures): [string, GgufEntry][] {
  const [{ attention }] = features.layers;
  const entries: [string, GgufEntry][] = [];
  if (features.logitSoftCap > 0) entries.push(['final_logit_softcapping', ['f32', features.logitSoftCap]]);
  if (attention.softCap > 0) entries.push(['attn_logit_softcapping', ['f32', attention.softCap]]);
  if (architecture.startsWith('granite')) {
    entries.push(
      ['embedding_scale', ['f32', features.embeddingScale]],
      ['residual_scale', ['f32', features.residualScale]],
      ['attention.scale', ['f32', attention.scale]],
      ['logit_scale', ['f32', 1 / features.logitScale]],
    );
  }
  if (architecture === 'gptneox') entries.push(['use_parallel_residual', ['bool', features.parallel !== 'no']]);
  if (attention.slopes !== null) entries.push(['attention.max_alibi_bias', ['f32', 8]]);
  return entries;
}

function expertEntries(layers: readonly LayerFeatures[]): [string, GgufEntry][] {
  const first = layers.findIndex((layer) => layer.experts !== undefined);
  const experts = layers[first]?.experts;
  if (experts === undefined) return [];
  const { router, shared, intermediateSize } = experts;
  const entries: [string, GgufEntry][] = [
    ['expert_count', ['u32', experts.numExperts]],
    ['expert_used_count', ['u32', experts.expertsPerToken]],
    ['expert_feed_forward_length', ['u32', intermediateSize]],
  ];
  if (shared !== null) {
    entries.push(
      ['expert_shared_feed_forward_length', ['u32', shared.intermediateSize]],
      ['expert_shared_count', ['u32', Math.floor(shared.intermediateSize / intermediateSize)]],
    );
  }
  if (router.score === 'sigmoid') {
    entries.push(
      ['expert_weights_scale', ['f32', router.scale]],
      ['expert_weights_norm', ['bool', router.normalise === 'sum']],
      ['expert_gating_func', ['u32', 2]],
      ['expert_group_count', ['u32', router.groups]],
      ['expert_group_used_count', ['u32', router.keptGroups]],
      ['leading_dense_block_count', ['u32', first]],
    );
  }
  return entries;
}
