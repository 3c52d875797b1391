/**
 * The encoder transformer: every token sees all of its text. Families differ in `EncoderFeatures`, never in code.
 *
 * K and V go through the cache as a decoder's do, so that the same kernels serve both; what a token sees is said by `visibleEnd` (S4), which is the
 * end of its text. A text is therefore computed whole in one step. No layer reads another's K and V, so all layers write to one.
 */
import { type BuildOptions, PlanBuilder } from '../../plan/builder.ts';
import type { Constant, Plan, Value, Weight } from '../../plan/plan.ts';
import { type RopeFeatures, ropeFrequencies } from './rope-frequencies.ts';

/** What a checkpoint calls its tensors, without `.weight` and `.bias`; those below `layers` follow `<layers><number>.` */
export interface EncoderNames {
  readonly embedding: string;
  readonly positionEmbedding: string;
  readonly typeEmbedding: string;
  readonly embeddingNorm: string;
  readonly finalNorm: string;
  readonly layers: string;
  /** Before attention, or after it where norms come last. */
  readonly attentionNorm: string;
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly qkv: string;
  readonly attentionOutput: string;
  readonly mlpNorm: string;
  /** Where it is a tensor of its own; otherwise the first half of `up`. */
  readonly gate?: string;
  readonly up: string;
  readonly down: string;
}

export interface EncoderLayer {
  /** 0: the whole text; otherwise tokens less than this away on either side. */
  readonly reach: number;
  readonly rope: RopeFeatures | null;
  /** A norm before attention; the first layer of ModernBERT has none. */
  readonly attentionNorm: boolean;
}

export interface EncoderFeatures {
  readonly family: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Most tokens of a text. */
  readonly maxPositions: number;
  readonly numHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly activation: 'gelu' | 'gelu-tanh' | 'silu' | 'relu';
  /** The projection of the gate, activated, multiplies that up. */
  readonly gated: boolean;
  readonly normEpsilon: number;
  readonly normBias: boolean;
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  /** `post`: norms of the sums, as BERT; `pre`: before attention and MLP, and one at the end. */
  readonly normPlacement: 'pre' | 'post';
  /** Learned positions: the table's rows, of which the first `skipped` are never used; null: none. */
  readonly positions: { readonly rows: number; readonly skipped: number } | null;
  /** Rows of the table of token types; 0: none. */
  readonly numTypes: number;
  readonly layers: readonly EncoderLayer[];
  readonly names: EncoderNames;
  /** q, k and v in one tensor. */
  readonly fusedQkv: boolean;
}

/**
 * Input: token ids; positions have two axes, the place in the text and the token type, where there are token types. Output: `hidden
 * [tokens, hiddenSize]`, the last hidden states.
 */
export function buildEncoder(features: EncoderFeatures, options: BuildOptions): Plan {
  const encoder = new Encoder(features, options);
  let hidden = encoder.embed();
  features.layers.forEach((layer, index) => {
    hidden = encoder.layer(index, hidden, layer);
  });
  if (features.normPlacement === 'pre') hidden = encoder.norm('final-norm', hidden, features.names.finalNorm);
  return encoder.builder.build(features.family, { hidden });
}

class Encoder {
  readonly builder: PlanBuilder;
  readonly #features: EncoderFeatures;
  readonly #ropeTables = new Map<RopeFeatures, { readonly constant: Constant; readonly magnitude: number }>();

  constructor(features: EncoderFeatures, options: BuildOptions) {
    this.builder = new PlanBuilder(options);
    this.#features = features;
    const { numHeads, headDim } = features;
    this.builder.cacheGroup({ name: 'text', kind: 'full', numLayers: 1, numKvHeads: numHeads, headDim });
    if (features.numTypes > 0) this.builder.positionAxes(2);
  }

  embed(): Value {
    const { vocabSize, hiddenSize, names, positions, numTypes } = this.#features;
    let hidden = this.builder.value('embedding', 'tokens', hiddenSize);
    const table = this.builder.matrix(`${names.embedding}.weight`, vocabSize, hiddenSize);
    this.builder.emit('embedding', 'embedding', { inputs: [this.builder.tokenIds()], outputs: [hidden], weights: [table], attrs: { scale: 1 } });
    if (numTypes > 0) {
      const types = this.builder.matrix(`${names.typeEmbedding}.weight`, numTypes, hiddenSize);
      hidden = this.builder.map('position-embedding', 'type-embedding', hidden, { weights: [types], attrs: { axis: 1 } });
    }
    if (positions !== null) {
      const { rows, skipped } = positions;
      const part = { tensor: `${names.positionEmbedding}.weight`, shape: [rows, hiddenSize], rows: [skipped, rows] as const };
      const used = this.builder.weightOf('position-embedding.weight', rows - skipped, hiddenSize, [part]);
      hidden = this.builder.map('position-embedding', 'position-embedding', hidden, { weights: [used], attrs: { axis: 0 } });
    }
    return this.norm('embedding-norm', hidden, names.embeddingNorm);
  }

