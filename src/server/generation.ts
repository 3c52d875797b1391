import type { FastifyReply } from 'fastify';
import { invariant, MillraceError } from '../base/errors.ts';
import type { HeldCalls } from '../chat/output-outline.ts';
import type { GenerateOptions } from '../engine/engine.ts';
import type { Admission, GenerationResult, RequestStream } from '../engine/request-stream.ts';
import { type Dialect, openAi } from './dialect.ts';
import { fromThrown } from './errors.ts';
import type { Exchange } from './exchange.ts';
import type { KeptStream } from './kept-streams.ts';
import type { ServedModel } from './model-table.ts';
import type { GenerationRequest } from './openai/request.ts';
import { type ResponseFormat, type ResponseHead, type ResponseSource, slowestTimings, sumUsage } from './openai/response.ts';
import type { Call } from './routes/route.ts';
import { SseStream } from './sse.ts';

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
  /** Id of the response; the prefix and the request's id when absent. */
  readonly id?: string;
  /** Prefix of the response id, such as `chatcmpl`. */
  readonly idPrefix: string;
  /** Tools whose calls are held to their schemas. */
  readonly calls?: HeldCalls;
  /** Tokens that the format wants apart from the text. */
  readonly markerTokenIds?: ReadonlySet<number>;
  /** Called once, after every prompt was admitted. */
  format(head: ResponseHead, sources: Sources): ResponseFormat;
}

/** What an endpoint has at hand when it answers. */
export type AnswerCall = Pick<Call<unknown>, 'context' | 'exchange' | 'reply'>;

/** A generation whose prompts were admitted. */
export interface Running {
  readonly streams: readonly RequestStream[];
  readonly format: ResponseFormat;
}

/** Where frames go: a connection, or a stream that is kept. */
type Sink = Pick<SseStream, 'send' | 'drained' | 'end' | 'isClosed'>;

/**
 * Starts the generation and answers it, whole or as a stream. A stream that asks for it (`x-stream-resume: 1`) outlives its connection for a while;
 * the header `Last-Event-ID` takes it up again, in which case nothing is generated anew.
 * @returns the body, or nothing when the reply was streamed
 * @throws whatever refuses the request, while no byte of the answer is sent
 */
export async function answer(generation: Generation, call: AnswerCall): Promise<object | undefined> {
  const { exchange, reply } = call;
  const { headers } = reply.request;
  if (generation.request.shape.stream && (generation.dialect ?? openAi).framing.identified !== undefined) {
    const lastEventId = headers['last-event-id'];
    if (typeof lastEventId === 'string' && lastEventId !== '') {
      const { stream, after } = call.context.kept.findEvent(lastEventId, exchange.tenant);
      await sendKept(stream, after, generation.dialect ?? openAi, call);
      return undefined;
    }
    if (headers['x-stream-resume'] === '1') return answerKept(generation, call);
  }
  const running = await begin(generation, exchange, exchange.signal);
  reply.header('x-request-id', exchange.id);
  if (!generation.request.shape.stream) return finish(running, exchange.signal);
  const sse = openStream(generation, call);
  await relay(running, sse, generation, exchange.signal, reply.log);
  return undefined;
}

async function answerKept(generation: Generation, call: AnswerCall): Promise<undefined> {
  const { framing } = generation.dialect ?? openAi;
  const stream = call.context.kept.open({
    ...(generation.id === undefined ? {} : { id: generation.id }),
    tenant: call.exchange.tenant,
    framing,
    needsReader: true,
  });
  const running = await beginKept(generation, call, stream);
  void relay(running, stream, generation, stream.signal, call.reply.log);
  await sendKept(stream, -1, generation.dialect ?? openAi, call);
  return undefined;
}

/** Starts a generation that its stream, not the connection, may end. Nothing is kept of one that is refused. */
export async function beginKept(generation: Generation, { context, exchange }: AnswerCall, stream: KeptStream): Promise<Running> {
  try {
    return await begin(generation, exchange, stream.signal);
  } catch (thrown) {
    context.kept.delete(stream.id);
    throw thrown;
  }
}

/** Sends what is kept behind number `after`, and what comes, to the client. */
export async function sendKept(stream: KeptStream, after: number, { framing }: Dialect, { context, reply, exchange }: AnswerCall): Promise<void> {
  stream.checkPosition(after);
  reply.header('x-request-id', exchange.id);
  const headers = reply.getHeaders();
  reply.hijack();
  await stream.attach(new SseStream(reply.raw, context.options, framing), headers, after);
}

/** @throws whatever refuses one of the prompts; the others are aborted */
export async function begin(generation: Generation, exchange: Exchange, signal: AbortSignal): Promise<Running> {
  const { model, request } = generation;
  const streams = request.inputs.map((input, index) =>
    model.engine.generate(input, request.params, {
      ...schedulingOf(request, exchange),
      signal,
      requestId: exchange.generationId(generation.idPrefix, index, request.inputs.length),
      ...(generation.markerTokenIds === undefined ? {} : { markerTokenIds: generation.markerTokenIds }),
      ...(generation.calls === undefined ? {} : { calls: generation.calls }),
    }),
  );
  try {
    const admissions = await Promise.all(streams.map(({ admitted }) => admitted));
    return { streams, format: generation.format(headOf(generation, exchange), sourcesOf(request, admissions)) };
  } catch (thrown) {
    abortAll(streams);
    throw reasonOf(thrown, signal);
  }
}

async function finish({ streams, format }: Running, signal: AbortSignal): Promise<object> {
  try {
    return format.whole(await Promise.all(streams.map(whole)));
  } catch (thrown) {
    abortAll(streams);
    throw reasonOf(thrown, signal);
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
function reasonOf(thrown: unknown, signal: AbortSignal): MillraceError {
  const error = fromThrown(thrown, 0);
  return error.code === 'REQUEST_ABORTED' && signal.reason instanceof MillraceError ? signal.reason : error;
}

function headOf({ model, modelName, id, idPrefix, request }: Generation, exchange: Exchange): ResponseHead {
  return {
    id: id ?? `${idPrefix}-${exchange.id}`,
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

/** From here on the status is 200. */
function openStream({ dialect = openAi }: Generation, { context, reply }: AnswerCall): SseStream {
  const headers = reply.getHeaders();
  reply.hijack();
  const sse = new SseStream(reply.raw, context.options, dialect.framing);
  sse.open(headers);
  return sse;
}

/** Writes a generation to where it goes, to its end; an error becomes a frame. Never throws. */
export async function relay(
  { streams, format }: Running,
  sink: Sink,
  { dialect = openAi }: Generation,
  signal: AbortSignal,
  log: FastifyReply['log'],
): Promise<void> {
  const pumps = streams.map((stream, index) => pump(stream, index, format, sink));
  try {
    await Promise.all(pumps);
    if (!sink.isClosed) {
      const timings = slowestTimings(await Promise.all(streams));
      for (const chunk of format.closing(sumUsage(streams.map(({ usage }) => usage)), timings)) sink.send(chunk);
    }
  } catch (thrown) {
    abortAll(streams);
    await Promise.allSettled(pumps); // no frame may follow the error
    const error = reasonOf(thrown, signal);
    if (error.status >= 500) log.error({ err: error.cause ?? error }, 'generation failed while streaming');
    for (const chunk of format.failing?.(error) ?? []) sink.send(chunk);
    sink.send(dialect.errorBody(error));
  }
  sink.end();
}

/** Moves the deltas of one stream to the client, no faster than it reads. */
async function pump(stream: RequestStream, index: number, format: ResponseFormat, sse: Sink): Promise<void> {
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
