/** Entry of the encoding worker: encodes long texts off the main thread, on the tables that it shares with it. */
import { parentPort, workerData } from 'node:worker_threads';
import { toMillraceError } from '../base/errors.ts';
import { Encoder, type EncoderData } from './encoder.ts';
import type { EncodeOptions } from './tokenizer.ts';

/** Sent to the worker. */
export interface EncodeJob {
  readonly jobId: number;
  readonly text: string;
  readonly options: EncodeOptions;
}

/** Sent back: that it has begun; for each text its ids, or why there are none. */
export type EncodeAnswer =
  | { readonly ready: true }
  | { readonly jobId: number; readonly ids: Int32Array }
  | { readonly jobId: number; readonly code: string; readonly message: string };

const port = parentPort;
if (port !== null) {
  const encoder = new Encoder(workerData as EncoderData);
  port.on('message', ({ jobId, text, options }: EncodeJob) => {
    try {
      const ids = encoder.encode(text, options);
      port.postMessage({ jobId, ids } satisfies EncodeAnswer, [ids.buffer as ArrayBuffer]);
    } catch (thrown) {
      const { code, message } = toMillraceError(thrown);
      port.postMessage({ jobId, code, message } satisfies EncodeAnswer);
    }
  });
  port.postMessage({ ready: true } satisfies EncodeAnswer);
}
