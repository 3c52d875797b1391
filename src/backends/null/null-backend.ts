/**
 * A backend without arithmetic, for tests of scheduler and engine and for the simulator.
 *
 * In place of K and V, a cache slot holds a hash of the whole context up to its token, made from the hash in the slot of the key before. The
 * "sampled" token is a function of that hash, the seed and the choice, so a wrong block table, a lost copy or a stale block changes tokens as it
 * would with a real model, and `expectedToken` says what a right engine gets.
 */
import { MillraceError, toMillraceError } from '../../base/errors.ts';
import type { Plan } from '../../plan/plan.ts';
import { rowStates } from '../../sampling/sampler.ts';
import type { SamplingBatch } from '../../sampling/sampling-batch.ts';
import type { WeightSource } from '../../weights/weight-source.ts';
import type {
  Backend,
  BackendInfo,
  Cache,
  CacheSpec,
  CompileOptions,
  ForwardBatch,
  Program,
  ProgramDescription,
  ProgramLimits,
  Step,
  StepEntry,
  StepResult,
} from '../backend.ts';
import { checkBatch, checkSlotsDistinct } from '../check-batch.ts';
import { runHostStage } from '../host-stage.ts';
import { StepQueue } from '../step-queue.ts';
import { NullCache } from './null-cache.ts';

export interface NullBackendOptions {
  /** Milliseconds that a step takes. Default: none. */
  stepMs?(batch: ForwardBatch): number;
  /** How time passes: a timer, or a virtual clock that is moved on. Default: at once. */
  wait?(ms: number): Promise<void>;
  /** Also check, at a cost that grows with the context: no slot written twice in a step, every visible key written before. Default: true. */
  strict?: boolean;
  /** Replaces the token of a row. `undefined` leaves it. */
  token?(row: { position: number; contextHash: number; logitRow: number }): number | undefined;
  memoryBytes?: number | null;
}

const EMPTY_CONTEXT = 0x811c9dc5;

