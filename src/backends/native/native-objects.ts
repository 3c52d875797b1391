/** What the native backend hands out, and how a step of it crosses to the addon. */
import { MillraceError } from '../../base/errors.ts';
import type { Plan } from '../../plan/plan.ts';
import { NOTHING_SAMPLED } from '../../sampling/sampler.ts';
import type { Cache, CacheSpec, KernelChoice, NodeTime, Program, StepEntry } from '../backend.ts';
import { layoutName } from '../block-bytes.ts';
import type { CacheHandle, NativeEntry, NativeForwarded, NativeSampled, NativeSampling, ProgramHandle } from './load-addon.ts';
import type { BoundWeights } from './weights.ts';

/** Of a step without rows to sample, as the addon says it. */
export const NO_SAMPLES: NativeSampled = { ...NOTHING_SAMPLED, sampleMs: 0 };

export class NativeProgram implements Program {
  readonly plan: Plan;
  readonly kernels: readonly KernelChoice[];
  readonly weightBytes: number;
  readonly arenaBytes: number;
  readonly handle: ProgramHandle;
  readonly #weights: BoundWeights;
  readonly #takeProfile: () => Float64Array;
  #close: (() => void) | null;

  constructor(
    plan: Plan,
    created: { program: ProgramHandle; arenaBytes: number; kernels: readonly string[] },
    weights: BoundWeights,
    { close, takeProfile }: { close(): void; takeProfile(): Float64Array },
  ) {
    this.plan = plan;
    this.kernels = plan.nodes.map((node, i) => ({ node: node.name, op: node.op, kernel: created.kernels[i] }));
    this.weightBytes = weights.newBytes;
    this.arenaBytes = created.arenaBytes;
    this.handle = created.program;
    this.#weights = weights;
    this.#takeProfile = takeProfile;
    this.#close = close;
  }

  profile(): readonly NodeTime[] {
    const times = this.#takeProfile();
    return this.plan.nodes.map(({ name, op }, i) => ({
      node: name,
      op,
      calls: times[3 * i],
      microseconds: times[3 * i + 1] / 1000,
      waitMicroseconds: times[3 * i + 2] / 1000,
    }));
  }

  close(): void {
    this.#close?.();
    if (this.#close !== null) this.#weights.release();
    this.#close = null;
  }
}

export class NativeCache implements Cache {
  readonly spec: CacheSpec;
  readonly sizeBytes: number;
  readonly blockBytes: readonly number[];
  readonly layout: string;
  readonly handle: CacheHandle;
  #close: (() => void) | null;

  constructor(
    spec: CacheSpec,
    created: { handle: CacheHandle; sizeBytes: number; blockBytes: readonly number[]; device: string },
    close: () => void,
  ) {
    this.spec = spec;
    this.handle = created.handle;
    this.sizeBytes = created.sizeBytes;
    this.blockBytes = created.blockBytes;
    this.layout = layoutName(`${created.device} 1`, spec);
    this.#close = close;
  }

  close(): void {
    this.#close?.();
    this.#close = null;
  }
}

export function encodeEntry({ program, cache, batch, embeddings }: StepEntry, entries: readonly StepEntry[]): NativeEntry {
  if (!(program instanceof NativeProgram) || !(cache === null || cache instanceof NativeCache)) {
    throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a program or a cache of another backend.');
  }
  const handles = { program: program.handle, cache: cache?.handle ?? null, batch };
  if (embeddings === undefined || embeddings instanceof Float32Array) {
    return { ...handles, embeddings: embeddings ?? null, sourceEntry: -1, sourceOutput: -1 };
  }
  return { ...handles, embeddings: null, sourceEntry: embeddings.entry, sourceOutput: outputIndex(entries[embeddings.entry], embeddings.output) };
}

/** Place of a named output among those of a program. */
export function outputIndex(entry: StepEntry | undefined, name: string): number {
  const index = entry === undefined ? -1 : Object.keys(entry.program.plan.outputs).indexOf(name);
  if (index >= 0) return index;
  throw new MillraceError('BACKEND_STEP_FAILED', `The step reads output ${name}, which its program does not have.`);
}

export function samplingOf(batch: object, last: StepEntry): NativeSampling {
  if (!(last.program instanceof NativeProgram)) throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a program of another backend.');
  return { batch, masks: null, program: last.program.handle, output: outputIndex(last, 'logits'), logits: null, vocabSize: 0 };
}

export function sampledOf(forwarded: NativeForwarded): NativeSampled {
  const { tokenIds, logprobs, topTokenIds, topLogprobs, corrupted, mirostatMu, maxTopLogprobs, sampleMs } = forwarded;
  if (tokenIds === undefined || logprobs === undefined || topTokenIds === undefined || topLogprobs === undefined) return NO_SAMPLES;
  if (corrupted === undefined || mirostatMu === undefined) return NO_SAMPLES;
  return { tokenIds, logprobs, topTokenIds, topLogprobs, corrupted, mirostatMu, maxTopLogprobs: maxTopLogprobs ?? 0, sampleMs: sampleMs ?? 0 };
}
