/**
 * Requests that do not keep all of their keys: what a caller may ask for, whether the model can do it, and the programs that run before a step's own (S1).
 * The programs are made from the plan of the model when the first request asks for them; weights are shared.
 */
import type { Backend, Cache, ForwardBatch, Program, StepEntry } from '../backends/backend.ts';
import { invariant, MillraceError } from '../base/errors.ts';
import { REBASE_TOKENS, type RetentionPolicy, type RetentionTask } from '../kv/retention.ts';
import type { KvSequence } from '../kv/sequence.ts';
import { compressionPlan, type Derived, rotationPlan } from '../plan/passes/retain.ts';
import type { Plan } from '../plan/plan.ts';
import type { Request } from '../scheduler/request.ts';
import type { ScheduledBatch } from '../scheduler/scheduled-batch.ts';
import type { WeightSource } from '../weights/weight-source.ts';

/** Keeps the first `sinks` tokens and the last `window` (StreamingLLM), or of each KV head the `compressPrompt` keys of the prompt that matter most (SnapKV). */
export interface RequestKvCache {
  /** First tokens that stay, in whole blocks. Default 4. */
  readonly sinks?: number | undefined;
  /** Tokens that each one sees before it, its own included. */
  readonly window?: number | undefined;
  /** Keys that stay of a longer prompt, those of the observation window included. */
  readonly compressPrompt?: number | undefined;
  /** Last tokens of the prompt, whose attention decides. Default 32. */
  readonly observationWindow?: number | undefined;
  /** Neighbours over which their attention is pooled; odd. Default 7. */
  readonly kernel?: number | undefined;
}

export const MAX_OBSERVATION_WINDOW = 256;
export const MAX_POOLING = 255;

export interface RetentionParts {
  readonly backend: Backend;
  readonly cache: Cache;
  readonly plan: Plan;
  /** Where the weights of the model's own program came from; null for backends without. */
  readonly weights: WeightSource | null;
  readonly maxModelLen: number;
  /** Positions behind a window begin anew when they have gone so far; a whole number of blocks. Default: REBASE_TOKENS. */
  readonly rebaseTokens?: number | undefined;
}

/** Prompt and output of a request with a window, in tokens: their ids are kept. */
const MAX_WINDOWED_TOKENS = 2 ** 28;

/** Tokens that a request may generate. Behind a window there is always room; who asks for no number gets what others would. */
export function outputRoom(policy: RetentionPolicy | null, promptTokens: number, maxModelLen: number, asked: number | undefined): number {
  const room = maxModelLen - promptTokens;
  if (policy?.kind !== 'window') return room;
  return asked === undefined ? Math.max(1, room) : MAX_WINDOWED_TOKENS - promptTokens;
}

/** Beams share the blocks of what they have in common. @throws REQUEST_INVALID */
export function refuseWithBeams(asked: RequestKvCache | undefined): void {
  if (asked !== undefined)
    throw invalid('Beam search keeps all keys of its texts.', 'a request without kv_cache, or without beam search', JSON.stringify(asked));
}

const fields = ['sinks', 'window', 'compressPrompt', 'observationWindow', 'kernel'] as const;

export class RetentionPrograms {
  readonly #parts: RetentionParts;
  readonly #programs = new Map<RetentionPolicy['kind'], Promise<Program>>();
  readonly #ready = new Map<RetentionPolicy['kind'], Program>();

  constructor(parts: RetentionParts) {
    this.#parts = parts;
  }

  /**
   * What a request asks for; null where a prompt is too short to lose anything. The program that it needs is there when it resolves.
   * @throws REQUEST_INVALID where the fields are wrong or the model cannot do it
   */
  async policyOf(asked: RequestKvCache, promptTokens: number): Promise<RetentionPolicy | null> {
    const policy = this.#read(asked, promptTokens);
    if (policy === null) return null;
    const { plan } = this.#derive(policy.kind);
    let made = this.#programs.get(policy.kind);
    if (made === undefined) {
      made = this.#compile(plan, policy.kind);
      this.#programs.set(policy.kind, made);
      made.then(
        (program) => this.#ready.set(policy.kind, program),
        () => this.#programs.delete(policy.kind),
      );
    }
    await made;
    return policy;
  }

