import { randomUUID } from 'node:crypto';
import { MillraceError } from '../../base/errors.ts';
import { ChatReading } from '../choice-output.ts';
import { answer, beginKept, type Generation, relay, sendKept } from '../generation.ts';
import { readChatCompletion } from '../openai/request.ts';
import { countPromptTokens } from '../prompt-tokens.ts';
import { responsesDialect } from '../responses/dialect.ts';
import { chatOfResponse, inputItems, shownItem } from '../responses/request.ts';
import { ResponsesResponse } from '../responses/response.ts';
import { type InputItem, inputTokensBody, type ResponsesBody, responsesBody } from '../responses/schemas.ts';
import type { ResponseBody, StoredResponse } from '../responses/store.ts';
import { type Call, get, post, remove } from './route.ts';

export const responses = post(['/v1/responses'], 'Answers a conversation, as items.', responsesBody, (call) => {
  const { body, exchange } = call;
  exchange.rename(body.request_id);
  const isStored = body.store ?? true;
  if (!body.background) return answer(prepare(call, isStored, () => {}).generation, call);
  if (isStored) return startInBackground(call);
  throw new MillraceError('REQUEST_INVALID', { message: 'A background response has to be stored.', expected: '"store" true', param: 'store' });
});

interface Prepared {
  readonly generation: Generation & { readonly id: string };
  readonly stored: StoredResponse;
}

/** @param onFormat given the format of the answer once there is one */
function prepare(call: Call<ResponsesBody>, isStored: boolean, onFormat: (format: ResponsesResponse) => void): Prepared {
  const { context, body, exchange } = call;
  const model = context.models.find(body.model);
  const id = `resp_${randomUUID().replaceAll('-', '')}`;
  const { input, before } = conversation(call, id);
  const request = readChatCompletion(chatOfResponse({ ...body, input: before }), context.options.limits);
  const reading = new ChatReading(model, request);
  const stored = {
    id,
    tenant: exchange.tenant,
    isBackground: body.background ?? false,
    input,
    before,
    body: { id, status: 'queued', output: [] },
  } as StoredResponse;
  const session = {
    previousId: body.previous_response_id || null,
    isStored,
    isBackground: stored.isBackground,
    onChange: (changed: ResponseBody) => (isStored ? keep(call, stored, changed) : undefined),
  };
  const generation: Prepared['generation'] = {
    model,
    modelName: body.model || (model.names[0] ?? ''),
    id,
    idPrefix: 'resp',
    dialect: responsesDialect,
    ...reading.generating,
    format: (head, [conversation]) => {
      const format = new ResponsesResponse(head, conversation, reading, body, session);
      onFormat(format);
      return format;
    },
  };
  return { generation, stored };
}

/** What the request gives, and that behind what it continues. */
function conversation({ context, body, exchange }: Call<ResponsesBody>, id: string): { readonly input: InputItem[]; readonly before: InputItem[] } {
  const previous = body.previous_response_id
    ? conversationOf(context.responses.find(body.previous_response_id, exchange.tenant, 'previous_response_id'))
    : [];
  const input = [...inputItems(body, id, (itemId, param) => context.responses.findItem(itemId, exchange.tenant, param))];
  if (previous.length > 0) chatOfResponse({ ...body, input }); // so that an error names the item by its place in this request
  return { input, before: [...previous, ...input] };
}

export const countInputTokens = post(['/v1/responses/input_tokens'], 'Counts the prompt tokens of a response.', inputTokensBody, async (call) => {
  const { context, body } = call;
  const model = context.models.find(body.model);
  const chat = chatOfResponse({ ...body, input: conversation(call, '').before });
  return { object: 'response.input_tokens', input_tokens: await countPromptTokens(model, chat, context.options.limits) };
});

/** One in the foreground is stored when it has ended; one in the background was stored when it was queued. */
function keep({ context }: Call<ResponsesBody>, stored: StoredResponse, body: ResponseBody): void {
  const isOpen = body.status === 'queued' || body.status === 'in_progress';
  stored.body = body;
  if (stored.isBackground) context.responses.update(stored.id, body);
  else if (!isOpen) context.responses.add(stored);
}

