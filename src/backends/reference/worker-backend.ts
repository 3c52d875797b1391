/** The reference backend in a thread of its own, so that the event loop stays free while a step runs: what serves where nothing native does. */
import type { Worker } from 'node:worker_threads';
import { MillraceError } from '../../base/errors.ts';
import { startWorker } from '../../base/start-worker.ts';
import type { Plan } from '../../plan/plan.ts';
import type { WeightSource } from '../../weights/weight-source.ts';
import type {
  Backend,
  BackendInfo,
  Cache,
  CacheSpec,
  CompileOptions,
  HostStage,
  Program,
  ProgramDescription,
  ProgramLimits,
  Step,
  StepResult,
} from '../backend.ts';
import { describeProgram } from './program.ts';
import { weightReader } from './weight-pool.ts';
import {
  type Ask,
  type CallBacks,
  errorAnswer,
  type FromMain,
  type FromWorker,
  packBatch,
  packSampling,
  Questions,
  type Requests,
  type WireProgram,
  type WireStep,
} from './worker-protocol.ts';

class WorkerProgram implements Program {
  readonly handle: number;
  readonly plan: Plan;
  readonly kernels: WireProgram['kernels'];
  readonly weightBytes: number;
  readonly arenaBytes: number;
  readonly close: () => void;

  constructor(handle: number, plan: Plan, { kernels, weightBytes, arenaBytes }: WireProgram, close: () => void) {
    this.handle = handle;
    this.plan = plan;
    this.kernels = kernels;
    this.weightBytes = weightBytes;
    this.arenaBytes = arenaBytes;
    this.close = close;
  }
}

class WorkerCache implements Cache {
  readonly handle: number;
  readonly spec: CacheSpec;
  readonly sizeBytes: number;
  readonly blockBytes: readonly number[];
  readonly layout: string;
  readonly close: () => void;

  constructor(handle: number, spec: CacheSpec, { sizeBytes, blockBytes, layout }: Requests['createCache']['answer'], close: () => void) {
    this.handle = handle;
    this.spec = spec;
    this.sizeBytes = sizeBytes;
    this.blockBytes = blockBytes;
    this.layout = layout;
    this.close = close;
  }
}

/** Answers what the worker asks while it works on one request. */
type Responder = (callBack: Ask<CallBacks>) => Promise<unknown>;

export class WorkerReferenceBackend implements Backend {
  readonly info: BackendInfo = { name: 'reference', isa: 'typescript', numThreads: 1, memoryBytes: null };
  readonly #worker: Worker;
  readonly #questions = new Questions();
  readonly #responders = new Map<number, Responder>();
  readonly #owners = new WeakMap<WeightSource, number>();
  #nextHandle = 1;
  #failure: MillraceError | null = null;
  #isClosing = false;

  constructor() {
    this.#worker = startWorker('./worker-main', import.meta.url);
    this.#worker.on('message', (message: FromWorker) => this.#receive(message));
    this.#worker.on('error', (cause) => this.#fail(new MillraceError('BACKEND_STEP_FAILED', { message: 'The reference worker failed.', cause })));
    this.#worker.on('exit', () => this.#fail(new MillraceError('ENGINE_CLOSED', 'The reference backend is closed.')));
    this.#worker.unref();
  }

