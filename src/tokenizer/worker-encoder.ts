/** The main thread's side of the encoding worker: started at the first long text, ended by `close`. */
import type { Worker } from 'node:worker_threads';
import { type ErrorCode, errorTable, MillraceError } from '../base/errors.ts';
import { startWorker } from '../base/start-worker.ts';
import type { EncodeAnswer, EncodeJob } from './encode-worker.ts';
import type { EncoderData } from './encoder.ts';
import type { EncodeOptions } from './tokenizer.ts';

interface Waiting {
  resolve(ids: Int32Array): void;
  reject(error: MillraceError): void;
}

export class WorkerEncoder {
  readonly #data: EncoderData;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | null = null;
  #nextJobId = 0;
  #closed = false;

  constructor(data: EncoderData) {
    this.#data = data;
  }

  /** @throws ENGINE_CLOSED after `close`; whatever the encoder throws; INTERNAL when the worker dies */
  encode(text: string, options: EncodeOptions): Promise<Int32Array> {
    if (this.#closed) return Promise.reject(new MillraceError('ENGINE_CLOSED', 'The tokenizer is closed.'));
    let worker: Worker;
    try {
      worker = this.#worker ??= this.#start();
    } catch (cause) {
      return Promise.reject(new MillraceError('INTERNAL', { message: 'The encoding worker cannot be started.', cause }));
    }
    const jobId = this.#nextJobId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(jobId, { resolve, reject });
      // A process with nothing else to do waits for the answer, but not for an idle worker.
      worker.ref();
      worker.postMessage({ jobId, text, options } satisfies EncodeJob);
    });
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
    worker.on('message', (answer: EncodeAnswer) => this.#settle(answer));
    worker.on('error', (cause) => this.#lose(worker, cause));
    worker.on('exit', () => this.#lose(worker, new Error('it exited')));
    worker.unref();
    return worker;
  }

  #settle(answer: EncodeAnswer): void {
    const waiting = this.#waiting.get(answer.jobId);
    this.#waiting.delete(answer.jobId);
    if (this.#waiting.size === 0) this.#worker?.unref();
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
    for (const { reject } of waiting) reject(error);
  }
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorTable, code);
}
