/** Drives a backend by hand, one request alone: contiguous blocks, no scheduler. For tests of models and kernels. */
import type { Backend, Cache, ForwardBatch, KvDtype, Program } from '../src/backends/backend.ts';
import { soloBatch } from '../src/engine/scorer.ts';
import { type ActivationChoice, type ActivationDtype, activationFor } from '../src/models/activation.ts';
import type { Stage } from '../src/models/blocks/decoder-features.ts';
import { ggufToHf, type Model, readModel } from '../src/models/index.ts';
import type { Plan } from '../src/plan/plan.ts';
import { checkWeights } from '../src/weights/check-weights.ts';
import { openModelFiles } from '../src/weights/model-files.ts';
import type { WeightSource } from '../src/weights/weight-source.ts';

export interface LoadedModel {
  readonly model: Model;
  readonly source: WeightSource;
  /** `contextLength`: the longest context that will be run, that of the model by default. */
  plan(stage?: Stage, contextLength?: number): Plan;
}

/** Opens a checkpoint of either kind the way the engine does. */
export function loadModel(path: string, dtype: ActivationDtype = 'float32', activation: ActivationChoice = 'float'): LoadedModel {
  const files = openModelFiles(path);
  const translation = files.kind === 'gguf' ? ggufToHf(files.gguf) : null;
  const source = files.kind === 'gguf' ? files.gguf.source(translation!.translate) : files.openWeights();
  const names = new Set(source.names());
  const model = readModel(translation?.config ?? (files.kind === 'huggingface' ? files.config : null), (name) => names.has(name));
  const plan = (stage?: Stage, contextLength?: number) => {
    const built = model.build(
      {
        formatOf: (tensor) => source.find(tensor)?.format ?? 'f32',
        activationFor: (format, width, tensor) => activationFor(format, width, dtype, activation, source.find(tensor ?? '')?.activation),
        columnOrderOf: (tensor) => source.find(tensor)?.columnOrder,
        ...(contextLength === undefined ? {} : { contextLength }),
      },
      stage,
    );
    checkWeights(built, source);
    return built;
  };
  return { model, source, plan };
}

export interface SoloOptions {
  readonly maxTokens?: number;
  readonly blockSize?: number;
  readonly kvDtype?: KvDtype;
}

/** One request in a cache of its own. */
export class SoloRequest {
  readonly #backend: Backend;
  readonly #program: Program;
  readonly #cache: Cache;
  readonly vocabSize: number;
  #length = 0;

  private constructor(backend: Backend, program: Program, cache: Cache) {
    this.#backend = backend;
    this.#program = program;
    this.#cache = cache;
    this.vocabSize = program.plan.values[program.plan.outputs.logits].width;
  }

  /** `capacity`: tokens that the cache holds. */
  static async open(backend: Backend, plan: Plan, source: WeightSource, capacity: number, options: SoloOptions = {}): Promise<SoloRequest> {
    const { maxTokens = 128, blockSize = 16, kvDtype = 'f32' } = options;
    const numBlocks = Math.ceil(capacity / blockSize);
    const program = await backend.compile(plan, source, { maxTokens, maxLogitRows: maxTokens });
    const cache = await backend.createCache({ groups: plan.cacheGroups.map((g) => ({ ...g, numBlocks })), blockSize, dtype: kvDtype });
    return new SoloRequest(backend, program, cache);
  }

  /** Appends tokens in one step. @returns logits after each, `[ids.length, vocabSize]` */
  async feed(ids: readonly number[]): Promise<Float32Array> {
    const batch = this.#batch(ids);
    const result = await this.#backend.execute({
      entries: [{ program: this.#program, cache: this.#cache, batch }],
      sampling: null,
      readOutputs: ['logits'],
    });
    this.#length += ids.length;
    return result.outputs.logits;
  }

  /** Prompt in chunks, then the likeliest token again and again. */
  async greedy(prompt: readonly number[], numTokens: number, chunk = 128): Promise<number[]> {
    let logits = new Float32Array(0);
    for (let at = 0; at < prompt.length; at += chunk) logits = (await this.feed(prompt.slice(at, at + chunk))) as Float32Array<ArrayBuffer>;
    const generated: number[] = [];
    while (generated.length < numTokens) {
      generated.push(argmax(logits.subarray(logits.length - this.vocabSize)));
      if (generated.length < numTokens) logits = (await this.feed(generated.slice(-1))) as Float32Array<ArrayBuffer>;
    }
    return generated;
  }

  close(): void {
    this.#cache.close();
    this.#program.close();
  }

  #batch(ids: readonly number[]): ForwardBatch {
    return soloBatch(this.#cache.spec, Int32Array.from(ids), this.#length, 0, this.#program.plan.numPositionAxes);
  }
}

/** Index of the largest value, the lower on a tie. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}