  async compile(plan: Plan, weights: WeightSource, options: CompileOptions): Promise<Program> {
    const handle = this.#nextHandle++;
    const owner = this.#owners.get(weights) ?? handle;
    this.#owners.set(weights, owner);
    const read = weightReader(plan, weights, options.onProgress);
    const limits = { maxTokens: options.maxTokens, maxLogitRows: options.maxLogitRows };
    const compiled = await this.#request('compile', { handle, plan, owner, limits }, async (callBack) => {
      if (callBack.kind === 'weight') return read(plan.weights[callBack.ask.weight]);
      return null;
    });
    return new WorkerProgram(handle, plan, compiled, () => this.#forget('closeProgram', handle));
  }

  async describe(plan: Plan, limits: ProgramLimits): Promise<ProgramDescription> {
    return describeProgram(plan, limits);
  }

  async createCache(spec: CacheSpec): Promise<Cache> {
    const handle = this.#nextHandle++;
    const created = await this.#request('createCache', { handle, spec });
    return new WorkerCache(handle, spec, created, () => this.#forget('closeCache', handle));
  }

  async execute(step: Step): Promise<StepResult> {
    const { host } = step;
    return this.#request('execute', packStep(step), async (callBack) =>
      callBack.kind === 'host' && host ? runHost(host, callBack.ask.logits) : null,
    );
  }

  // copies are sent: cloning an array clones all of the buffer behind it
  async readBlocks(cache: Cache, blocks: Int32Array): Promise<Uint8Array> {
    return this.#request('readBlocks', { handle: handleOf(cache), blocks: blocks.slice() });
  }

  async writeBlocks(cache: Cache, blocks: Int32Array, bytes: Uint8Array): Promise<void> {
    await this.#request('writeBlocks', { handle: handleOf(cache), blocks: blocks.slice(), bytes: new Uint8Array(bytes) });
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    await this.#worker.terminate();
  }

  #request<Kind extends keyof Requests>(kind: Kind, ask: Requests[Kind]['ask'], responder?: Responder): Promise<Requests[Kind]['answer']> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#worker.ref();
    let asked = 0;
    const answer = this.#questions.ask<Requests[Kind]['answer']>((id) => {
      asked = id;
      if (responder !== undefined) this.#responders.set(id, responder);
      this.#post({ request: { id, kind, during: 0, ask } as Ask<Requests> });
    });
    return answer.finally(() => {
      this.#responders.delete(asked);
      // Not while it ends: `close` waits for the exit, and nothing else may keep the process alive until then.
      if (this.#questions.size === 0 && !this.#isClosing) this.#worker.unref();
    });
  }

  #forget(kind: 'closeProgram' | 'closeCache', handle: number): void {
    this.#request(kind, { handle }).catch(() => undefined); // closed twice, or the worker is gone: nothing is held either way
  }

  #receive(message: FromWorker): void {
    if ('answer' in message) this.#questions.settle(message.answer);
    else void this.#respond(message.callBack);
  }

  async #respond(callBack: Ask<CallBacks>): Promise<void> {
    const { id, during } = callBack;
    try {
      const answer = await (this.#responders.get(during) ?? (async () => null))(callBack);
      // Weights are moved, not copied: nobody else holds them.
      this.#post({ answer: { id, answer } }, callBack.kind === 'weight' && answer instanceof Float32Array ? [answer.buffer as ArrayBuffer] : []);
    } catch (thrown) {
      this.#post({ answer: errorAnswer(id, thrown) });
    }
  }

  #post(message: FromMain, move: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, move);
  }

  #fail(reason: MillraceError): void {
    this.#failure ??= reason;
    this.#questions.failAll(this.#failure);
  }
}

async function runHost(host: HostStage, logits: Float32Array | null): Promise<CallBacks['host']['answer']> {
  const masks = await host.process(logits);
  return { logits, masks };
}

function handleOf(cache: Cache): number {
  if (cache instanceof WorkerCache) return cache.handle;
  throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a cache of another backend.');
}

function packStep({ entries, sampling, host, readOutputs }: Step): WireStep {
  return {
    entries: entries.map(({ program, cache, batch, embeddings }) => {
      if (!(program instanceof WorkerProgram) || !(cache === null || cache instanceof WorkerCache)) {
        throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a program or cache of another backend.');
      }
      const { numPositionAxes, input, values } = program.plan;
      const used = embeddings instanceof Float32Array ? embeddings.slice(0, batch.numTokens * values[input.value].width) : embeddings;
      return {
        program: program.handle,
        cache: cache?.handle ?? null,
        batch: packBatch(batch, cache?.spec.groups.length ?? 0, numPositionAxes),
        ...(used === undefined ? {} : { embeddings: used }),
      };
    }),
    sampling: sampling === null ? null : packSampling(sampling),
    host: host === undefined ? null : { needsLogits: host.needsLogits, deadlineMs: host.deadlineMs },
    readOutputs: readOutputs ?? [],
  };
}
