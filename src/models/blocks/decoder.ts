/**
 * The decoder-only transformer, written once: embedding, layers of attention and gated MLP around a residual stream, output matrix.
 * Families differ in `DecoderFeatures`, never in code.
 */
import { MillraceError } from '../../base/errors.ts';
import { type BuildOptions, PlanBuilder } from '../../plan/builder.ts';
import type { CacheGroup, Constant, Plan, Value, Weight } from '../../plan/plan.ts';
import type { AttentionFeatures, DecoderFeatures, MlpFeatures, Stage } from './decoder-features.ts';
import { type RopeFeatures, ropeFrequencies } from './rope-frequencies.ts';

/**
 * Writes the plan of layers `[stage.from, stage.to)`, all by default.
 *
 * Input: token ids at layer 0, else `embeddings [tokens, hiddenSize]`, the `hidden` of the stage before. Outputs: `hidden [tokens, hiddenSize]`,
 * the residual stream after the last layer (before the final norm), and, where the stage ends the model, `logits [logits, vocabSize]`.
 */
export function buildDecoder(features: DecoderFeatures, options: BuildOptions, stage: Stage = { from: 0, to: features.layers.length }): Plan {
  const { from, to } = stage;
  if (!Number.isInteger(from) || !Number.isInteger(to) || from < 0 || to <= from || to > features.layers.length) {
    throw new MillraceError('CONFIG_INVALID', {
      message: 'A stage must be a run of layers of the model.',
      expected: `0 <= from < to <= ${features.layers.length}`,
      received: `[${from}, ${to})`,
    });
  }
  const decoder = new Decoder(features, options, stage);
  let hidden = from === 0 ? decoder.embed() : decoder.builder.embeddings(features.hiddenSize);
  for (let index = from; index < to; index++) hidden = decoder.layer(index, hidden);
  const outputs: Record<string, Value> = { hidden };
  const whole = from === 0 && to === features.layers.length;
  if (to === features.layers.length) outputs.logits = decoder.logits(hidden);
  return decoder.builder.build(whole ? features.family : `${features.family}[${from}, ${to})`, outputs);
}

class Decoder {
  readonly builder: PlanBuilder;
  readonly #features: DecoderFeatures;
  /** Cache group and index in it of each layer of the stage, by layer index. */
  readonly #cachePlaces: ReadonlyMap<number, { readonly group: number; readonly layer: number }>;

  /** Layers of one kind share their features object, and so their table. */
  readonly #ropeTables = new Map<RopeFeatures, { readonly constant: Constant; readonly magnitude: number }>();

  constructor(features: DecoderFeatures, options: BuildOptions, stage: Stage) {
    this.builder = new PlanBuilder(options);
    this.#features = features;
    const { groups, places } = assignCacheGroups(features, stage);
    for (const group of groups) this.builder.cacheGroup(group);
    this.#cachePlaces = places;
  }

  embed(): Value {
    const { hiddenSize, embeddingScale } = this.#features;
    const hidden = this.builder.value('embedding', 'tokens', hiddenSize);
    this.builder.emit('embedding', 'embedding', {
      inputs: [this.builder.tokenIds()],
      outputs: [hidden],
      weights: [this.#embeddingTable()],
      attrs: { scale: embeddingScale },
    });
    return hidden;
  }

  /** One layer: residual stream in, residual stream out. */
  layer(index: number, hidden: Value): Value {
    const { layers, tensorPrefix, normPlacement } = this.#features;
    const name = `layers.${index}`;
    const tensor = `${tensorPrefix}layers.${index}`;
    const { attention, mlp } = layers[index];
    const postNorms = normPlacement === 'pre-post';

    const attentionInput = this.#norm(`${name}.input-norm`, hidden, `${tensor}.input_layernorm.weight`);
    let attended = this.#attention(index, attentionInput, attention);
    if (postNorms) attended = this.#norm(`${name}.post-attention-norm`, attended, `${tensor}.post_attention_layernorm.weight`);
    const afterAttention = this.builder.add(`${name}.attention.add`, hidden, attended);

    const mlpNorm = postNorms ? 'pre_feedforward_layernorm' : 'post_attention_layernorm';
    const mlpInput = this.#norm(`${name}.mlp-norm`, afterAttention, `${tensor}.${mlpNorm}.weight`);
    let transformed = this.#mlp(`${name}.mlp`, `${tensor}.mlp`, mlpInput, mlp);
    if (postNorms) transformed = this.#norm(`${name}.post-mlp-norm`, transformed, `${tensor}.post_feedforward_layernorm.weight`);
    return this.builder.add(`${name}.mlp.add`, afterAttention, transformed);
  }

  /** Only the rows whose logits are wanted pass the final norm and the output matrix. */
  logits(hidden: Value): Value {
    const { vocabSize, hiddenSize, tensorPrefix, outputTensor, tiedEmbeddings, logitSoftCap } = this.#features;
    const rows = this.builder.value('last', 'logits', hiddenSize);
    this.builder.emit('select-rows', 'select-rows', { inputs: [hidden], outputs: [rows], attrs: {} });
    const normed = this.#norm('final-norm', rows, `${tensorPrefix}norm.weight`);
    const matrix = tiedEmbeddings ? this.#embeddingTable() : this.builder.matrix(outputTensor, vocabSize, hiddenSize);
    const logits = this.builder.linear('logits', normed, matrix);
    return logitSoftCap === 0 ? logits : this.builder.map('soft-cap', 'logits.soft-cap', logits, { attrs: { cap: logitSoftCap } });
  }

  #embeddingTable(): Weight {
    const { vocabSize, hiddenSize, tensorPrefix } = this.#features;
    return this.builder.matrix(`${tensorPrefix}embed_tokens.weight`, vocabSize, hiddenSize);
  }

