import type { OutputEvent } from '../chat/output-events.ts';
import type { Engine } from '../engine/engine.ts';
import type { FinishReason, Usage } from '../engine/request-stream.ts';
import { ChatReading } from './choice-output.ts';
import { readChatCompletion } from './openai/request.ts';
import type { ChatCompletionBody } from './openai/schemas.ts';
import { defaultLimits } from './options.ts';

/** The last event of an answer. */
export interface ChatEnd {
  readonly type: 'end';
  readonly finishReason: FinishReason | 'tool_calls';
  readonly usage: Usage;
  /** Of `usage.completionTokens`. */
  readonly reasoningTokens: number;
}

/**
 * What a chat completion answers, as events and without HTTP: for the adapters of other libraries, which then support what the API supports.
 * Begins when it is first asked for an event; leaving the loop aborts the generation.
 * @param body as of `/v1/chat/completions`, of one choice; its types are taken on trust
 * @throws what the endpoint refuses, REQUEST_ABORTED
 */
export async function* chatEvents(
  engine: Engine,
  body: ChatCompletionBody,
  signal?: AbortSignal,
): AsyncGenerator<OutputEvent | ChatEnd, void, undefined> {
  const request = readChatCompletion({ ...body, n: 1 }, defaultLimits);
  const reading = new ChatReading({ engine }, request);
  const { markerTokenIds, calls, request: held } = reading.generating;
  const [input] = held.inputs;
  if (input === undefined) return;
  const stream = engine.generate(input, held.params, {
    markerTokenIds,
    calls,
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    const { promptTokenIds } = await stream.admitted;
    const output = reading.read(promptTokenIds);
    for await (const delta of stream) {
      yield* output.push(delta);
      if (delta.finishReason === null) continue;
      const finishReason = delta.finishReason === 'stop' && output.hasCalls ? 'tool_calls' : delta.finishReason;
      yield { type: 'end', finishReason, usage: stream.usage, reasoningTokens: output.reasoningTokens };
    }
  } finally {
    stream.abort();
  }
}