async function startInBackground(call: Call<ResponsesBody>): Promise<object | undefined> {
  const { context, exchange, reply, body } = call;
  const formats: ResponsesResponse[] = [];
  const { generation, stored } = prepare(call, true, (made) => formats.push(made));
  const stream = context.kept.open({ id: generation.id, tenant: exchange.tenant, framing: responsesDialect.framing, needsReader: false });
  const running = await beginKept(generation, call, stream);
  try {
    context.responses.add(stored);
  } catch (thrown) {
    context.kept.delete(stream.id);
    throw thrown;
  }
  const queued = formats[0]?.queued();
  for (const event of queued?.events ?? []) stream.send(event);
  void relay(running, stream, generation, stream.signal, reply.log);
  if (body.stream) {
    await sendKept(stream, -1, responsesDialect, call);
    return undefined;
  }
  reply.header('x-request-id', exchange.id);
  return queued?.response;
}

/** What a response that continues it begins with. */
function conversationOf({ before, body }: StoredResponse): readonly InputItem[] {
  if (body.status === 'completed' || body.status === 'incomplete') return [...before, ...(body.output as readonly InputItem[])];
  throw new MillraceError('REQUEST_INVALID', {
    message: 'The previous response has not ended well, so nothing can continue it.',
    expected: 'a response that is completed or incomplete',
    received: body.status,
    param: 'previous_response_id',
  });
}

const idOf = ({ request }: Call<unknown>) => (request.params as { id: string }).id;
const storedOf = (call: Call<unknown>) => call.context.responses.find(idOf(call), call.exchange.tenant);

export const retrieveResponse = get(
  ['/v1/responses/:id'],
  'A stored response; with `?stream=true`, its events behind number `starting_after`, while they are kept.',
  async (call) => {
    const query = call.request.query as Readonly<Record<string, unknown>>;
    if (query.stream !== 'true') return storedOf(call).body;
    const stream = call.context.kept.find(idOf(call), call.exchange.tenant);
    await sendKept(stream, wholeNumber(query.starting_after, 'starting_after', -1), responsesDialect, call);
    return undefined;
  },
);

export const deleteResponse = remove(['/v1/responses/:id'], 'Forgets a stored response; one in the background is cancelled.', (call) => {
  const { id } = storedOf(call);
  call.context.responses.delete(id);
  call.context.kept.delete(id);
  return { id, object: 'response', deleted: true };
});

/** The body of a request to cancel is empty, or anything. */
export const cancelResponse: ReturnType<typeof get> = {
  ...get(['/v1/responses/:id/cancel'], 'Ends a response that runs in the background.', (call) => {
    const stored = storedOf(call);
    if (!stored.isBackground) throw new MillraceError('REQUEST_INVALID', 'Only a response in the background can be cancelled.');
    if (stored.body.status === 'queued' || stored.body.status === 'in_progress') {
      call.context.kept.find(stored.id, stored.tenant).abort(new MillraceError('REQUEST_ABORTED', 'The response was cancelled.'));
      call.context.responses.update(stored.id, { ...stored.body, status: 'cancelled' });
    }
    return stored.body;
  }),
  method: 'POST',
};

export const listInputItems = get(
  ['/v1/responses/:id/input_items'],
  'What a stored response was given, earlier responses included; `limit`, `order` (`desc` unless `asc`), `after`.',
  (call) => {
    const { before } = storedOf(call);
    const query = call.request.query as Readonly<Record<string, unknown>>;
    const limit = Math.min(100, Math.max(1, wholeNumber(query.limit, 'limit', 20)));
    const ordered = query.order === 'asc' ? before : before.toReversed();
    const rest = ordered.slice(ordered.findIndex(({ id }) => id === query.after) + 1);
    const data = rest.slice(0, limit);
    return {
      object: 'list',
      data: data.map(shownItem),
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
      has_more: rest.length > limit,
    };
  },
);

function wholeNumber(value: unknown, param: string, fallback: number): number {
  if (value === undefined) return fallback;
  if (typeof value === 'string' && /^\d{1,9}$/.test(value)) return Number(value);
  throw new MillraceError('REQUEST_INVALID', { message: `The parameter ${param} is not a whole number.`, param });
}