  #norm(name: string, input: Value, tensor: string, groupWidth = input.width): Value {
    const { normEpsilon: epsilon, normWeightOffset: weightOffset } = this.#features;
    return this.builder.map('rms-norm', name, input, {
      weights: [this.builder.vector(tensor, groupWidth)],
      attrs: { epsilon, weightOffset, groupWidth },
    });
  }

  #attention(index: number, input: Value, features: AttentionFeatures): Value {
    const { builder } = this;
    const name = `layers.${index}.attention`;
    const tensor = `${this.#features.tensorPrefix}layers.${index}.self_attn`;
    const { numHeads, numKvHeads, headDim, scale, softCap, window, qkNorm, qkvBias, outputBias } = features;
    const place = this.#cachePlaces.get(index);
    if (place === undefined) throw new MillraceError('INTERNAL', `Layer ${index} has no cache group.`);
    const projection = (letter: 'q' | 'k' | 'v', heads: number) => ({
      name: `${name}.${letter}`,
      tensor: `${tensor}.${letter}_proj.weight`,
      rows: heads * headDim,
      ...(qkvBias ? { bias: `${tensor}.${letter}_proj.bias` } : {}),
    });
    const projected = builder.linears(`${name}.qkv`, input, [projection('q', numHeads), projection('k', numKvHeads), projection('v', numKvHeads)]);
    const [q, k] = qkNorm
      ? [
          this.#norm(`${name}.q-norm`, projected[0], `${tensor}.q_norm.weight`, headDim),
          this.#norm(`${name}.k-norm`, projected[1], `${tensor}.k_norm.weight`, headDim),
        ]
      : projected;
    const rotatedQ = this.#rope(`${name}.q-rope`, q, features);
    const rotatedK = this.#rope(`${name}.k-rope`, k, features);
    builder.emit('kv-write', `${name}.kv-write`, { inputs: [rotatedK, projected[2]], attrs: place });
    const attended = builder.map('attention', name, rotatedQ, { attrs: { ...place, numHeads, headDim, scale, softCap, window } });
    const output = builder.matrix(`${tensor}.o_proj.weight`, this.#features.hiddenSize, numHeads * headDim);
    const bias = outputBias ? builder.vector(`${tensor}.o_proj.bias`, this.#features.hiddenSize) : null;
    return builder.linear(`${name}.output`, attended, output, bias);
  }

  #rope(name: string, input: Value, { headDim, rope }: AttentionFeatures): Value {
    let table = this.#ropeTables.get(rope);
    if (table === undefined) {
      const { frequencies, magnitude } = ropeFrequencies(rope);
      const suffix = this.#ropeTables.size === 0 ? '' : `-${this.#ropeTables.size + 1}`;
      table = { constant: this.builder.constant(`rope${suffix}`, frequencies), magnitude };
      this.#ropeTables.set(rope, table);
    }
    const { constant, magnitude } = table;
    return this.builder.map('rope', name, input, {
      constants: [constant],
      attrs: { headDim, rotaryDim: rope.rotaryDim, style: 'half', magnitude },
    });
  }

  #mlp(name: string, tensor: string, input: Value, { intermediateSize, activation, bias }: MlpFeatures): Value {
    const { builder } = this;
    const projection = (word: 'gate' | 'up') => ({
      name: `${name}.${word}`,
      tensor: `${tensor}.${word}_proj.weight`,
      rows: intermediateSize,
      ...(bias ? { bias: `${tensor}.${word}_proj.bias` } : {}),
    });
    const [gate, up] = builder.linears(`${name}.gate-up`, input, [projection('gate'), projection('up')]);
    const activated = builder.value(`${name}.activated`, 'tokens', intermediateSize);
    builder.emit('gated-activation', `${name}.activation`, { inputs: [gate, up], outputs: [activated], attrs: { function: activation } });
    const down = builder.matrix(`${tensor}.down_proj.weight`, this.#features.hiddenSize, intermediateSize);
    return builder.linear(`${name}.down`, activated, down, bias ? builder.vector(`${tensor}.down_proj.bias`, this.#features.hiddenSize) : null);
  }
}

/** Layers that keep K and V alike share a cache group (S3): same window, same heads. Groups stand in the order of their first layer. */
function assignCacheGroups(
  { layers }: DecoderFeatures,
  { from, to }: Stage,
): {
  groups: readonly CacheGroup[];
  places: ReadonlyMap<number, { group: number; layer: number }>;
} {
  const groups: (CacheGroup & { numLayers: number })[] = [];
  const places = new Map<number, { group: number; layer: number }>();
  for (let index = from; index < to; index++) {
    const { window, numKvHeads, headDim } = layers[index].attention;
    const alike = (g: CacheGroup) => (g.window ?? 0) === window && g.numKvHeads === numKvHeads && g.headDim === headDim;
    let group = groups.findIndex(alike);
    if (group < 0) {
      const kind = window === 0 ? ('full' as const) : ('window' as const);
      const taken = groups.filter((g) => g.kind === kind).length;
      const name = taken === 0 ? kind : `${kind}-${taken + 1}`;
      group = groups.push({ name, kind, ...(window === 0 ? {} : { window }), numLayers: 0, numKvHeads, headDim }) - 1;
    }
    places.set(index, { group, layer: groups[group].numLayers });
    groups[group] = { ...groups[group], numLayers: groups[group].numLayers + 1 };
  }
  return { groups, places };
}
