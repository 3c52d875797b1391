/**
 * A plan as one flat buffer for native backends (`native/common/plan.h` reads it). Every field is a 32-bit word, in this order:
 *
 * - header: magic, version, numValues, numWeights, numConstants, numNodes, numGroups, inputKind (0 token ids, 1 embeddings), input value,
 *   numPositionAxes, worldSize, numOutputs
 * - per value: axis (0 tokens, 1 logits), width, dtype (0 f32, 1 i32), id that it is a view of or -1, view offset in elements, arena offset in
 *   bytes as low and high word (-1, -1 for views and for values that nothing touches)
 * - per weight: format (index in `weightFormats`), rank (1 to 3), rows, columns (1 for vectors), matrices (of rank 3, else 1)
 * - per constant: length, then its f32 bit patterns
 * - per node: opcode, then five counted lists: inputs, outputs, weights (-1 where absent), constants, attribute words. Attributes come in the order
 *   of the op's `attrs`: integers as they are, floats as f32 bits, words as their index
 * - per cache group: kind (0 full, 1 window, 2 latent), window or 0, numLayers, numKvHeads, headDim
 * - outputs: value ids in the order of `Object.keys(plan.outputs)`
 *
 * Names stay on the TypeScript side: native errors speak of indices, which `NativeBackend` turns into names.
 */
import { invariant, MillraceError } from '../base/errors.ts';
import { opcodes, ops } from './ops/index.ts';
import type { AttrLayout } from './ops/op.ts';
import type { MemoryLayout } from './passes/memory.ts';
import type { AnyNode, Constant, Plan, Value, WeightFormat } from './plan.ts';

/** `MLRP`, little end first. */
export const ENCODED_PLAN_MAGIC = 0x4d4c5250;
export const ENCODED_PLAN_VERSION = 2;

const groupKinds = ['full', 'window', 'latent'] as const;

/** Formats in the order of their index on the wire (`native/common/weight_formats.h`). */
export const weightFormats = [
  'f32',
  'f16',
  'bf16',
  'q8_0',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q2_k',
  'q3_k',
  'q4_k',
  'q5_k',
  'q6_k',
  'iq4_nl',
  'iq4_xs',
  'mxfp4',
  'iq2_xxs',
  'iq2_xs',
  'iq2_s',
  'iq3_xxs',
  'iq3_s',
  'iq1_s',
  'iq1_m',
  'tq1_0',
  'tq2_0',
  'int2_g32',
  'int2_g64',
  'int2_g128',
  'int3_g32',
  'int3_g64',
  'int3_g128',
  'int4_g32',
  'int4_g64',
  'int4_g128',
  'int8_g32',
  'int8_g128',
  'fp8_g32',
  'fp8_g128',
  'fp8_e5m2_g32',
  'fp8_e5m2_g128',
  'nf4',
  'int8_channel',
] as const satisfies readonly WeightFormat[];

/**
 * Encodes a plan with the places of its values in the arena. The same plan gives the same words.
 * @throws BACKEND_OP_UNSUPPORTED naming every op that has no opcode
 */
export function encodePlan(plan: Plan, memory: MemoryLayout): Int32Array {
  const unknown = new Set(plan.nodes.map((node) => node.op).filter((op) => !Object.hasOwn(opcodes, op)));
  if (unknown.size > 0)
    throw new MillraceError('BACKEND_OP_UNSUPPORTED', `Native backends lack ${[...unknown].join(', ')}, which plan ${plan.name} uses.`);
  const words: number[] = [
    ENCODED_PLAN_MAGIC,
    ENCODED_PLAN_VERSION,
    plan.values.length,
    plan.weights.length,
    plan.constants.length,
    plan.nodes.length,
    plan.cacheGroups.length,
    plan.input.kind === 'tokenIds' ? 0 : 1,
    plan.input.value,
    plan.numPositionAxes,
    plan.worldSize,
    Object.keys(plan.outputs).length,
  ];
  for (const value of plan.values) pushValue(words, value, memory);
  for (const weight of plan.weights) {
    const [rows, columns = 1] = weight.shape.slice(-2);
    words.push(weightFormats.indexOf(weight.format), weight.shape.length, rows, columns, weight.shape.length === 3 ? weight.shape[0] : 1);
  }
  for (const constant of plan.constants) pushConstant(words, constant);
  for (const node of plan.nodes) pushNode(words, node);
  for (const group of plan.cacheGroups) {
    if (group.kind === 'state')
      throw new MillraceError('BACKEND_OP_UNSUPPORTED', `Native backends keep no recurrent states; plan ${plan.name} does.`);
    words.push(groupKinds.indexOf(group.kind), group.window ?? 0, group.numLayers, group.numKvHeads, group.headDim);
  }
  words.push(...Object.values(plan.outputs));
  return Int32Array.from(words, (word) => word | 0);
}

function pushValue(words: number[], value: Value, memory: MemoryLayout): void {
  words.push(value.axis === 'tokens' ? 0 : 1, value.width, value.dtype === 'f32' ? 0 : 1);
  words.push(value.view?.of ?? -1, value.view?.offset ?? 0);
  const offset = memory.offsets[value.id];
  if (offset < 0) words.push(-1, -1);
  else words.push(offset % 2 ** 32, Math.floor(offset / 2 ** 32));
}

function pushConstant(words: number[], constant: Constant): void {
  words.push(constant.data.length);
  const bits = new Int32Array(constant.data.buffer, constant.data.byteOffset, constant.data.length);
  for (const word of bits) words.push(word);
}

function pushNode(words: number[], node: AnyNode): void {
  const attrs = encodeAttrs(node);
  words.push(opcodes[node.op]);
  words.push(node.inputs.length, ...node.inputs);
  words.push(node.outputs.length, ...node.outputs);
  words.push(node.weights.length, ...node.weights.map((id) => id ?? -1));
  words.push(node.constants.length, ...node.constants);
  words.push(attrs.length, ...attrs);
}

function encodeAttrs(node: AnyNode): number[] {
  const layout: AttrLayout<Record<string, unknown>> = ops[node.op].attrs;
  const attrs = node.attrs as Readonly<Record<string, unknown>>;
  return Object.entries(layout).map(([name, kind]) => {
    const value = attrs[name];
    if (kind === 'int') {
      invariant(Number.isInteger(value), `attribute ${name} of ${node.name} is not an integer`);
      return value as number;
    }
    if (kind === 'float') {
      invariant(typeof value === 'number', `attribute ${name} of ${node.name} is not a number`);
      return floatBits(value);
    }
    const index = value === undefined ? 0 : kind.indexOf(value as string);
    invariant(index >= 0, `attribute ${name} of ${node.name} is none of ${kind.join(', ')}`);
    return index;
  });
}

const floatScratch = new Float32Array(1);
const bitsScratch = new Int32Array(floatScratch.buffer);

function floatBits(value: number): number {
  floatScratch[0] = value;
  return bitsScratch[0];
}
