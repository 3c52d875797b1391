import type { FastifyReply } from 'fastify';
import { invariant, MillraceError } from '../base/errors.ts';
import type { GenerateOptions } from '../engine/engine.ts';
import type { Admission, GenerationResult, RequestStream } from '../engine/request-stream.ts';
import { type Dialect, openAi } from './dialect.ts';
import { fromThrown } from './errors.ts';
import type { Exchange } from './exchange.ts';
import type { ServedModel } from './model-table.ts';
import type { GenerationRequest } from './openai/request.ts';
import { type ResponseFormat, type ResponseHead, type ResponseSource, sumUsage } from './openai/response.ts';
import { type SseOptions, SseStream } from './sse.ts';

/** One a prompt, so never none. */
export type Sources = readonly [ResponseSource, ...ResponseSource[]];

/** One request for text, ready to run: shared by every endpoint that generates. */
export interface Generation {
  readonly model: ServedModel;
  /** The name that the client used for the model. */
  readonly modelName: string;
  readonly request: GenerationRequest;
  /** OpenAI's unless told otherwise. */
  readonly dialect?: Dialect;
  /** Prefix of the response id, such as `chatcmpl`. */
  readonly idPrefix: string;
  /** Tokens that the format wants apart from the text. */
  readonly markerTokenIds?: ReadonlySet<number>;
  /** Called once, after every prompt was admitted. */
  format(head: ResponseHead, sources: Sources): ResponseFormat;
}

/**
 * Starts the generation and answers it, whole or as a stream.
 * @returns the body, or nothing when the reply was streamed
 * @throws whatever refuses the request, while no byte of the answer is sent
 */
export async function answer(generation: Generation, exchange: Exchange, reply: FastifyReply, sse: SseOptions): Promise<object | undefined> {
  const { model, request } = generation;
  const streams = request.inputs.map((input, index) =>
    model.engine.generate(input, request.params, {
      ...schedulingOf(request, exchange),
      signal: exchange.signal,
      requestId: exchange.generationId(generation.idPrefix, index, request.inputs.length),
      ...(generation.markerTokenIds === undefined ? {} : { markerTokenIds: generation.markerTokenIds }),
    }),
  );
  try {
    const admissions = await Promise.all(streams.map(({ admitted }) => admitted));
    const format = generation.format(headOf(generation, exchange), sourcesOf(request, admissions));
    reply.header('x-request-id', exchange.id);
    if (!request.shape.stream) return format.whole(await Promise.all(streams.map(whole)));
    await sendStream(format, streams, generation, reply, exchange, sse);
    return undefined;
  } catch (thrown) {
    abortAll(streams);
    throw reasonOf(thrown, exchange);
  }
}

/** A tenant is an API key, which clients cannot choose; where none is wanted, the user whom the client names. */
function schedulingOf(
  { scheduling: { user, ...rest } = { user: '' } }: GenerationRequest,
  { tenant }: Exchange,
): Omit<GenerateOptions, 'signal' | 'requestId'> {
  return { ...rest, tenant: tenant === '' ? user : tenant };
}

/** Who aborted the exchange knows why; the engine only knows that it was aborted. */
function reasonOf(thrown: unknown, { signal }: Exchange): MillraceError {
  const error = fromThrown(thrown, 0);
  return error.code === 'REQUEST_ABORTED' && signal.reason instanceof MillraceError ? signal.reason : error;
}

function headOf({ model, modelName, idPrefix, request }: Generation, exchange: Exchange): ResponseHead {
  return {
    id: `${idPrefix}-${exchange.id}`,
    created: Math.floor(Date.now() / 1000),
    model: modelName,
    systemFingerprint: model.systemFingerprint,
    tokenizer: model.engine.tokenizer,
    shape: request.shape,
  };
}

function sourcesOf({ params }: GenerationRequest, admissions: readonly Admission[]): Sources {
  const sources = admissions.map(({ promptTokenIds, seed }, index) => ({ promptTokenIds, seed, firstIndex: index * (params.n ?? 1) }));
  invariant(sources.length > 0, 'a request has a prompt');
  return sources as [ResponseSource, ...ResponseSource[]];
}

async function whole(stream: RequestStream): Promise<GenerationResult> {
  const result = await stream;
  if (result.choices.some(({ finishReason }) => finishReason === 'error')) throw failed();
  return result;
}

function failed(): MillraceError {
  return new MillraceError('BACKEND_STEP_FAILED', 'The generation failed; the log says more.');
}

/** From here on the status is 200: an error becomes a frame. */
async function sendStream(
  format: ResponseFormat,
  streams: readonly RequestStream[],
  { dialect = openAi }: Generation,
  reply: FastifyReply,
  exchange: Exchange,
  options: SseOptions,
): Promise<void> {
  const headers = reply.getHeaders();
  reply.hijack();
  const sse = new SseStream(reply.raw, options, dialect.framing);
  sse.open(headers);
  const pumps = streams.map((stream, index) => pump(stream, index, format, sse));
  try {
    await Promise.all(pumps);
    for (const chunk of format.closing(sumUsage(streams.map(({ usage }) => usage)))) sse.send(chunk);
  } catch (thrown) {
    abortAll(streams);
    await Promise.allSettled(pumps); // no frame may follow the error
    const error = reasonOf(thrown, exchange);
    if (error.status >= 500) reply.log.error({ err: error.cause ?? error }, 'generation failed while streaming');
    sse.send(dialect.errorBody(error));
  }
  sse.end();
}

/** Moves the deltas of one stream to the client, no faster than it reads. */
async function pump(stream: RequestStream, index: number, format: ResponseFormat, sse: SseStream): Promise<void> {
  for await (const delta of stream) {
    if (delta.finishReason === 'error') throw failed();
    for (const chunk of format.chunks(index, delta, stream.usage)) {
      if (!sse.send(chunk)) await sse.drained();
    }
    if (sse.isClosed) return;
  }
}

function abortAll(streams: readonly RequestStream[]): void {
  for (const stream of streams) {
    stream.abort();
    stream.admitted.catch(() => undefined);
  }
}
