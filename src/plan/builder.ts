/** Writes a plan node by node. Models call it; nothing else does, save tests. */
import { MillraceError } from '../base/errors.ts';
import type { OpAttrs, OpName } from './ops/index.ts';
import type { Activation, AnyNode, CacheGroup, Constant, Plan, RowAxis, Value, Weight, WeightFormat, WeightPart } from './plan.ts';
import { verifyPlan } from './verify.ts';

/** What the builder must know of a checkpoint: nothing but how a matrix is stored and what its linears round to. */
export interface BuildOptions {
  /** Storage format of a matrix. Vectors are always f32. */
  formatOf(tensor: string): WeightFormat;
  /** Activation of a linear whose weight has this format and, first, this tensor. */
  activationFor(format: WeightFormat, inputWidth: number, tensor?: string): Activation;
  /** The column of the model at each place of a matrix as stored, where they are in another order. */
  columnOrderOf?(tensor: string): Uint32Array | undefined;
  /** Longest context that will be run; that of the model by default. Rotary scaling of two lists is chosen by it. */
  readonly contextLength?: number;
}

/** Attributes and operands of one node. */
interface Emitted<Name extends OpName> {
  inputs?: readonly Value[];
  outputs?: readonly Value[];
  weights?: readonly (Weight | null)[];
  constants?: readonly Constant[];
  attrs: OpAttrs[Name];
}

export class PlanBuilder {
  readonly #options: BuildOptions;
  readonly #values: Value[] = [];
  readonly #weights: Weight[] = [];
  readonly #constants: Constant[] = [];
  readonly #nodes: AnyNode[] = [];
  readonly #cacheGroups: CacheGroup[] = [];
  /** Inputs that have been put into the column order of a weight. */
  readonly #gathered: { readonly input: Value; readonly order: Uint32Array; readonly output: Value }[] = [];
  #input: Plan['input'] | undefined;
  #numPositionAxes = 1;

  constructor(options: BuildOptions) {
    this.#options = options;
  }

