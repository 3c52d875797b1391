/** A plan bound to f32 weights and to places in an arena of its own. */
import { MillraceError } from '../../base/errors.ts';
import type { OpName } from '../../plan/ops/index.ts';
import { planMemory } from '../../plan/passes/memory.ts';
import type { Plan, Value } from '../../plan/plan.ts';
import type { CompileOptions, ForwardBatch, KernelChoice, Program, ProgramDescription, ProgramLimits } from '../backend.ts';
import { kernels } from './index.ts';
import type { KernelCall, Matrix, ReferenceKernel, StepContext } from './kernel.ts';

/** Weights by id of the plan, expanded to f32. */
export type BoundWeights = readonly Float32Array[];

interface BoundNode {
  readonly kernel: ReferenceKernel<OpName>;
  readonly call: KernelCall<OpName>;
  readonly axis: Value['axis'];
}

export class ReferenceProgram implements Program {
  readonly plan: Plan;
  readonly limits: Pick<CompileOptions, 'maxTokens' | 'maxLogitRows'>;
  readonly kernels: readonly KernelChoice[];
  readonly weightBytes: number;
  readonly arenaBytes: number;
  readonly #matrices: Matrix[];
  readonly #onClose: () => void;
  #nodes: readonly BoundNode[];

  constructor(plan: Plan, weights: BoundWeights, limits: Pick<CompileOptions, 'maxTokens' | 'maxLogitRows'>, onClose: () => void) {
    this.plan = plan;
    this.limits = { maxTokens: limits.maxTokens, maxLogitRows: limits.maxLogitRows };
    this.kernels = kernelChoices(plan);
    this.weightBytes = weights.reduce((sum, weight) => sum + weight.byteLength, 0);
    const memory = planMemory(plan, limits);
    this.arenaBytes = memory.arenaBytes;
    this.#matrices = placeValues(plan, memory.offsets, allocate(memory.arenaBytes));
    this.#nodes = plan.nodes.map((node) => ({
      kernel: kernels[node.op] as ReferenceKernel<OpName>,
      call: {
        inputs: node.inputs.map((id) => this.#matrices[id]),
        outputs: node.outputs.map((id) => this.#matrices[id]),
        weights: node.weights.map((id) => (id === null ? null : weights[id])),
        constants: node.constants.map((id) => plan.constants[id].data),
        attrs: node.attrs,
      } as KernelCall<OpName>,
      axis: plan.values[node.outputs[0] ?? node.inputs[0]].axis,
    }));
    this.#onClose = onClose;
  }

  /** Where the step's token ids or embeddings go, row by row. */
  get input(): Matrix {
    return this.#matrices[this.plan.input.value];
  }

  /** Runs all nodes. The input has been filled in. */
  run(step: StepContext): void {
    const { batch } = step;
    for (const { kernel, call, axis } of this.#nodes) kernel(call, axis === 'tokens' ? batch.numTokens : batch.numLogitRows, step);
  }

  /** A copy of a named output of the last run, `[rows, width]`. @throws BACKEND_STEP_FAILED when the plan has no such output */
  read(name: string, batch: ForwardBatch): Float32Array {
    const id = this.plan.outputs[name];
    if (id === undefined) {
      throw new MillraceError('BACKEND_STEP_FAILED', {
        message: `Plan ${this.plan.name} has no output ${name}.`,
        expected: `one of ${Object.keys(this.plan.outputs).join(', ')}`,
        received: name,
      });
    }
    const { data, offset, stride, width } = this.#matrices[id];
    const numRows = this.plan.values[id].axis === 'tokens' ? batch.numTokens : batch.numLogitRows;
    const out = new Float32Array(numRows * width);
    for (let row = 0; row < numRows; row++) out.set(data.subarray(offset + row * stride, offset + row * stride + width), row * width);
    return out;
  }

  close(): void {
    if (this.#matrices.length === 0) return;
    this.#matrices.length = 0;
    this.#nodes = [];
    this.#onClose();
  }
}

/** As `ReferenceProgram` has it, without weights. @throws BACKEND_OP_UNSUPPORTED */
export function describeProgram(plan: Plan, limits: ProgramLimits): ProgramDescription {
  checkSupported(plan);
  return { kernels: kernelChoices(plan), arenaBytes: planMemory(plan, limits).arenaBytes };
}

function kernelChoices(plan: Plan): KernelChoice[] {
  return plan.nodes.map(({ name, op }) => ({ node: name, op, kernel: `reference/${op}` }));
}

const collectives: ReadonlySet<OpName> = new Set(['all-reduce', 'all-gather', 'all-to-all', 'send', 'recv']);

/** To be asked before weights are read. @throws BACKEND_OP_UNSUPPORTED naming every missing op */
export function checkSupported(plan: Plan): void {
  const ops = [...new Set(plan.nodes.map((node) => node.op))];
  const missing: string[] = ops.filter((op) => !Object.hasOwn(kernels, op));
  if (plan.worldSize !== 1) missing.push(...ops.filter((op) => collectives.has(op)).map((op) => `${op} between ranks`));
  if (missing.length > 0) {
    throw new MillraceError('BACKEND_OP_UNSUPPORTED', `The reference backend lacks ${missing.join(', ')}, which plan ${plan.name} uses.`);
  }
  if (plan.worldSize !== 1) {
    throw new MillraceError('BACKEND_OP_UNSUPPORTED', `The reference backend runs on one rank; plan ${plan.name} is for ${plan.worldSize}.`);
  }
}

function allocate(sizeBytes: number): ArrayBuffer {
  try {
    return new ArrayBuffer(sizeBytes);
  } catch (cause) {
    throw new MillraceError('MEMORY_INSUFFICIENT', {
      message: `The activations of the plan need ${sizeBytes} bytes, which cannot be allocated.`,
      hint: 'Lower --max-num-batched-tokens.',
      cause,
    });
  }
}

function placeValues(plan: Plan, offsets: Float64Array, arena: ArrayBuffer): Matrix[] {
  const data = new Float32Array(arena);
  const ints = new Int32Array(arena);
  return plan.values.map((value) => {
    const base = plan.values[value.view?.of ?? value.id];
    const offset = offsets[base.id] / 4 + (value.view?.offset ?? 0);
    return { data, ints, offset, stride: base.width, width: value.width };
  });
}
