/** The worker thread of `worker-backend.ts`: a `ReferenceBackend` that answers messages. */
import { parentPort } from 'node:worker_threads';
import { invariant, MillraceError } from '../../base/errors.ts';
import type { StepResult } from '../backend.ts';
import type { ReferenceCache } from './cache.ts';
import type { ReferenceProgram } from './program.ts';
import { ReferenceBackend } from './reference-backend.ts';
import { type Ask, type CallBacks, errorAnswer, type FromMain, type FromWorker, Questions, type Requests, type WireStep } from './worker-protocol.ts';

const port = parentPort;
invariant(port !== null, 'this file runs in a worker');

const backend = new ReferenceBackend();
const programs = new Map<number, ReferenceProgram>();
const caches = new Map<number, ReferenceCache>();
const owners = new Map<number, object>();
const questions = new Questions();

port.on('message', (message: FromMain) => {
  if ('answer' in message) questions.settle(message.answer);
  else void respond(message.request);
});

async function respond(request: Ask<Requests>): Promise<void> {
  try {
    const answer = await perform(request);
    post({ answer: { id: request.id, answer } }, buffersToMove(request.kind, answer));
  } catch (thrown) {
    post({ answer: errorAnswer(request.id, thrown) });
  }
}

function perform(request: Ask<Requests>): Promise<unknown> {
  switch (request.kind) {
    case 'compile':
      return compile(request.id, request.ask);
    case 'execute':
      return execute(request.id, request.ask);
    case 'readBlocks':
      return backend.readBlocks(find(caches, request.ask.handle), request.ask.blocks);
    case 'writeBlocks':
      return backend.writeBlocks(find(caches, request.ask.handle), request.ask.blocks, request.ask.bytes).then(() => null);
    case 'createCache':
      return createCache(request.ask);
    case 'closeProgram':
      return Promise.resolve(take(programs, request.ask.handle).close() ?? null);
    case 'closeCache':
      return Promise.resolve(take(caches, request.ask.handle).close() ?? null);
  }
}

async function compile(during: number, { handle, plan, owner, limits }: Requests['compile']['ask']): Promise<Requests['compile']['answer']> {
  const ownerObject = owners.get(owner) ?? {};
  owners.set(owner, ownerObject);
  const read = ({ id }: { id: number }) => callBack('weight', during, { weight: id });
  const program = await backend.compileWith(plan, ownerObject, read, limits);
  programs.set(handle, program);
  return { kernels: program.kernels, weightBytes: program.weightBytes, arenaBytes: program.arenaBytes };
}

async function createCache({ handle, spec }: Requests['createCache']['ask']): Promise<Requests['createCache']['answer']> {
  const cache = await backend.createCache(spec);
  caches.set(handle, cache);
  return { sizeBytes: cache.sizeBytes, blockBytes: cache.blockBytes, layout: cache.layout };
}

function execute(during: number, step: WireStep): Promise<StepResult> {
  const { host } = step;
  const process = async (logits: Float32Array | null): Promise<Uint32Array | null> => {
    const answer = await callBack('host', during, { logits });
    if (logits !== null && answer.logits !== null) logits.set(answer.logits);
    return answer.masks;
  };
  return backend.execute({
    entries: step.entries.map(({ program, cache, ...rest }) => ({
      ...rest,
      program: find(programs, program),
      cache: cache === null ? null : find(caches, cache),
    })),
    sampling: step.sampling,
    ...(host === null ? {} : { host: { ...host, process } }),
    readOutputs: step.readOutputs,
  });
}

function callBack<Kind extends keyof CallBacks>(kind: Kind, during: number, ask: CallBacks[Kind]['ask']): Promise<CallBacks[Kind]['answer']> {
  return questions.ask((id) => post({ callBack: { id, kind, during, ask } as Ask<CallBacks> }));
}

function post(message: FromWorker, move: ArrayBuffer[] = []): void {
  port?.postMessage(message, move);
}

function buffersToMove(kind: keyof Requests, answer: unknown): ArrayBuffer[] {
  if (kind === 'execute') return buffersOf(answer as StepResult);
  return kind === 'readBlocks' ? [(answer as Uint8Array).buffer as ArrayBuffer] : [];
}

function buffersOf(result: StepResult): ArrayBuffer[] {
  const arrays = [...Object.values(result.outputs), result.logprobs, result.topLogprobs];
  return [...new Set(arrays.filter((array) => array.byteLength > 0).map((array) => array.buffer as ArrayBuffer))];
}

function find<T>(table: Map<number, T>, handle: number): T {
  const found = table.get(handle);
  if (found === undefined) throw new MillraceError('BACKEND_STEP_FAILED', 'The step names a program or cache that is closed.');
  return found;
}

function take<T>(table: Map<number, T>, handle: number): T {
  const found = find(table, handle);
  table.delete(handle);
  return found;
}
