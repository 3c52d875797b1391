/** Runs plans of one op over rows of host memory. */
import type { Backend, Cache, ForwardBatch, Program } from '../../src/backends/backend.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { randomSource } from '../fixtures/weights.ts';

/** A batch of `numTokens` tokens, one row each, without cache; token i at position `positions[i]`. */
export function plainBatch(numTokens: number, positions?: Int32Array): ForwardBatch {
  const count = (length: number, from = 0) => Int32Array.from({ length }, (_, i) => i + from);
  return {
    numTokens,
    numRows: numTokens,
    numLogitRows: numTokens,
    tokenIds: new Int32Array(numTokens),
    positions: positions ?? count(numTokens),
    rowStart: count(numTokens + 1),
    cacheIndex: new Int32Array(numTokens),
    visibleEnd: new Int32Array(numTokens),
    blockTables: new Int32Array(0),
    maxBlocks: 0,
    slotMapping: new Int32Array(0),
    logitTokens: count(numTokens),
    copies: new Int32Array(0),
    numCopies: 0,
  };
}

export interface Compiled {
  readonly program: Program;
  run(rows: Float32Array, batch: ForwardBatch, cache?: Cache | null): Promise<Record<string, Float32Array>>;
}

/** Compiles a plan with random weights; the same seed gives the same weights on every backend. */
export async function compile(backend: Backend, plan: Plan, maxTokens: number, seed = 1): Promise<Compiled> {
  const program = await backend.compile(plan, randomSource(plan, seed), { maxTokens, maxLogitRows: maxTokens });
  const run: Compiled['run'] = async (rows, batch, cache = null) => {
    const step = { entries: [{ program, cache, batch, embeddings: rows }], sampling: null, readOutputs: Object.keys(plan.outputs) };
    return (await backend.execute(step)).outputs;
  };
  return { program, run };
}
