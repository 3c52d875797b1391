/** What `millrace bench kernels` times: plans of one op in the way a model runs it, long enough that weights and KV come from memory, not from a cache. */
import type { CacheSpec, ForwardBatch, KvDtype } from '../backends/backend.ts';
import { kvDtypes } from '../kv/layout.ts';
import { PlanBuilder } from '../plan/builder.ts';
import type { OpName } from '../plan/ops/index.ts';
import type { Activation, Plan, Value, WeightFormat } from '../plan/plan.ts';
import type { SamplingBatch } from '../sampling/sampling-batch.ts';

/** Which multiply-adds an op is made of. */
export type PeakKind = 'int8' | 'bf16' | 'f32';

/** A program, and the batches to run it with. */
export interface KernelProgram {
  readonly op: OpName;
  /** How it is called where it is not that op alone. */
  readonly label?: string;
  /** Of weights, or of K and V; empty where there are neither. */
  readonly format: string;
  readonly plan: Plan;
  readonly maxTokens: number;
  readonly cache: CacheSpec | null;
  /** Nodes of `op` in the plan. */
  readonly count: number;
  readonly peak: PeakKind | null;
  /** What an activation is rounded to, for those of linear. */
  readonly activation: Activation | null;
  readonly runs: readonly KernelRun[];
}

export interface KernelRun {
  /** Such as `8` rows, or `1 at 8192`. */
  readonly rows: string;
  readonly batch: ForwardBatch;
  /** `[tokens, width]`, or null for zeros. */
  readonly fill: ((input: Float32Array) => void) | null;
  /** Bytes that one node reads and writes besides weights. */
  readonly bytes: number;
  /** Share of the plan's weights that is read. */
  readonly weightShare: number;
  /** Operations of one node, a multiplication and an addition being two. */
  readonly operations: number;
  /** Timed instead of the forward pass, a row, where it is given. */
  readonly sampling?: SamplingBatch;
}

const BLOCK_SIZE = 32;

/** Rows of one token each, without a cache. */
export function rowsBatch(rows: number): ForwardBatch {
  const none = new Int32Array(0);
  const upTo = (length: number) => Int32Array.from({ length }, (_, i) => i);
  return {
    numTokens: rows,
    numRows: rows,
    numLogitRows: rows,
    tokenIds: new Int32Array(rows),
    positions: upTo(rows),
    rowStart: upTo(rows + 1),
    cacheIndex: new Int32Array(rows),
    visibleEnd: new Int32Array(rows),
    blockTables: none,
    maxBlocks: 0,
    slotMapping: none,
    logitTokens: upTo(rows),
    copies: none,
    numCopies: 0,
  };
}

/** Rows that have `context` tokens with the `chunk` they compute now, each in blocks of its own. */
function cachedBatch(rows: number, chunk: number, context: number): ForwardBatch {
  const tokens = rows * chunk;
  const maxBlocks = Math.ceil(context / BLOCK_SIZE);
  const row = (t: number) => Math.floor(t / chunk);
  const index = Int32Array.from({ length: tokens }, (_, t) => context - chunk + (t % chunk));
  return {
    ...rowsBatch(tokens),
    numRows: rows,
    positions: index,
    rowStart: Int32Array.from({ length: rows + 1 }, (_, r) => r * chunk),
    cacheIndex: index,
    visibleEnd: index.map((i) => i + 1),
    blockTables: Int32Array.from({ length: rows * maxBlocks }, (_, i) => i),
    maxBlocks,
    slotMapping: Int32Array.from({ length: tokens }, (_, t) => row(t) * maxBlocks * BLOCK_SIZE + index[t]),
  };
}

export interface LinearShape {
  readonly hidden: number;
  readonly inner: number;
}

