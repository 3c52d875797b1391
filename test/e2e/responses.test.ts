/** The Responses API through the official client: a fake engine replays what models write. */
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeEngine } from './fake-engine.ts';
import { errorOf, type Serving, serve, until } from './serving.ts';

const script =
  '<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Z\u00fcrich"}}\n</tool_call>\n<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>';
const tools: OpenAI.Responses.Tool[] = [
  {
    type: 'function',
    name: 'weather',
    description: 'Tells it.',
    parameters: { type: 'object', properties: { city: { type: 'string' } } },
    strict: false,
  },
  { type: 'function', name: 'stop', parameters: {}, strict: false },
];
const request = { model: 'fake', input: 'How is it?', tools };

type Item = OpenAI.Responses.ResponseOutputItem;
/** What does not differ from one call to the next. */
const plain = (items: readonly Item[]) => items.map((item) => ({ ...item, id: '', call_id: '' }));

describe('a model that writes Hermes calls and thinks', () => {
  let serving: Serving<FakeEngine>;
  let client: OpenAI;
  beforeAll(async () => {
    const outputFormats = { toolCalls: 'hermes', reasoning: 'think' };
    serving = await serve(new FakeEngine({ script, scriptEnds: true, stepMs: 0, outputFormats }));
    client = serving.client;
  });
  afterAll(() => serving[Symbol.asyncDispose]());

  test('answers in items of reasoning, text and calls', async () => {
    const response = await client.responses.create(request);
    expect(response).toMatchObject({
      object: 'response',
      status: 'completed',
      store: true,
      background: false,
      output_text: 'Let me see.',
      model: 'fake',
    });
    expect(response.output).toMatchObject([
      { type: 'reasoning', content: [{ type: 'reasoning_text', text: 'Hm.' }], status: 'completed' },
      { type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'Let me see.', annotations: [] }], status: 'completed' },
      { type: 'function_call', name: 'weather', arguments: '{"city": "Z\u00fcrich"}', call_id: expect.stringMatching(/^call_/), status: 'completed' },
      { type: 'function_call', name: 'stop', arguments: '{}' },
    ]);
    expect(new Set(response.output.map(({ id }) => id)).size).toBe(4);
    const { usage } = response;
    expect(usage!.output_tokens_details.reasoning_tokens).toBe(script.indexOf('</think>') + '</think>'.length);
    expect(usage!.total_tokens).toBe(usage!.input_tokens + usage!.output_tokens);
  });

  test('streams events that the client puts together to the same response', async () => {
    const whole = await client.responses.create(request);
    const events: OpenAI.Responses.ResponseStreamEvent[] = [];
    const stream = client.responses.stream(request).on('event', (event) => events.push(event as OpenAI.Responses.ResponseStreamEvent));
    const final = await stream.finalResponse();
    expect(plain(final.output)).toMatchObject(plain(whole.output));
    expect(final.usage).toEqual(whole.usage);
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, at) => at));
    const types = events.map(({ type }) => type);
    expect(types.slice(0, 2)).toEqual(['response.created', 'response.in_progress']);
    expect(types.at(-1)).toBe('response.completed');
    const count = (type: string) => types.filter((other) => other === type).length;
    expect([count('response.output_item.added'), count('response.output_item.done')]).toEqual([4, 4]);
    const pieces = events.flatMap((event) =>
      event.type === 'response.function_call_arguments.delta' && event.output_index === 2 ? [event.delta] : [],
    );
    expect(pieces.join('')).toBe('{"city": "Z\u00fcrich"}');
    expect(pieces.length).toBeGreaterThan(5);
  });

  test('takes its own items back as one message of the assistant, and the outputs of calls', async () => {
    const { output } = await client.responses.create(request);
    const given = output.map((item) => item as unknown as OpenAI.Responses.ResponseInputItem);
    const outputs = output.flatMap((item): OpenAI.Responses.ResponseInputItem[] =>
      item.type === 'function_call' ? [{ type: 'function_call_output', call_id: item.call_id, output: item.name }] : [],
    );
    await client.responses.create({ ...request, instructions: 'Be brief.', input: [{ role: 'user', content: 'How is it?' }, ...given, ...outputs] });
    const { input } = serving.engine.seen.at(-1)!;
    expect('messages' in input && input.messages).toMatchObject([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'How is it?' },
      {
        role: 'assistant',
        content: 'Let me see.',
        reasoning_content: 'Hm.',
        tool_calls: [{ function: { name: 'weather' } }, { function: { name: 'stop' } }],
      },
      { role: 'tool', content: 'weather' },
      { role: 'tool', content: 'stop' },
    ]);
    expect('messages' in input && input.template?.tools).toMatchObject([{ type: 'function', function: { name: 'weather' } }, {}]);
  });

  test('cut off, is incomplete', async () => {
    const response = await client.responses.create({ ...request, max_output_tokens: script.indexOf('see') });
    expect(response).toMatchObject({ status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } });
    expect(response.output.at(-1)).toMatchObject({ type: 'message', status: 'incomplete' });
  });

  test.each([
    [{ background: true, store: false }, 'store', 'REQUEST_INVALID'],
    [{ conversation: 'conv_1' }, 'conversation', 'NOT_SUPPORTED'],
    [{ tools: [{ type: 'web_search' }] }, 'tools[0].type', 'NOT_SUPPORTED'],
    [{ tool_choice: { type: 'function', name: 'other' } }, 'tool_choice', 'REQUEST_INVALID'],
    [{ input: [{ type: 'computer_call', id: 'x' }] }, 'input[0].type', 'NOT_SUPPORTED'],
    [{ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 'input[0].content[0].type', 'NOT_SUPPORTED'],
    [{ input: [{ type: 'function_call' }] }, 'input[0].name', 'REQUEST_INVALID'],
    [{ input: [] }, 'messages', 'REQUEST_INVALID'],
    [{ input: 7 }, 'input', 'REQUEST_INVALID'],
  ])('refuses %j', async (fields, param, code) => {
    const response = await serving.post('/v1/responses', { ...request, ...fields });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ param, code });
  });
});

test('a response that fails while it streams ends with an error event', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 0, failAfter: 3 }));
  const response = await serving.post('/v1/responses', { input: 'x', stream: true });
  const events = (await response.text()).trim().split('\n\n');
  expect(events.at(-1)).toMatch(/^event: error\ndata: .*"type":"error"/);
  await expect(serving.client.responses.stream({ model: 'fake', input: 'x' }).finalResponse()).rejects.toThrow();
});

test('a client that leaves ends the response', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 5 }));
  for await (const event of await serving.client.responses.create({ model: 'fake', input: 'x', stream: true })) {
    if (event.type === 'response.output_text.delta') break;
  }
  await until(() => serving.engine.running === 0, 'the generation to end');
});