/** Hash of a context with one more token. */
export function extendHash(contextHash: number, tokenId: number): number {
  let h = Math.imul(contextHash ^ tokenId, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The token that follows a context on this backend, with the seed as two words and no id forbidden. */
export function expectedToken(context: readonly number[], vocabSize: number, seed: readonly [number, number] = [0, 0], choice = 0): number {
  return tokenOf(context.reduce(extendHash, EMPTY_CONTEXT), vocabSize, seed[0], seed[1], choice);
}

function tokenOf(contextHash: number, vocabSize: number, seedLow: number, seedHigh: number, choice: number): number {
  return extendHash(extendHash(extendHash(contextHash, seedLow), seedHigh), choice) % vocabSize;
}

class NullProgram implements Program {
  readonly plan: Plan;
  readonly limits: Pick<CompileOptions, 'maxTokens' | 'maxLogitRows'>;
  readonly vocabSize: number;
  readonly kernels: Program['kernels'];
  readonly weightBytes = 0;
  readonly arenaBytes = 0;

  constructor(plan: Plan, limits: Pick<CompileOptions, 'maxTokens' | 'maxLogitRows'>) {
    this.plan = plan;
    this.limits = limits;
    this.vocabSize = plan.outputs.logits === undefined ? 0 : plan.values[plan.outputs.logits].width;
    this.kernels = plan.nodes.map(({ name, op }) => ({ node: name, op, kernel: 'none' }));
  }

  close(): void {
    // holds nothing
  }
}

export class NullBackend implements Backend {
  readonly info: BackendInfo;
  /** Steps run so far. */
  numSteps = 0;
  readonly #options: NullBackendOptions;
  #sampled = new Int32Array(0);
  readonly #steps = new StepQueue();
  #closed = false;

  constructor(options: NullBackendOptions = {}) {
    this.#options = options;
    this.info = { name: 'null', isa: 'none', numThreads: 0, memoryBytes: options.memoryBytes ?? null };
  }

  async compile(plan: Plan, _weights: WeightSource | null, options: CompileOptions): Promise<Program> {
    return new NullProgram(plan, options);
  }

  async describe(plan: Plan, limits: ProgramLimits): Promise<ProgramDescription> {
    return new NullProgram(plan, limits);
  }

  async createCache(spec: CacheSpec): Promise<Cache> {
    return new NullCache(spec);
  }

  execute(step: Step): Promise<StepResult> {
    return this.#steps.run(() => this.#execute(step));
  }

  readBlocks(cache: Cache, blocks: Int32Array): Promise<Uint8Array> {
    return this.#steps.run(async () => nullCache(cache).readBlocks(blocks));
  }

  writeBlocks(cache: Cache, blocks: Int32Array, bytes: Uint8Array): Promise<void> {
    return this.#steps.run(async () => nullCache(cache).writeBlocks(blocks, bytes));
  }

  async close(): Promise<void> {
    await this.#steps.ended();
    this.#closed = true;
  }

  async #execute(step: Step): Promise<StepResult> {
    if (this.#closed) throw new MillraceError('ENGINE_CLOSED', 'The null backend is closed.');
    try {
      let hashes: Uint32Array = new Uint32Array(0);
      let forwardMs = 0;
      for (const entry of step.entries) {
        hashes = this.#runEntry(entry);
        forwardMs += this.#options.stepMs?.(entry.batch) ?? 0;
      }
      if (forwardMs > 0) await this.#options.wait?.(forwardMs);
      this.numSteps++;
      const last = step.entries[step.entries.length - 1];
      const program = programOf(last);
      const outputs = Object.fromEntries((step.readOutputs ?? []).map((name) => [name, zeros(program.plan, name, last.batch)]));
      const masks = await this.#runHost(step, program, last.batch.numLogitRows);
      const sampled = this.#sample(last.batch, hashes, step.sampling, masks, program.vocabSize);
      if (step.sampling !== null) this.#sampled = sampled.tokenIds.slice();
      return { ...sampled, outputs, forwardMs, sampleMs: 0 };
    } catch (thrown) {
      throw toMillraceError(thrown, 'BACKEND_STEP_FAILED');
    }
  }

  /** Returns the context hash of each token. */
  #runEntry(entry: StepEntry): Uint32Array {
    const { batch } = entry;
    const { plan, limits } = programOf(entry);
    const cache = cacheOf(entry);
    checkBatch(batch, { plan, limits, cache: cache?.spec ?? null, numSampled: this.#sampled.length });
    if (cache === null) return Uint32Array.from({ length: batch.numTokens }, (_, token) => extendHash(EMPTY_CONTEXT, batch.tokenIds[token]));
    if (this.#options.strict !== false) checkSlotsDistinct(batch, cache.spec);
    for (let copy = 0; copy < batch.numCopies; copy++) {
      const [group, source, destination, tokens] = batch.copies.subarray(4 * copy, 4 * copy + 4);
      cache.copyBlock(group, source, destination, tokens);
    }
    const hashes = new Uint32Array(batch.numTokens);
    const { op } = plan.nodes[plan.nodes.length - 1];
    if (op === 'kv-rotate') {
      cache.rotate(batch);
      return hashes;
    }
    for (let row = 0; row < batch.numRows; row++) {
      for (let token = batch.rowStart[row]; token < batch.rowStart[row + 1]; token++) {
        const before = cache.hashBefore(batch, row, token, EMPTY_CONTEXT);
        const id = batch.tokenIds[token];
        hashes[token] = extendHash(before, id >= 0 ? id : this.#sampled[-1 - id]);
        cache.write(batch, token, hashes[token]);
      }
      if (this.#options.strict !== false) cache.checkVisible(batch, row);
    }
    if (op === 'kv-compress' && batch.kept !== undefined) cache.compress(batch, batch.kept);
    return hashes;
  }

  async #runHost({ host }: Step, { vocabSize }: NullProgram, numLogitRows: number): Promise<Uint32Array | null> {
    if (host === undefined) return null;
    return runHostStage(host, host.needsLogits ? new Float32Array(numLogitRows * vocabSize) : null, numLogitRows, vocabSize);
  }

  #sample(batch: ForwardBatch, hashes: Uint32Array, sampling: SamplingBatch | null, masks: Uint32Array | null, vocabSize: number) {
    const numRows = sampling === null ? 0 : batch.numLogitRows;
    let maxTopLogprobs = 0;
    for (let row = 0; row < numRows; row++) maxTopLogprobs = Math.max(maxTopLogprobs, sampling?.numLogprobs[row] ?? 0);
    const tokenIds = new Int32Array(numRows);
    const corrupted = new Uint8Array(numRows);
    const logprobs = new Float32Array(numRows).fill(NaN);
    for (let row = 0; row < numRows && sampling !== null; row++) {
      const contextHash = hashes[batch.logitTokens[row]];
      const drawn = tokenOf(contextHash, vocabSize, sampling.seed[2 * row], sampling.seed[2 * row + 1], sampling.choice[row]);
      const wanted = this.#options.token?.({ position: sampling.position[row], contextHash, logitRow: row }) ?? drawn;
      const token = firstAllowed(wanted, row, sampling, masks, vocabSize);
      tokenIds[row] = Math.max(0, token);
      if (token < 0) corrupted[row] = rowStates.nothingAllowed;
      else if (sampling.numLogprobs[row] >= 0) logprobs[row] = 0;
    }
    const topTokenIds = new Int32Array(numRows * maxTopLogprobs).fill(-1);
    const topLogprobs = new Float32Array(numRows * maxTopLogprobs).fill(NaN);
    for (let row = 0; row < numRows; row++) {
      // neither seed nor choice moves them, as with a model; the context does, so that a beam search has something to weigh
      const contextHash = hashes[batch.logitTokens[row]];
      const first = tokenOf(contextHash, vocabSize, 0, 0, 0);
      for (let i = 0; i < Math.min(sampling?.numLogprobs[row] ?? 0, vocabSize); i++) {
        topTokenIds[row * maxTopLogprobs + i] = (first + i) % vocabSize;
        topLogprobs[row * maxTopLogprobs + i] = -((contextHash >>> 12) % 64) / 256 - i * (0.25 + (contextHash % 1000) / 1000);
      }
    }
    return { tokenIds, logprobs, topTokenIds, topLogprobs, maxTopLogprobs, corrupted, mirostatMu: new Float32Array(numRows).fill(NaN) };
  }
}

/** The first id from `wanted` on, in a circle, that neither bias nor mask forbids; -1 if none is left. */
function firstAllowed(wanted: number, row: number, batch: SamplingBatch, masks: Uint32Array | null, vocabSize: number): number {
  const forbidden = new Set<number>();
  for (let i = batch.biasStart[row]; i < batch.biasStart[row + 1]; i++) if (batch.biasValues[i] === -Infinity) forbidden.add(batch.biasIds[i]);
  const words = Math.ceil(vocabSize / 32);
  for (let i = 0; i < vocabSize; i++) {
    const id = (wanted + i) % vocabSize;
    const masked = masks !== null && ((masks[row * words + (id >>> 5)] >>> (id & 31)) & 1) === 0;
    if (!masked && !forbidden.has(id)) return id;
  }
  return -1;
}

function programOf({ program }: StepEntry): NullProgram {
  if (program instanceof NullProgram) return program;
  throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a program of another backend.');
}

function cacheOf({ cache }: StepEntry): NullCache | null {
  return cache === null ? null : nullCache(cache);
}

function nullCache(cache: Cache): NullCache {
  if (cache instanceof NullCache) return cache;
  throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a cache of another backend.');
}

function zeros(plan: Plan, name: string, batch: ForwardBatch): Float32Array {
  const value = plan.values[plan.outputs[name] ?? -1];
  if (value === undefined) throw new MillraceError('BACKEND_STEP_FAILED', `Plan ${plan.name} has no output ${name}.`);
  return new Float32Array((value.axis === 'tokens' ? batch.numTokens : batch.numLogitRows) * value.width);
}