/** Up and down projections in turn, so many that the weights are about `bytes`. */
export function linearProgram(
  format: WeightFormat,
  activation: Activation,
  { hidden, inner }: LinearShape,
  bitsPerWeight: number,
  bytes: number,
  rows: readonly number[],
): KernelProgram {
  const builder = new PlanBuilder({ formatOf: () => format, activationFor: () => activation });
  const pairs = Math.max(1, Math.round((bytes * 8) / (2 * hidden * inner * bitsPerWeight)));
  let value: Value = builder.embeddings(hidden);
  for (let i = 0; i < pairs; i++) {
    const up = builder.linear(`up${i}`, value, builder.matrix(`up${i}.weight`, inner, hidden));
    value = builder.linear(`down${i}`, up, builder.matrix(`down${i}.weight`, hidden, inner));
  }
  const peak = activation === 'f32' ? 'f32' : activation === 'bf16' ? 'bf16' : 'int8';
  return {
    op: 'linear',
    format,
    plan: builder.build('linear', { out: value }),
    maxTokens: Math.max(...rows),
    cache: null,
    count: 2 * pairs,
    peak,
    activation,
    runs: rows.map((count) => ({
      rows: String(count),
      batch: rowsBatch(count),
      fill: wave,
      bytes: 4 * count * (hidden + inner),
      weightShare: 1,
      operations: 2 * count * hidden * inner,
    })),
  };
}

/** Gate and up of a mixture's layer: row r takes experts `slots * r` and following, so that what is touched is known. */
export function expertProgram(format: WeightFormat, activation: Activation, rows: readonly number[]): KernelProgram {
  const [experts, slots, hidden, inner] = [64, 8, 2048, 1024];
  const builder = new PlanBuilder({ formatOf: () => format, activationFor: () => activation });
  const input = builder.embeddings(hidden + experts);
  const ids = builder.value('ids', 'tokens', slots, 'i32');
  const shares = builder.value('weights', 'tokens', slots);
  const attrs = { score: 'softmax', normalise: 'none', groups: 1, keptGroups: 1, groupScore: 'max', scale: 1 } as const;
  builder.emit('moe-route', 'route', { inputs: [builder.view('router', input, hidden, experts)], outputs: [ids, shares], attrs });
  const parts = Array.from({ length: experts }, (_, e) => ({ tensor: `expert${e}`, shape: [2 * inner, hidden] }));
  const weight = builder.expertMatrices('experts', [experts, 2 * inner, hidden], parts);
  const [gate, up] = builder.expertLinear('expert', builder.view('x', input, 0, hidden), ids, weight, null, [
    ['gate', inner],
    ['up', inner],
  ]);
  const fill = (values: Float32Array): void => {
    wave(values);
    for (let at = 0, r = 0; at < values.length; at += hidden + experts, r++) {
      for (let e = 0; e < experts; e++)
        values[at + hidden + e] = (e - slots * r) % experts < 0 ? 0 : -((e + experts - ((slots * r) % experts)) % experts);
      for (let s = 0; s < slots; s++) values[at + hidden + ((slots * r + s) % experts)] = 10 - s;
    }
  };
  return {
    op: 'expert-linear',
    format,
    plan: builder.build('expert-linear', { gate, up }),
    maxTokens: Math.max(...rows),
    cache: null,
    count: 1,
    peak: activation === 'f32' ? 'f32' : activation === 'bf16' ? 'bf16' : 'int8',
    activation,
    runs: rows.map((count) => ({
      rows: String(count),
      batch: rowsBatch(count),
      fill,
      bytes: 4 * count * (hidden + 2 * slots * inner),
      weightShare: Math.min(1, (count * slots) / experts),
      operations: 2 * count * slots * hidden * 2 * inner,
    })),
  };
}