  layer(index: number, hidden: Value, layer: EncoderLayer): Value {
    const { names, normPlacement } = this.#features;
    const name = `layers.${index}`;
    const tensor = `${names.layers}${index}.`;
    if (normPlacement === 'post') {
      const attended = this.builder.add(`${name}.attention.add`, hidden, this.#attention(name, tensor, hidden, layer));
      const normed = this.norm(`${name}.attention.norm`, attended, tensor + names.attentionNorm);
      const transformed = this.builder.add(`${name}.mlp.add`, normed, this.#mlp(name, tensor, normed));
      return this.norm(`${name}.mlp.norm`, transformed, tensor + names.mlpNorm);
    }
    const input = layer.attentionNorm ? this.norm(`${name}.attention.norm`, hidden, tensor + names.attentionNorm) : hidden;
    const attended = this.builder.add(`${name}.attention.add`, hidden, this.#attention(name, tensor, input, layer));
    const mlpInput = this.norm(`${name}.mlp.norm`, attended, tensor + names.mlpNorm);
    return this.builder.add(`${name}.mlp.add`, attended, this.#mlp(name, tensor, mlpInput));
  }

  norm(name: string, input: Value, tensor: string): Value {
    const { normEpsilon: epsilon, normBias } = this.#features;
    const bias = normBias ? this.builder.vector(`${tensor}.bias`, input.width) : null;
    return this.builder.map('layer-norm', name, input, { weights: [this.builder.vector(`${tensor}.weight`, input.width), bias], attrs: { epsilon } });
  }

  #attention(layer: string, tensor: string, input: Value, { reach, rope }: EncoderLayer): Value {
    const { numHeads, headDim, names, attentionBias, hiddenSize } = this.#features;
    const name = `${layer}.attention`;
    const place = { group: 0, layer: 0 };
    let [q, k, v] = this.#projections(name, tensor, input);
    if (rope !== null) {
      q = this.#rope(`${name}.q-rope`, q, rope);
      k = this.#rope(`${name}.k-rope`, k, rope);
    }
    this.builder.emit('kv-write', `${name}.kv-write`, { inputs: [k, v], attrs: place });
    const attrs = { ...place, numHeads, headDim, scale: 1 / Math.sqrt(headDim), softCap: 0, window: -reach };
    const attended = this.builder.map('attention', name, q, { attrs });
    return this.#linear(`${name}.output`, attended, tensor + names.attentionOutput, hiddenSize, attentionBias);
  }

  #projections(name: string, tensor: string, input: Value): Value[] {
    const { numHeads, headDim, names, attentionBias, fusedQkv } = this.#features;
    const width = numHeads * headDim;
    const letters = ['q', 'k', 'v'] as const;
    if (fusedQkv) {
      const all = this.#linear(`${name}.qkv`, input, tensor + names.qkv, 3 * width, attentionBias);
      return letters.map((letter, i) => this.builder.view(`${name}.${letter}`, all, i * width, width));
    }
    const layers = letters.map((letter) => {
      const stem = tensor + names[letter];
      return { name: `${name}.${letter}`, tensor: `${stem}.weight`, rows: width, ...(attentionBias ? { bias: `${stem}.bias` } : {}) };
    });
    return this.builder.linears(`${name}.qkv`, input, layers);
  }

  #mlp(layer: string, tensor: string, input: Value): Value {
    const { names, hiddenSize, intermediateSize, activation, gated, mlpBias } = this.#features;
    const name = `${layer}.mlp`;
    let activated: Value;
    if (gated && activation !== 'relu') {
      activated = this.builder.value(`${name}.activation`, 'tokens', intermediateSize);
      const inputs = this.#gateAndUp(name, tensor, input);
      this.builder.emit('gated-activation', `${name}.activation`, { inputs, outputs: [activated], attrs: { function: activation } });
    } else {
      const up = this.#linear(`${name}.up`, input, tensor + names.up, intermediateSize, mlpBias);
      activated = this.builder.map('activation', `${name}.activation`, up, { attrs: { function: activation } });
    }
    return this.#linear(`${name}.down`, activated, tensor + names.down, hiddenSize, mlpBias);
  }

  #gateAndUp(name: string, tensor: string, input: Value): Value[] {
    const { names, intermediateSize, mlpBias } = this.#features;
    if (names.gate === undefined) {
      const both = this.#linear(`${name}.up`, input, tensor + names.up, 2 * intermediateSize, mlpBias);
      return [
        this.builder.view(`${name}.gate`, both, 0, intermediateSize),
        this.builder.view(`${name}.value`, both, intermediateSize, intermediateSize),
      ];
    }
    const layers = [names.gate, names.up].map((role, i) => {
      const stem = tensor + role;
      const part = { name: `${name}.${i === 0 ? 'gate' : 'up'}`, tensor: `${stem}.weight`, rows: intermediateSize };
      return mlpBias ? { ...part, bias: `${stem}.bias` } : part;
    });
    return this.builder.linears(`${name}.gate-up`, input, layers);
  }

  #rope(name: string, input: Value, rope: RopeFeatures): Value {
    let table = this.#ropeTables.get(rope);
    if (table === undefined) {
      const { frequencies, magnitude } = ropeFrequencies(rope);
      table = { constant: this.builder.constant(`rope-${this.#ropeTables.size + 1}`, frequencies), magnitude };
      this.#ropeTables.set(rope, table);
    }
    const attrs = { headDim: this.#features.headDim, rotaryDim: rope.rotaryDim, style: 'half', magnitude: table.magnitude } as const;
    return this.builder.map('rope', name, input, { constants: [table.constant], attrs });
  }

  #linear(name: string, input: Value, tensor: string, rows: number, biased: boolean): Value {
    const weight: Weight = this.builder.matrix(`${tensor}.weight`, rows, input.width);
    return this.builder.linear(name, input, weight, biased ? this.builder.vector(`${tensor}.bias`, rows) : null);
  }
}
