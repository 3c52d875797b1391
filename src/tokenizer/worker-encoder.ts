/** The main thread's side of the encoding worker: started at the first long text, ended by `close`. */
import type { Worker } from 'node:worker_threads';
import { type ErrorCode, errorTable, MillraceError } from '../base/errors.ts';
import { startWorker } from '../base/start-worker.ts';
import type { EncodeAnswer, EncodeJob } from './encode-worker.ts';
import type { EncoderData } from './encoder.ts';
import type { EncodeOptions } from './tokenizer.ts';

/** Milliseconds that a text may take: this, and as much for each part of that many characters. Ordinary patterns take a hundredth. */
const PATIENCE_MS = 20_000;
const PATIENCE_LENGTH = 1 << 20;

interface Waiting {
  readonly job: EncodeJob;
  resolve(ids: Int32Array): void;
  reject(error: MillraceError): void;
}

export class WorkerEncoder {
  readonly #data: EncoderData;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | null = null;
  #nextJobId = 0;
  #closed = false;
  readonly #patienceMs: number;
  #timer: NodeJS.Timeout | null = null;
  /** The worker that has begun to encode; until then no time counts. */
  #ready: Worker | null = null;

  constructor(data: EncoderData, patienceMs = PATIENCE_MS) {
    this.#data = data;
    this.#patienceMs = patienceMs;
  }

  /**
   * @throws ENGINE_CLOSED after `close`; whatever the encoder throws; INTERNAL when the worker dies; PROMPT_TOO_LONG for a text on which the tokenizer's own
   *   pattern takes forever: the others wait that long, and go on with a new worker
   */
  encode(text: string, options: EncodeOptions): Promise<Int32Array> {
    if (this.#closed) return Promise.reject(new MillraceError('ENGINE_CLOSED', 'The tokenizer is closed.'));
    let worker: Worker;
    try {
      worker = this.#worker ??= this.#start();
    } catch (cause) {
      return Promise.reject(new MillraceError('INTERNAL', { message: 'The encoding worker cannot be started.', cause }));
    }
    const job: EncodeJob = { jobId: this.#nextJobId++, text, options };
    return new Promise((resolve, reject) => {
      this.#waiting.set(job.jobId, { job, resolve, reject });
      // A process with nothing else to do waits for the answer, but not for an idle worker.
      worker.ref();
      worker.postMessage(job);
      if (this.#waiting.size === 1) this.#watch();
    });
  }

  /** Sets the time of the text that the worker has now, the first of those that wait. */
  #watch(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const [first] = this.#waiting.values();
    if (first === undefined || this.#worker === null || this.#ready !== this.#worker) return;
    const { length } = first.job.text;
    this.#timer = setTimeout(() => void this.#giveUp(first), this.#patienceMs * Math.ceil(1 + length / PATIENCE_LENGTH));
    this.#timer.unref();
  }

  async #giveUp({ job, reject }: Waiting): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    this.#waiting.delete(job.jobId);
    reject(
      new MillraceError('PROMPT_TOO_LONG', {
        message: "The tokenizer's own pattern takes too long on this text, as on long runs of one kind of character.",
        expected: 'an ordinary text',
        received: `${job.text.length} characters`,
      }),
    );
    await worker?.terminate();
    if (this.#waiting.size === 0) return;
    try {
      const next = this.#worker ?? this.#start();
      this.#worker = next;
      next.ref();
      for (const { job: other } of this.#waiting.values()) next.postMessage(other);
      this.#watch();
    } catch (cause) {
      this.#failAll(new MillraceError('INTERNAL', { message: 'The encoding worker cannot be started.', cause }));
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const worker = this.#worker;
    this.#worker = null;
    this.#failAll(new MillraceError('ENGINE_CLOSED', 'The tokenizer was closed.'));
    await worker?.terminate();
  }

  #start(): Worker {
    const worker = startWorker('./encode-worker', import.meta.url, { workerData: this.#data });
    worker.on('message', (answer: EncodeAnswer) => this.#receive(worker, answer));
    worker.on('error', (cause) => this.#lose(worker, cause));
    worker.on('exit', () => this.#lose(worker, new Error('it exited')));
    worker.unref();
    return worker;
  }

  #receive(worker: Worker, answer: EncodeAnswer): void {
    if (this.#worker !== worker) return;
    if ('ready' in answer) {
      this.#ready = worker;
      this.#watch();
      return;
    }
    const waiting = this.#waiting.get(answer.jobId);
    this.#waiting.delete(answer.jobId);
    if (this.#waiting.size === 0) this.#worker?.unref();
    this.#watch();
    if ('ids' in answer) waiting?.resolve(answer.ids);
    else waiting?.reject(new MillraceError(isErrorCode(answer.code) ? answer.code : 'INTERNAL', answer.message));
  }

  /** The next text starts a new worker. */
  #lose(worker: Worker, cause: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    this.#failAll(new MillraceError('INTERNAL', { message: `The encoding worker ended: ${cause.message}.`, cause }));
  }

  #failAll(error: MillraceError): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#watch();
    for (const { reject } of waiting) reject(error);
  }
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorTable, code);
}