/** Attention of `layers` layers as in Qwen2.5-0.5B: 14 heads of 64 over two of K and V; by bf16 where the engine would do so. */
export function attentionProgram(dtype: KvDtype): KernelProgram {
  const [layers, numHeads, numKvHeads, headDim] = [24, 14, 2, 64];
  const activation = dtype === 'f32' || dtype === 'f16' ? 'f32' : 'bf16';
  const headBytes = (headDim * kvDtypes[dtype].bits) / 8 + kvDtypes[dtype].parameterBytes;
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const [width, kvWidth] = [numHeads * headDim, numKvHeads * headDim];
  const input = builder.embeddings(width + 2 * kvWidth);
  const group = { name: 'full', kind: 'full', numLayers: layers, numKvHeads, headDim } as const;
  builder.cacheGroup(group);
  let q = builder.view('q', input, 0, width);
  const k = builder.view('k', input, width, kvWidth);
  const v = builder.view('v', input, width + kvWidth, kvWidth);
  for (let layer = 0; layer < layers; layer++) {
    builder.emit('kv-write', `write${layer}`, { inputs: [k, v], attrs: { group: 0, layer } });
    const out = builder.value(`out${layer}`, 'tokens', width);
    const attrs = { group: 0, layer, numHeads, headDim, scale: headDim ** -0.5, softCap: 0, window: 0, activation } as const;
    builder.emit('attention', `attention${layer}`, { inputs: [q], outputs: [out], attrs });
    q = out;
  }
  const shapes: readonly [rows: number, chunk: number, context: number][] = [
    [1, 1, 1024],
    [1, 1, 8192],
    [8, 1, 1024],
    [32, 1, 1024],
    [1, 512, 512],
    [1, 512, 8192],
  ];
  const runs = shapes.map(([rows, chunk, context]) => {
    const seen = rows * (chunk * (context - chunk) + (chunk * (chunk + 1)) / 2);
    return {
      rows: chunk === 1 ? `${rows} at ${context}` : `${chunk} of ${context}`,
      batch: cachedBatch(rows, chunk, context),
      fill: wave,
      bytes: rows * context * 2 * numKvHeads * headBytes,
      weightShare: 0,
      operations: 4 * numHeads * headDim * seen,
    };
  });
  const numBlocks = Math.max(...shapes.map(([rows, , context]) => (rows * context) / BLOCK_SIZE));
  return {
    op: 'attention',
    format: dtype,
    plan: builder.build('attention', { out: q }),
    maxTokens: 512,
    cache: { groups: [{ ...group, numBlocks }], blockSize: BLOCK_SIZE, dtype },
    count: layers,
    peak: activation,
    activation,
    runs,
  };
}

/** Ops that are mostly handing out: their inputs and outputs stay in caches. */
export function elementwiseProgram(
  op: 'rms-norm' | 'add-rms-norm' | 'gated-activation' | 'rope',
  width: number,
  rows: readonly number[],
): KernelProgram {
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const count = 24;
  const input = builder.embeddings(width);
  let value = input;
  let other = input;
  const norm = { epsilon: 1e-6, weightOffset: 0, groupWidth: width };
  for (let i = 0; i < count; i++) {
    const output = builder.value(`out${i}`, 'tokens', width);
    if (op === 'rms-norm') builder.emit(op, `n${i}`, { inputs: [value], outputs: [output], weights: [builder.vector(`w${i}`, width)], attrs: norm });
    else if (op === 'add-rms-norm') {
      const sum = builder.value(`sum${i}`, 'tokens', width);
      builder.emit(op, `n${i}`, { inputs: [value, other], outputs: [sum, output], weights: [builder.vector(`w${i}`, width)], attrs: norm });
      other = input;
    } else if (op === 'gated-activation') builder.emit(op, `n${i}`, { inputs: [value, input], outputs: [output], attrs: { function: 'silu' } });
    else {
      const frequencies = builder.constant(
        'f',
        Float32Array.from({ length: 32 }, (_, j) => 10000 ** (-j / 32)),
      );
      builder.emit(op, `n${i}`, {
        inputs: [value],
        outputs: [output],
        constants: [frequencies],
        attrs: { headDim: 64, rotaryDim: 64, style: 'half', magnitude: 1 },
      });
    }
    value = output;
  }
  const arrays = { 'rms-norm': 2, 'add-rms-norm': 4, 'gated-activation': 3, rope: 2 }[op];
  return {
    op,
    format: '',
    plan: builder.build(op, { out: value }),
    maxTokens: Math.max(...rows),
    cache: null,
    count,
    peak: null,
    activation: null,
    runs: rows.map((each) => ({
      rows: String(each),
      batch: rowsBatch(each),
      fill: wave,
      bytes: 4 * arrays * each * width,
      weightShare: 0,
      operations: 0,
    })),
  };
}

