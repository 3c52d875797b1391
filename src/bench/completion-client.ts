/** One streaming request to an OpenAI-compatible server, timed as its user sees it. */
import type { Clock } from '../base/clock.ts';

export interface CompletionRequest {
  /** Up to and including `/v1`. */
  readonly baseUrl: string;
  readonly model: string;
  readonly apiKey: string | null;
  readonly promptTokenIds: readonly number[];
  readonly maxTokens: number;
  readonly seed: number;
  readonly signal?: AbortSignal;
}

/** What was seen of one request; times in milliseconds of the given clock. */
export interface CompletionOutcome {
  readonly error: string | null;
  readonly sentMs: number;
  /** Arrival of each chunk that carried text. */
  readonly chunksMs: readonly number[];
  readonly endMs: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** Sends the request and reads its stream to the end. Never rejects: a failure is an outcome too. */
export async function complete(request: CompletionRequest, clock: Clock): Promise<CompletionOutcome> {
  const sentMs = clock.nowMs();
  const chunksMs: number[] = [];
  const usage = { prompt: request.promptTokenIds.length, completion: 0 };
  const outcome = (error: string | null): CompletionOutcome => ({
    error,
    sentMs,
    chunksMs,
    endMs: clock.nowMs(),
    promptTokens: usage.prompt,
    completionTokens: usage.completion || chunksMs.length,
  });
  try {
    const response = await post(request);
    if (!response.ok || response.body === null) return outcome(`HTTP ${response.status}: ${(await response.text()).slice(0, 300)}`);
    for await (const data of sseData(response.body)) {
      if (data === '[DONE]') break;
      const event = JSON.parse(data) as StreamEvent;
      if (event.error !== undefined) return outcome(event.error.message ?? 'the stream ended with an error');
      if (event.choices?.some((choice) => choice.text !== undefined && (choice.text !== '' || choice.token_ids?.length)))
        chunksMs.push(clock.nowMs());
      if (event.usage) {
        usage.prompt = event.usage.prompt_tokens ?? usage.prompt;
        usage.completion = event.usage.completion_tokens ?? 0;
      }
    }
    return outcome(chunksMs.length === 0 && usage.completion === 0 ? 'the stream carried no tokens' : null);
  } catch (error) {
    return outcome(describeFailure(error));
  }
}

interface StreamEvent {
  readonly choices?: readonly { readonly text?: string; readonly token_ids?: readonly number[] }[];
  readonly usage?: { readonly prompt_tokens?: number; readonly completion_tokens?: number } | null;
  readonly error?: { readonly message?: string };
}

function post(request: CompletionRequest): Promise<Response> {
  const body = {
    model: request.model,
    prompt: request.promptTokenIds,
    max_tokens: request.maxTokens,
    temperature: 0,
    seed: request.seed,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  };
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (request.apiKey !== null) headers.authorization = `Bearer ${request.apiKey}`;
  const init: RequestInit = { method: 'POST', headers, body: JSON.stringify(body) };
  if (request.signal !== undefined) init.signal = request.signal;
  return fetch(`${request.baseUrl}/completions`, init);
}

function describeFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

/** The `data` fields of a server-sent event stream (WHATWG HTML, section 9.2), one string an event. */
export async function* sseData(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let pending = '';
  let data: string[] = [];
  for await (const bytes of body) {
    pending += decoder.decode(bytes, { stream: true });
    const lines = pending.split(/\r\n|\n|\r(?!$)/);
    pending = lines.pop() ?? '';
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield data.join('\n');
        data = [];
      } else if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
    }
  }
}
