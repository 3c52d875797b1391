/**
 * The decoder-only transformer, written once: embedding, layers of attention and MLP around a residual stream, output matrix.
 * Families differ in `DecoderFeatures`, never in code.
 */
import { MillraceError } from '../../base/errors.ts';
import { type BuildOptions, PlanBuilder } from '../../plan/builder.ts';
import type { CacheGroup, Constant, Plan, Value, Weight } from '../../plan/plan.ts';
import type { AttentionFeatures, DecoderFeatures, LayerFeatures, MlpFeatures, Stage } from './decoder-features.ts';
import { routedExperts, sharedGate } from './experts.ts';
import { latentAttention } from './latent-attention.ts';
import { type RopeFeatures, ropeFrequencies } from './rope-frequencies.ts';
import type { TensorNames } from './tensor-names.ts';

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
  readonly #contextLength: number;
  /** Cache group and index in it of each layer of the stage, by layer index. */
  readonly #cachePlaces: ReadonlyMap<number, { readonly group: number; readonly layer: number }>;

  /** Layers of one kind share their features object, and so their table. */
  readonly #ropeTables = new Map<RopeFeatures, { readonly constant: Constant; readonly magnitude: number }>();

  constructor(features: DecoderFeatures, options: BuildOptions, stage: Stage) {
    this.builder = new PlanBuilder(options);
    this.#features = features;
    this.#contextLength = Math.min(features.maxPositions, options.contextLength ?? features.maxPositions);
    const { groups, places } = assignCacheGroups(features, stage);
    for (const group of groups) this.builder.cacheGroup(group);
    this.#cachePlaces = places;
  }

  embed(): Value {
    const { hiddenSize, embeddingScale, learnedPositions, embeddingNorm, names } = this.#features;
    let hidden = this.builder.value('embedding', 'tokens', hiddenSize);
    this.builder.emit('embedding', 'embedding', {
      inputs: [this.builder.tokenIds()],
      outputs: [hidden],
      weights: [this.#embeddingTable()],
      attrs: { scale: embeddingScale },
    });
    if (learnedPositions > 0) {
      const table = this.builder.matrix(`${names.positionEmbedding}.weight`, learnedPositions, hiddenSize);
      hidden = this.builder.map('position-embedding', 'position-embedding', hidden, { weights: [table], attrs: { axis: 0 } });
    }
    return embeddingNorm ? this.#norm('embedding-norm', hidden, names.embeddingNorm) : hidden;
  }

  /** One layer: residual stream in, residual stream out. */
  layer(index: number, hidden: Value): Value {
    if (this.#features.parallel !== 'no') return this.#parallelLayer(index, hidden);
    const { layers, names, normPlacement } = this.#features;
    const name = `layers.${index}`;
    const tensor = `${names.layers}${index}.`;
    const [before, after] = [normPlacement !== 'post', normPlacement !== 'pre'];
    const attentionInput = before ? this.#norm(`${name}.input-norm`, hidden, tensor + names.inputNorm) : hidden;
    let attended = this.#attention(index, attentionInput, layers[index].attention);
    if (after) attended = this.#norm(`${name}.post-attention-norm`, attended, tensor + names.postAttentionNorm);
    const afterAttention = this.#addResidual(`${name}.attention`, hidden, attended);
    const mlpInput = before ? this.#norm(`${name}.mlp-norm`, afterAttention, tensor + names.mlpNorm) : afterAttention;
    let transformed = this.#transform(`${name}.mlp`, tensor, mlpInput, layers[index]);
    if (after) transformed = this.#norm(`${name}.post-mlp-norm`, transformed, tensor + names.postMlpNorm);
    return this.#addResidual(`${name}.mlp`, afterAttention, transformed);
  }

  #parallelLayer(index: number, hidden: Value): Value {
    const { layers, names, parallel } = this.#features;
    const name = `layers.${index}`;
    const tensor = `${names.layers}${index}.`;
    const attentionInput = this.#norm(`${name}.input-norm`, hidden, tensor + names.inputNorm);
    const mlpInput = parallel === 'one-norm' ? attentionInput : this.#norm(`${name}.mlp-norm`, hidden, tensor + names.mlpNorm);
    const attended = this.#attention(index, attentionInput, layers[index].attention);
    const transformed = this.#transform(`${name}.mlp`, tensor, mlpInput, layers[index]);
    const both = this.builder.add(`${name}.both`, transformed, attended);
    return this.#addResidual(name, hidden, both);
  }

  #addResidual(name: string, hidden: Value, added: Value): Value {
    const { residualScale } = this.#features;
    const scaled = residualScale === 1 ? added : this.builder.map('scale', `${name}.scale`, added, { attrs: { factor: residualScale } });
    return this.builder.add(`${name}.add`, hidden, scaled);
  }

  /** Only the rows whose logits are wanted pass the final norm and the output matrix. */
  logits(hidden: Value): Value {
    const { vocabSize, hiddenSize, names, tiedEmbeddings, logitScale, logitSoftCap } = this.#features;
    const rows = this.builder.value('last', 'logits', hiddenSize);
    this.builder.emit('select-rows', 'select-rows', { inputs: [hidden], outputs: [rows], attrs: {} });
    const normed = this.#norm('final-norm', rows, names.finalNorm);
    const matrix = tiedEmbeddings ? this.#embeddingTable() : this.builder.matrix(`${names.output}.weight`, vocabSize, hiddenSize);
    let logits = this.builder.linear('logits', normed, matrix);
    if (logitScale !== 1) logits = this.builder.map('scale', 'logits.scale', logits, { attrs: { factor: logitScale } });
    return logitSoftCap === 0 ? logits : this.builder.map('soft-cap', 'logits.soft-cap', logits, { attrs: { cap: logitSoftCap } });
  }

  #embeddingTable(): Weight {
    const { vocabSize, hiddenSize, names } = this.#features;
    return this.builder.matrix(`${names.embedding}.weight`, vocabSize, hiddenSize);
  }

  #norm(name: string, input: Value, tensor: string): Value {
    const { norm, normBias, normEpsilon: epsilon } = this.#features;
    if (norm === 'rms') return this.#rmsNorm(name, input, tensor, input.width);
    const weights = [this.builder.vector(`${tensor}.weight`, input.width), normBias ? this.builder.vector(`${tensor}.bias`, input.width) : null];
    return this.builder.map('layer-norm', name, input, { weights, attrs: { epsilon } });
  }

  #rmsNorm(name: string, input: Value, tensor: string, groupWidth: number): Value {
    const { normEpsilon: epsilon, normWeightOffset: weightOffset } = this.#features;
    return this.builder.map('rms-norm', name, input, {
      weights: [this.builder.vector(`${tensor}.weight`, groupWidth)],
      attrs: { epsilon, weightOffset, groupWidth },
    });
  }

  #attention(index: number, input: Value, features: AttentionFeatures): Value {
    const { builder } = this;
    const { names, hiddenSize } = this.#features;
    const name = `layers.${index}.attention`;
    const tensor = `${names.layers}${index}.`;
    const { numHeads, headDim, scale, softCap, window, qkNorm, outputBias } = features;
    const place = this.#cachePlaces.get(index);
    if (place === undefined) throw new MillraceError('INTERNAL', `Layer ${index} has no cache group.`);
    const { latent } = features;
    if (latent !== undefined) {
      const rope = (at: string, value: Value) => this.#rope(at, value, { ...features, headDim: latent.rotaryDim });
      const attended = latentAttention({ builder, names, name, tensor, numHeads, scale, features: latent, place, rope }, input);
      return this.#linear(`${name}.output`, attended, tensor + names.attentionOutput, hiddenSize, outputBias);
    }
    let [q, k, v] = this.#projections(name, tensor, input, features);
    if (qkNorm !== 'none') {
      const groupOf = (value: Value) => (qkNorm === 'heads' ? headDim : value.width);
      q = this.#rmsNorm(`${name}.q-norm`, q, tensor + names.qNorm, groupOf(q));
      k = this.#rmsNorm(`${name}.k-norm`, k, tensor + names.kNorm, groupOf(k));
    }
    q = this.#rope(`${name}.q-rope`, q, features);
    k = this.#rope(`${name}.k-rope`, k, features);
    builder.emit('kv-write', `${name}.kv-write`, { inputs: [k, v], attrs: place });
    const constants = features.slopes === null ? [] : [builder.constant('slopes', features.slopes)];
    const weights = features.sinks === true ? [builder.vector(tensor + names.sinks, numHeads)] : [];
    const attended = builder.map('attention', name, q, { weights, constants, attrs: { ...place, numHeads, headDim, scale, softCap, window } });
    return this.#linear(`${name}.output`, attended, tensor + names.attentionOutput, hiddenSize, outputBias);
  }

  /** q, k and v. */
  #projections(name: string, tensor: string, input: Value, features: AttentionFeatures): Value[] {
    const { names } = this.#features;
    const { numHeads, numKvHeads, headDim, qkvLayout, qkvBias } = features;
    const widths = [numHeads * headDim, numKvHeads * headDim, numKvHeads * headDim];
    const letters = ['q', 'k', 'v'] as const;
    if (qkvLayout === 'separate') {
      const layers = letters.map((letter, i) => ({ name: `${name}.${letter}`, tensor: tensor + names[letter], rows: widths[i] }));
      return this.#linears(`${name}.qkv`, input, layers, qkvBias);
    }
    const rows = widths[0] + widths[1] + widths[2];
    const output =
      qkvLayout === 'fused'
        ? this.#linear(`${name}.qkv`, input, tensor + names.qkv, rows, qkvBias)
        : this.#groupedLinear(`${name}.qkv`, input, tensor + names.qkv, rows, features);
    return letters.map((letter, i) => this.builder.view(`${name}.${letter}`, output, i === 0 ? 0 : widths[0] + (i - 1) * widths[1], widths[i]));
  }

  /** A linear over rows `[q; k; v]` of a tensor that holds, for each KV head, the rows of its query heads, then of its k, then of its v. */
  #groupedLinear(name: string, input: Value, tensor: string, rows: number, { numHeads, numKvHeads, headDim, qkvBias }: AttentionFeatures): Value {
    const perGroup = numHeads / numKvHeads;
    const groupRows = (perGroup + 2) * headDim;
    const taken: (readonly [number, number])[] = [];
    for (const [from, to] of [
      [0, perGroup],
      [perGroup, perGroup + 1],
      [perGroup + 1, perGroup + 2],
    ]) {
      // biome-ignore format: a table
      for (let group = 0; group < numKvHeads; group++) taken.push([group * groupRows + from * headDim, group * groupRows + to * headDim]);
    }
    const weightOf = (kind: 'weight' | 'bias', columns: number | null) => {
      const shape = columns === null ? [rows] : [rows, columns];
      const parts = taken.map((range) => ({ tensor: `${tensor}.${kind}`, shape, rows: range }));
      return this.builder.weightOf(`${name}.${kind}`, rows, columns, parts);
    };
    return this.builder.linear(name, input, weightOf('weight', input.width), qkvBias ? weightOf('bias', null) : null);
  }

  /** A linear of one checkpoint tensor and its bias. */
  #linear(name: string, input: Value, tensor: string, rows: number, biased: boolean): Value {
    return this.builder.linear(
      name,
      input,
      this.#layerMatrix(tensor, rows, input.width),
      biased ? this.builder.vector(`${tensor}.bias`, rows) : null,
    );
  }

  #layerMatrix(tensor: string, rows: number, columns: number): Weight {
    if (!this.#features.transposed) return this.builder.matrix(`${tensor}.weight`, rows, columns);
    const name = `${tensor}.weight`;
    return this.builder.weightOf(name, rows, columns, [{ tensor: name, shape: [columns, rows], transposed: true }]);
  }

  #linears(name: string, input: Value, layers: readonly { name: string; tensor: string; rows: number }[], biased: boolean): Value[] {
    const withTensors = layers.map(({ tensor, ...layer }) => ({
      ...layer,
      tensor: `${tensor}.weight`,
      ...(biased ? { bias: `${tensor}.bias` } : {}),
    }));
    return this.builder.linears(name, input, withTensors);
  }

  #rope(name: string, input: Value, { headDim, rope, ropeStyle }: AttentionFeatures): Value {
    if (rope === null) return input;
    let table = this.#ropeTables.get(rope);
    if (table === undefined) {
      const { frequencies, magnitude } = ropeFrequencies(rope, this.#contextLength);
      const suffix = this.#ropeTables.size === 0 ? '' : `-${this.#ropeTables.size + 1}`;
      table = { constant: this.builder.constant(`rope${suffix}`, frequencies), magnitude };
      this.#ropeTables.set(rope, table);
    }
    const { constant, magnitude } = table;
    return this.builder.map('rope', name, input, {
      constants: [constant],
      attrs: { headDim, rotaryDim: rope.rotaryDim, style: ropeStyle, magnitude },
    });
  }

  /** The MLP of a layer, or its experts and the MLP that they share. */
  #transform(name: string, tensor: string, input: Value, { mlp, experts }: LayerFeatures): Value {
    if (experts === undefined) return this.#mlp(name, tensor, input, mlp);
    const { names, hiddenSize } = this.#features;
    const place = { name, tensor, names, hiddenSize };
    const routed = routedExperts(this.builder, place, input, experts);
    if (experts.shared === null) return routed;
    const { intermediateSize, gated } = experts.shared;
    const { expertGate, expertUp, expertDown, sharedExpert } = names;
    const own = { ...names, gate: `${sharedExpert}.${expertGate}`, up: `${sharedExpert}.${expertUp}`, down: `${sharedExpert}.${expertDown}` };
    const features = { intermediateSize, activation: experts.activation, gate: 'separate', bias: false } as const;
    const shared = this.#mlp(`${name}.shared`, tensor, input, features, own);
    return this.builder.add(`${name}.experts-and-shared`, routed, gated ? sharedGate(this.builder, place, input, shared) : shared);
  }

  #mlp(name: string, tensor: string, input: Value, features: MlpFeatures, names = this.#features.names): Value {
    const { hiddenSize } = this.#features;
    const { intermediateSize, activation, gate, bias } = features;
    const down = (activated: Value) => this.#linear(`${name}.down`, activated, tensor + names.down, hiddenSize, bias);
    if (gate === 'none') {
      const up = this.#linear(`${name}.up`, input, tensor + names.up, intermediateSize, bias);
      return down(this.builder.map('activation', `${name}.activation`, up, { attrs: { function: activation } }));
    }
    if (activation === 'relu') throw new MillraceError('INTERNAL', 'No family gates with relu.');
    const [gated, up] =
      gate === 'separate' ? this.#gateAndUp(name, tensor, input, features, names) : this.#fusedGate(name, tensor, input, intermediateSize, bias);
    const activated = this.builder.value(`${name}.activated`, 'tokens', intermediateSize);
    this.builder.emit('gated-activation', `${name}.activation`, { inputs: [gated, up], outputs: [activated], attrs: { function: activation } });
    return down(activated);
  }

  #gateAndUp(name: string, tensor: string, input: Value, { intermediateSize: rows, bias }: MlpFeatures, names: TensorNames): Value[] {
    const layers = (['gate', 'up'] as const).map((word) => ({ name: `${name}.${word}`, tensor: tensor + names[word], rows }));
    return this.#linears(`${name}.gate-up`, input, layers, bias);
  }

  #fusedGate(name: string, tensor: string, input: Value, rows: number, bias: boolean): Value[] {
    const both = this.#linear(`${name}.gate-up`, input, tensor + this.#features.names.gateUp, 2 * rows, bias);
    return [this.builder.view(`${name}.gate`, both, 0, rows), this.builder.view(`${name}.up`, both, rows, rows)];
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
    const { window, numKvHeads, headDim, latent } = layers[index].attention;
    const kind = latent !== undefined ? ('latent' as const) : window === 0 ? ('full' as const) : ('window' as const);
    const alike = (g: CacheGroup) => g.kind === kind && (g.window ?? 0) === window && g.numKvHeads === numKvHeads && g.headDim === headDim;
    let group = groups.findIndex(alike);
    if (group < 0) {
      const taken = groups.filter((g) => g.kind === kind).length;
      const name = taken === 0 ? kind : `${kind}-${taken + 1}`;
      group = groups.push({ name, kind, ...(window === 0 ? {} : { window }), numLayers: 0, numKvHeads, headDim }) - 1;
    }
    places.set(index, { group, layer: groups[group].numLayers });
    groups[group] = { ...groups[group], numLayers: groups[group].numLayers + 1 };
  }
  return { groups, places };
}