  value(name: string, axis: RowAxis, width: number, dtype: Value['dtype'] = 'f32'): Value {
    const value: Value = { id: this.#values.length, name, axis, width, dtype };
    this.#values.push(value);
    return value;
  }

  /** Columns `[offset, offset + width)` of a value, without a copy. */
  view(name: string, of: Value, offset: number, width: number): Value {
    const base = of.view === undefined ? { of: of.id, offset } : { of: of.view.of, offset: of.view.offset + offset };
    const value: Value = { id: this.#values.length, name, axis: of.axis, width, dtype: of.dtype, view: base };
    this.#values.push(value);
    return value;
  }

  /** Token ids of the step, `[tokens, 1]`. */
  tokenIds(): Value {
    const value = this.value('tokenIds', 'tokens', 1, 'i32');
    this.#input = { kind: 'tokenIds', value: value.id };
    return value;
  }

  /** Embeddings made by another program (S1), `[tokens, width]`. */
  embeddings(width: number): Value {
    const value = this.value('embeddings', 'tokens', width);
    this.#input = { kind: 'embeddings', value: value.id };
    return value;
  }

  /** Positions have several axes (S4); one by default. */
  positionAxes(count: number): void {
    this.#numPositionAxes = count;
  }

  vector(tensor: string, length: number): Weight {
    return this.#weight(tensor, [length], 'f32', [{ tensor, shape: [length] }]);
  }

  matrix(tensor: string, rows: number, columns: number): Weight {
    return this.#weight(tensor, [rows, columns], this.#options.formatOf(tensor), [{ tensor, shape: [rows, columns] }]);
  }

  /** A weight of parts of checkpoint tensors, in their order; a vector where `columns` is null. `unblocked`: f16 where the tensor has a block format. */
  weightOf(name: string, rows: number, columns: number | null, parts: readonly WeightPart[], { unblocked = false } = {}): Weight {
    if (columns === null) return this.#weight(name, [rows], 'f32', parts);
    const format = this.#options.formatOf(parts[0].tensor);
    const isFloat = format === 'f32' || format === 'f16' || format === 'bf16';
    return this.#weight(name, [rows, columns], unblocked && !isFloat ? 'f16' : format, parts);
  }

  /** Matrices `[experts, rows, columns]` of parts in the order of experts. */
  expertMatrices(name: string, shape: readonly [experts: number, rows: number, columns: number], parts: readonly WeightPart[]): Weight {
    return this.#weight(name, shape, this.#options.formatOf(parts[0].tensor), parts);
  }

  constant(name: string, data: Float32Array): Constant {
    const existing = this.#constants.find((c) => c.name === name);
    if (existing !== undefined) return existing;
    const constant: Constant = { id: this.#constants.length, name, data };
    this.#constants.push(constant);
    return constant;
  }

  cacheGroup(group: CacheGroup): number {
    return this.#cacheGroups.push(group) - 1;
  }

  emit<Name extends OpName>(op: Name, name: string, { inputs = [], outputs = [], weights = [], constants = [], attrs }: Emitted<Name>): void {
    this.#nodes.push({
      op,
      name,
      inputs: inputs.map((v) => v.id),
      outputs: outputs.map((v) => v.id),
      weights: weights.map((w) => w?.id ?? null),
      constants: constants.map((c) => c.id),
      attrs,
    } as unknown as AnyNode);
  }

  /** An op with one input and one output of the same shape. */
  map<Name extends OpName>(op: Name, name: string, input: Value, operands: Omit<Emitted<Name>, 'inputs' | 'outputs'>): Value {
    const output = this.value(name, input.axis, input.width);
    this.emit(op, name, { ...operands, inputs: [input], outputs: [output] });
    return output;
  }

  add(name: string, a: Value, b: Value): Value {
    const output = this.value(name, a.axis, a.width);
    this.emit('add', name, { inputs: [a, b], outputs: [output], attrs: {} });
    return output;
  }

  /** A linear layer with a matrix that exists already (tied embeddings) or a new one. `rounding`: of its input, where that is not the user's choice. */
  linear(name: string, input: Value, weight: Weight, bias: Weight | null = null, rounding?: Activation): Value {
    const output = this.value(name, input.axis, weight.shape[0]);
    const [{ tensor }] = weight.parts;
    const activation = rounding ?? this.#options.activationFor(weight.format, input.width, tensor);
    const ordered = this.#inColumnOrder(name, input, weight);
    this.emit('linear', name, { inputs: [ordered], outputs: [output], weights: [weight, bias], attrs: { activation } });
    return output;
  }

  /** The input of a linear in the order in which its weight holds the columns: one gather for all linears that share both. */
  #inColumnOrder(name: string, input: Value, weight: Weight): Value {
    const orders = weight.parts.map(({ tensor }) => this.#options.columnOrderOf?.(tensor));
    const [order] = orders;
    if (!orders.every((other) => isSameOrder(order, other))) throw mixedOrders(weight);
    // columns of another number are told by the check of shapes
    if (order === undefined || order.length !== input.width) return input;
    const known = this.#gathered.find((gathered) => gathered.input === input && isSameOrder(gathered.order, order));
    if (known !== undefined) return known.output;
    const constant = this.constant(`${name}.columns`, Float32Array.from(order));
    const output = this.map('gather-columns', `${name}.gather`, input, { constants: [constant], attrs: {} });
    this.#gathered.push({ input, order, output });
    return output;
  }

  /** Linears whose matrices each row chooses by `ids`; the rows of a matrix are divided among the outputs, `names` with how many. */
  expertLinear(name: string, input: Value, ids: Value, weight: Weight, bias: Weight | null, names: readonly (readonly [string, number])[]): Value[] {
    const outputs = names.map(([output, rows]) => this.value(output, input.axis, ids.width * rows));
    const [experts, , columns] = weight.shape;
    const activation = this.#options.activationFor(weight.format, columns);
    this.emit('expert-linear', name, { inputs: [input, ids], outputs, weights: [weight, bias], attrs: { activation, experts } });
    return outputs;
  }

  /** Whether tensors are stored in one format, so that they can make one matrix. */
  storedAlike(tensors: readonly string[]): boolean {
    return new Set(tensors.map((tensor) => this.#options.formatOf(tensor))).size === 1;
  }

  /** A matrix for each head: `[numHeads * outputs of a head, inputs of a head]`. */
  headLinear(name: string, input: Value, numHeads: number, weight: Weight): Value {
    const output = this.value(name, input.axis, weight.shape[0]);
    const activation = this.#options.activationFor(weight.format, input.width / numHeads);
    this.emit('head-linear', name, { inputs: [input], outputs: [output], weights: [weight], attrs: { numHeads, activation } });
    return output;
  }

  /**
   * Several linears of one input (`q, k, v` or `gate, up`). Where their matrices are stored alike they become one linear over the
   * concatenated rows and views of its output; otherwise one linear each.
   */
  linears(name: string, input: Value, layers: readonly { name: string; tensor: string; rows: number; bias?: string }[]): Value[] {
    const formats = new Set(layers.map((layer) => this.#options.formatOf(layer.tensor)));
    const biased = layers.filter((layer) => layer.bias !== undefined).length;
    const orders = layers.map((layer) => this.#options.columnOrderOf?.(layer.tensor));
    const activations = new Set(layers.map(({ tensor }) => this.#options.activationFor(this.#options.formatOf(tensor), input.width, tensor)));
    const apart = formats.size > 1 || activations.size > 1 || !orders.every((order) => isSameOrder(orders[0], order));
    if (apart || (biased > 0 && biased < layers.length)) {
      return layers.map((layer) =>
        this.linear(
          layer.name,
          input,
          this.matrix(layer.tensor, layer.rows, input.width),
          layer.bias === undefined ? null : this.vector(layer.bias, layer.rows),
        ),
      );
    }
    const rows = layers.reduce((sum, layer) => sum + layer.rows, 0);
    const parts = layers.map((layer) => ({ tensor: layer.tensor, shape: [layer.rows, input.width] }));
    const weight = this.#weight(`${name}.weight`, [rows, input.width], this.#options.formatOf(layers[0].tensor), parts);
    const biasParts = layers.flatMap((layer) => (layer.bias === undefined ? [] : [{ tensor: layer.bias, shape: [layer.rows] }]));
    const bias = biased === 0 ? null : this.#weight(`${name}.bias`, [rows], 'f32', biasParts);
    const output = this.linear(name, input, weight, bias);
    let offset = 0;
    return layers.map((layer) => {
      const view = this.view(layer.name, output, offset, layer.rows);
      offset += layer.rows;
      return view;
    });
  }

  /** Closes the plan and checks it. @throws PLAN_INVALID */
  build(name: string, outputs: Record<string, Value>): Plan {
    const plan: Plan = {
      name,
      values: this.#values,
      weights: this.#weights,
      constants: this.#constants,
      nodes: this.#nodes,
      input: this.#input ?? { kind: 'tokenIds', value: -1 },
      outputs: Object.fromEntries(Object.entries(outputs).map(([key, value]) => [key, value.id])),
      cacheGroups: this.#cacheGroups,
      numPositionAxes: this.#numPositionAxes,
      worldSize: 1,
    };
    this.#checkColumnOrders(plan);
    verifyPlan(plan);
    return plan;
  }

  /** Only `linear` reads weights whose columns are in another order. @throws WEIGHTS_FORMAT_UNSUPPORTED */
  #checkColumnOrders({ nodes, weights }: Plan): void {
    for (const node of nodes) {
      if (node.op === 'linear') continue;
      for (const id of node.weights) {
        if (id !== null && weights[id].parts.some(({ tensor }) => this.#options.columnOrderOf?.(tensor) !== undefined))
          throw mixedOrders(weights[id]);
      }
    }
  }

  #weight(name: string, shape: readonly number[], format: WeightFormat, parts: readonly WeightPart[]): Weight {
    const existing = this.#weights.find((w) => w.name === name);
    if (existing !== undefined) return existing;
    const weight: Weight = { id: this.#weights.length, name, shape, format, parts };
    this.#weights.push(weight);
    return weight;
  }
}

function isSameOrder(a: Uint32Array | undefined, b: Uint32Array | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a === b || (a.length === b.length && a.every((column, i) => column === b[i]));
}

function mixedOrders({ name }: Weight): MillraceError {
  return new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
    message: `The checkpoint holds the columns of ${name} in the order in which they were quantised, which is not read here.`,
    expected: 'a plain linear, all of whose parts share one order',
    hint: 'use a checkpoint without act-order (desc_act false)',
  });
}
