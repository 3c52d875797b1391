/** Weights expanded to f32, shared by name among the programs of one source and dropped with the last of them (S1). */

import type { Plan, Weight } from '../../plan/plan.ts';
import { readWeightAsF32 } from '../../quant/read-tensor.ts';
import type { WeightSource } from '../../weights/weight-source.ts';
import type { BoundWeights } from './program.ts';

interface Shared {
  readonly values: Float32Array;
  users: number;
}

/** The pool of one source. */
export class WeightPool {
  readonly #shared = new Map<string, Shared>();

  /** Binds all weights of a plan; `read` is asked once for each that no other program holds. */
  async bind(plan: Plan, read: (weight: Weight) => Float32Array | Promise<Float32Array>): Promise<BoundWeights> {
    const bound: Float32Array[] = [];
    try {
      for (const weight of plan.weights) {
        const key = keyOf(weight);
        const shared = this.#shared.get(key) ?? { values: await read(weight), users: 0 };
        this.#shared.set(key, shared);
        shared.users++;
        bound.push(shared.values);
      }
    } catch (thrown) {
      this.#release(plan.weights.slice(0, bound.length));
      throw thrown;
    }
    return bound;
  }

  has(weight: Weight): boolean {
    return this.#shared.has(keyOf(weight));
  }

  release(plan: Plan): void {
    this.#release(plan.weights);
  }

  #release(weights: readonly Weight[]): void {
    for (const weight of weights) {
      const shared = this.#shared.get(keyOf(weight));
      if (shared !== undefined && --shared.users === 0) this.#shared.delete(keyOf(weight));
    }
  }
}

function keyOf({ name, format, shape }: Weight): string {
  return `${name} ${format} ${shape.join('x')}`;
}

/** Reads weights of a source one by one, leaving the event loop a turn after each, and tells of progress in bytes as f32. */
export function weightReader(plan: Plan, source: WeightSource, onProgress?: (doneBytes: number, totalBytes: number) => void) {
  const totalBytes = plan.weights.reduce((sum, { shape }) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);
  let doneBytes = 0;
  return async (weight: Weight): Promise<Float32Array> => {
    await new Promise((resolve) => setImmediate(resolve));
    const values = readWeightAsF32(source, weight);
    doneBytes += values.byteLength;
    onProgress?.(doneBytes, totalBytes);
    return values;
  };
}