  /** What is to run before a step, in this order; the caller puts the step's copies into the first of them. */
  entries(batch: ScheduledBatch): StepEntry[] {
    const entries: StepEntry[] = [];
    for (let row = 0; row < batch.numRows; row++) {
      const request = batch.requests[row];
      const task = request.sequence?.retention?.takeTask() ?? null;
      if (task !== null && request.sequence !== null) entries.push(this.#entry(request, request.sequence, task));
    }
    return entries;
  }

  async close(): Promise<void> {
    for (const program of this.#programs.values()) await program.then((made) => made.close()).catch(() => undefined);
    this.#programs.clear();
  }

  #entry(request: Request, sequence: KvSequence, task: RetentionTask): StepEntry {
    const { cache } = this.#parts;
    const program = this.#ready.get(task.kind === 'rotate' ? 'window' : 'prompt');
    invariant(program !== undefined, `request ${request.id} runs without the program that it needs`);
    const { blockSize, groups } = cache.spec;
    const batch = task.kind === 'rotate' ? rotation(sequence, task, groups.length, blockSize) : observation(request, sequence, task, blockSize);
    return { program, cache, batch };
  }

  #compile(plan: Plan, kind: RetentionPolicy['kind']): Promise<Program> {
    const { backend, cache, weights } = this.#parts;
    const slots = Math.max(...cache.spec.groups.map(({ numBlocks }) => numBlocks)) * cache.spec.blockSize;
    const maxTokens = kind === 'window' ? Math.min(slots, 1 << 24) : MAX_OBSERVATION_WINDOW;
    return backend.compile(plan, weights as WeightSource, { maxTokens, maxLogitRows: 1 });
  }

  #derive(kind: RetentionPolicy['kind']): Derived & { readonly plan: Plan } {
    const derived = kind === 'window' ? rotationPlan(this.#parts.plan) : compressionPlan(this.#parts.plan);
    if (derived.plan !== null) return derived;
    const what = kind === 'window' ? 'keep a window of its tokens only' : 'compress a prompt';
    throw invalid(`This model cannot ${what}: ${derived.problem}.`, 'a request without kv_cache', kind === 'window' ? 'window' : 'compress_prompt');
  }

  #read(asked: RequestKvCache, promptTokens: number): RetentionPolicy | null {
    const unknown = Object.keys(asked).find((name) => !(fields as readonly string[]).includes(name));
    if (unknown !== undefined) throw invalid(`There is no field ${unknown} of kv_cache.`, `some of ${fields.map(spelled).join(', ')}`, unknown);
    const { sinks, window, compressPrompt, observationWindow, kernel } = asked;
    const slides = sinks !== undefined || window !== undefined;
    const compresses = compressPrompt !== undefined || observationWindow !== undefined || kernel !== undefined;
    if (slides === compresses)
      throw invalid('The field kv_cache must say one thing.', 'either window (and sinks) or compress_prompt', JSON.stringify(asked));
    return slides ? this.#readWindow(asked) : readPrompt(asked, promptTokens);
  }

  #readWindow({ sinks = 4, window }: RequestKvCache): RetentionPolicy {
    const { maxModelLen, cache, rebaseTokens = REBASE_TOKENS } = this.#parts;
    const { blockSize } = cache.spec;
    const sinkTokens = inRange('sinks', sinks, 0, maxModelLen);
    const windowTokens = inRange('window', window, 1, maxModelLen);
    const most = Math.ceil(sinkTokens / blockSize) * blockSize + windowTokens + blockSize;
    if (most > Math.min(maxModelLen, rebaseTokens)) {
      const room = `sinks, in blocks of ${blockSize}, and window, with a block more, within ${Math.min(maxModelLen, rebaseTokens)} tokens`;
      throw invalid('The sinks and the window do not fit the context.', room, `${most} tokens`);
    }
    return { kind: 'window', sinkTokens, windowTokens, rebaseTokens };
  }
}