/** All nodes of a decoder of 24 layers, so small that there is next to nothing to compute: what handing work out costs in a step. */
export function tinyStepProgram(rows: readonly number[]): KernelProgram {
  const [layers, hidden, inner, headDim] = [24, 64, 128, 32];
  const builder = new PlanBuilder({ formatOf: () => 'q8_0', activationFor: () => 'int8-group32' });
  const norm = { epsilon: 1e-6, weightOffset: 0, groupWidth: hidden };
  const frequencies = builder.constant(
    'f',
    Float32Array.from({ length: headDim / 2 }, (_, j) => 10000 ** ((-2 * j) / headDim)),
  );
  builder.cacheGroup({ name: 'full', kind: 'full', numLayers: layers, numKvHeads: 1, headDim });
  let residual = builder.embeddings(hidden);
  let normed = builder.map('rms-norm', 'norm', residual, { weights: [builder.vector('norm.weight', hidden)], attrs: norm });
  const addNorm = (name: string, branch: Value): void => {
    const [sum, out] = [builder.value(`${name}.sum`, 'tokens', hidden), builder.value(name, 'tokens', hidden)];
    builder.emit('add-rms-norm', name, {
      inputs: [residual, branch],
      outputs: [sum, out],
      weights: [builder.vector(`${name}.weight`, hidden)],
      attrs: norm,
    });
    residual = sum;
    normed = out;
  };
  for (let i = 0; i < layers; i++) {
    const matrix = (name: string, outputs: number, inputs: number) => builder.matrix(`${name}${i}.weight`, outputs, inputs);
    const qkv = builder.linear(`qkv${i}`, normed, matrix('qkv', hidden + 2 * headDim, hidden));
    const [q, k, v] = [0, hidden, hidden + headDim].map((offset, j) => builder.view(`qkv${i}.${j}`, qkv, offset, j === 0 ? hidden : headDim));
    const rotated = builder.value(`q${i}`, 'tokens', hidden);
    const rope = { headDim, rotaryDim: headDim, style: 'half', magnitude: 1, group: 0, layer: i } as const;
    builder.emit('rope-kv-write', `rope${i}`, { inputs: [q, k, v], outputs: [rotated], constants: [frequencies], attrs: rope });
    const attended = builder.value(`attended${i}`, 'tokens', hidden);
    const attrs = { group: 0, layer: i, numHeads: hidden / headDim, headDim, scale: headDim ** -0.5, softCap: 0, window: 0 };
    builder.emit('attention', `attention${i}`, { inputs: [rotated], outputs: [attended], attrs });
    addNorm(`ffn_norm${i}`, builder.linear(`o${i}`, attended, matrix('o', hidden, hidden)));
    const both = builder.linear(`gate_up${i}`, normed, matrix('gate_up', 2 * inner, hidden));
    const gated = builder.value(`gated${i}`, 'tokens', inner);
    const halves = [builder.view(`gate${i}`, both, 0, inner), builder.view(`up${i}`, both, inner, inner)];
    builder.emit('gated-activation', `gated${i}`, { inputs: halves, outputs: [gated], attrs: { function: 'silu' } });
    addNorm(`norm${i}`, builder.linear(`down${i}`, gated, matrix('down', hidden, inner)));
  }
  return {
    op: 'linear',
    label: 'step of 24 tiny layers',
    format: 'q8_0',
    plan: builder.build('step', { out: normed }),
    maxTokens: Math.max(...rows),
    cache: {
      groups: [{ name: 'full', kind: 'full', numLayers: layers, numKvHeads: 1, headDim, numBlocks: Math.max(...rows) }],
      blockSize: BLOCK_SIZE,
      dtype: 'bf16',
    },
    count: 1,
    peak: null,
    activation: null,
    runs: rows.map((count) => ({ rows: String(count), batch: cachedBatch(count, 1, 16), fill: wave, bytes: 0, weightShare: 0, operations: 0 })),
  };
}

/** Numbers of unit size without a pattern that rounding could like. */
function wave(values: Float32Array): void {
  for (let i = 0; i < values.length; i++) values[i] = Math.sin(i * 0.7371) * 1.4;
}
