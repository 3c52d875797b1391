/** Entry of the worker that reads a large tokenizer: what it parses is gone with it, and only the tables stay. */
import { parentPort, workerData } from 'node:worker_threads';
import { type ErrorCode, toMillraceError } from '../base/errors.ts';
import { tokenizerDataFromFolder, tokenizerDataFromGguf } from '../tokenizer/load-tokenizer.ts';
import type { TokenizerData } from '../tokenizer/tokenizer-data.ts';
import { GgufFile } from '../weights/gguf.ts';

/** Where a tokenizer is. */
export type TokenizerPlace =
  | { readonly kind: 'folder'; readonly path: string; readonly extraEosIds: readonly number[] }
  | { readonly kind: 'gguf'; readonly path: string };

/** Sent back once. */
export type TokenizerAnswer = { readonly data: TokenizerData } | { readonly code: ErrorCode; readonly message: string };

async function read(place: TokenizerPlace): Promise<TokenizerAnswer> {
  try {
    if (place.kind === 'folder') return { data: await tokenizerDataFromFolder(place.path, place.extraEosIds) };
    const file = GgufFile.open(place.path);
    try {
      return { data: tokenizerDataFromGguf(file.metadata) };
    } finally {
      file.close();
    }
  } catch (thrown) {
    const { code, message } = toMillraceError(thrown);
    return { code, message };
  }
}

const answer = await read(workerData as TokenizerPlace);
const { bytes, offsets } = 'data' in answer ? answer.data.tokenBytes : { bytes: null, offsets: null };
parentPort?.postMessage(answer, bytes === null ? [] : [bytes.buffer as ArrayBuffer, offsets.buffer as ArrayBuffer]);