function readPrompt({ compressPrompt, observationWindow = 32, kernel = 7 }: RequestKvCache, promptTokens: number): RetentionPolicy | null {
  const observingTokens = inRange('observationWindow', observationWindow, 1, MAX_OBSERVATION_WINDOW);
  const poolTokens = inRange('kernel', kernel, 1, MAX_POOLING);
  if (poolTokens % 2 === 0) throw invalid('The field kv_cache.kernel must be odd.', 'an odd number', String(poolTokens));
  const keptTokens = inRange('compressPrompt', compressPrompt, observingTokens + 1, 2 ** 31 - 1);
  return promptTokens <= keptTokens ? null : { kind: 'prompt', promptTokens, keptTokens, observingTokens, poolTokens };
}

function inRange(field: (typeof fields)[number], value: unknown, min: number, max: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  throw invalid(`The field kv_cache.${spelled(field)} cannot be that.`, `an integer from ${min} to ${max}`, JSON.stringify(value) ?? 'nothing');
}

function spelled(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function invalid(message: string, expected: string, received: string): MillraceError {
  return new MillraceError('REQUEST_INVALID', { message, expected, received, param: 'kv_cache' });
}

/** Sinks, from their originals to where they are read; behind them the window, in place. A row each. */
function rotation(sequence: KvSequence, task: RetentionTask & { kind: 'rotate' }, numGroups: number, blockSize: number): ForwardBatch {
  const { retention } = sequence;
  invariant(retention !== null, 'a rotation belongs to a sequence that does not keep all of its tokens');
  const numSinks = retention.numSinkBlocks * blockSize;
  const numTokens = numSinks + task.windowTokens;
  const cacheIndex = Int32Array.from({ length: numTokens }, (_, i) => i);
  const starts = [0, ...(numSinks > 0 ? [numSinks] : []), ...(task.windowTokens > 0 ? [numTokens] : [])];
  const maxBlocks = sequence.numBlocks;
  const tables = Array.from({ length: numGroups }, (_, g) => {
    const current = Array.from(sequence.tables[g].subarray(0, maxBlocks));
    const rows = [...(numSinks > 0 ? [current.map((_, i) => retention.originals[g][i] ?? -1)] : []), ...(task.windowTokens > 0 ? [current] : [])];
    return rows.flat();
  });
  return {
    ...emptyBatch,
    numTokens,
    numRows: starts.length - 1,
    tokenIds: new Int32Array(numTokens),
    positions: cacheIndex.map((i) => (i < numSinks ? task.sinkShift : task.windowShift)),
    rowStart: Int32Array.from(starts),
    cacheIndex,
    visibleEnd: cacheIndex.map((i) => i + 1),
    blockTables: Int32Array.from(tables.flat()),
    maxBlocks,
    slotMapping: slots(sequence, numGroups, cacheIndex, blockSize),
  };
}

/** The last tokens of a prompt once more: they write what is there already, and their queries decide what stays. */
function observation(request: Request, sequence: KvSequence, task: RetentionTask & { kind: 'compress' }, blockSize: number): ForwardBatch {
  const { promptTokens, keptTokens, observingTokens, poolTokens } = task.policy;
  const first = promptTokens - observingTokens;
  const cacheIndex = Int32Array.from({ length: observingTokens }, (_, i) => first + i);
  const numGroups = sequence.tables.length;
  return {
    ...emptyBatch,
    numTokens: observingTokens,
    numRows: 1,
    tokenIds: request.tokenIds.slice(first, promptTokens),
    positions: cacheIndex,
    rowStart: Int32Array.of(0, observingTokens),
    cacheIndex,
    visibleEnd: cacheIndex.map((i) => i + 1),
    blockTables: Int32Array.from(sequence.tables.flatMap((table) => [...table.subarray(0, sequence.numBlocks)])),
    maxBlocks: sequence.numBlocks,
    slotMapping: slots(sequence, numGroups, cacheIndex, blockSize),
    kept: Int32Array.of(keptTokens, poolTokens),
  };
}

/** `[groups, tokens]` */
function slots({ tables }: KvSequence, numGroups: number, cacheIndex: Int32Array, blockSize: number): Int32Array {
  const numTokens = cacheIndex.length;
  return Int32Array.from({ length: numGroups * numTokens }, (_, i) => {
    const index = cacheIndex[i % numTokens];
    return tables[Math.floor(i / numTokens)][Math.floor(index / blockSize)] * blockSize + (index % blockSize);
  });
}

const nothing = new Int32Array(0);
const emptyBatch = { numLogitRows: 0, logitTokens: nothing, copies: nothing, numCopies: 0 };
