/** The Messages API through Anthropic's own client: a fake engine replays what models write. */
import Anthropic from '@anthropic-ai/sdk';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeEngine } from './fake-engine.ts';
import { type Serving, serve, until } from './serving.ts';

const script =
  '<think>\nThe user wants the weather.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Z\u00fcrich"}}\n</tool_call>\n<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>';
const tools: Anthropic.Tool[] = [
  { name: 'weather', description: 'Tells it.', input_schema: { type: 'object', properties: { city: { type: 'string' } } } },
  { name: 'stop', input_schema: { type: 'object' } },
];
const user: Anthropic.MessageParam = { role: 'user', content: 'How is it?' };
const request = { model: 'fake', max_tokens: 1000, messages: [user], tools };
const outputFormats = { toolCalls: 'hermes', reasoning: 'think' };

const clientOf = ({ url }: Serving, apiKey = 'none') => new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });

describe('a model that writes Hermes calls and thinks', () => {
  let serving: Serving<FakeEngine>;
  let client: Anthropic;
  beforeAll(async () => {
    serving = await serve(new FakeEngine({ script, scriptEnds: true, stepMs: 0, outputFormats }));
    client = clientOf(serving);
  });
  afterAll(() => serving[Symbol.asyncDispose]());

  test('answers in blocks of thinking, text and tool use', async () => {
    const message = await client.messages.create(request);
    expect(message).toMatchObject({
      type: 'message',
      role: 'assistant',
      model: 'fake',
      stop_reason: 'tool_use',
      stop_sequence: null,
      content: [
        { type: 'thinking', thinking: 'The user wants the weather.' },
        { type: 'text', text: 'Let me see.' },
        { type: 'tool_use', name: 'weather', input: { city: 'Z\u00fcrich' } },
        { type: 'tool_use', name: 'stop', input: {} },
      ],
    });
    expect(message.id).toMatch(/^msg-/);
    const { input_tokens, cache_read_input_tokens, output_tokens } = message.usage;
    expect([cache_read_input_tokens, output_tokens]).toEqual([1, Buffer.byteLength(script)]);
    const counted = await client.messages.countTokens({ model: 'fake', messages: [user], tools });
    expect(counted.input_tokens).toBe(input_tokens + 1);
  });

  test('streams events that the client puts together to the same message', async () => {
    const whole = await client.messages.create(request);
    const types: string[] = [];
    const stream = client.messages.stream(request).on('streamEvent', ({ type }) => types.push(type));
    const message = await stream.finalMessage();
    const plain = (content: Anthropic.ContentBlock[]) => content.map((block) => (block.type === 'tool_use' ? { ...block, id: '' } : block));
    expect(plain(message.content)).toEqual(plain(whole.content));
    expect([message.stop_reason, message.usage.output_tokens]).toEqual([whole.stop_reason, whole.usage.output_tokens]);
    expect(types[0]).toBe('message_start');
    expect(types.slice(-2)).toEqual(['message_delta', 'message_stop']);
    const count = (type: string) => types.filter((other) => other === type).length;
    expect([count('content_block_start'), count('content_block_stop')]).toEqual([4, 4]);
  });

  test('takes back its own blocks and the results of tools, as the messages that templates know', async () => {
    const assistant = await client.messages.create(request);
    await client.messages.create({
      ...request,
      system: [{ type: 'text', text: 'Be brief.' }],
      messages: [
        user,
        { role: 'assistant', content: assistant.content },
        {
          role: 'user',
          content: [
            { type: 'tool_result', tool_use_id: 'a', content: [{ type: 'text', text: 'sunny' }] },
            { type: 'tool_result', tool_use_id: 'b', content: 'no', is_error: true },
            { type: 'text', text: 'And now?' },
          ],
        },
      ],
    });
    const { input } = serving.engine.seen.at(-1)!;
    expect('messages' in input && input.messages).toMatchObject([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'How is it?' },
      {
        role: 'assistant',
        content: 'Let me see.',
        reasoning_content: 'The user wants the weather.',
        tool_calls: [{ function: { name: 'weather', arguments: { city: 'Z\u00fcrich' } } }, { function: { name: 'stop', arguments: {} } }],
      },
      { role: 'tool', tool_call_id: 'a', content: 'sunny' },
      { role: 'tool', tool_call_id: 'b', content: 'Error: no' },
      { role: 'user', content: 'And now?' },
    ]);
    expect('messages' in input && input.template?.tools).toEqual([
      { type: 'function', function: { name: 'weather', description: 'Tells it.', parameters: tools[0]!.input_schema } },
      { type: 'function', function: { name: 'stop', parameters: tools[1]!.input_schema } },
    ]);
  });

  test('goes on with the beginning of an answer, and passes the sampling on', async () => {
    await client.messages.create({
      model: 'fake',
      max_tokens: 7,
      ...({ temperature: 0.5, top_p: 0.9, top_k: 5 } as object),
      stop_sequences: ['END'],
      thinking: { type: 'disabled' },
      messages: [user, { role: 'assistant', content: 'It is' }],
    });
    const { input, params } = serving.engine.seen.at(-1)!;
    expect(params).toMatchObject({ maxTokens: 7, temperature: 0.5, topP: 0.9, topK: 5, stop: ['END'] });
    expect(input).toMatchObject({ template: { continueFinalMessage: true, addGenerationPrompt: false, kwargs: { enable_thinking: false } } });
  });

  test('says why it stopped', async () => {
    const { stop_reason: cut } = await client.messages.create({ ...request, max_tokens: 20 });
    const { stop_reason: stopped, stop_sequence } = await client.messages.create({ ...request, stop_sequences: ['me see'] });
    const { stop_reason: ended } = await client.messages.create({ ...request, tools: [] });
    expect([cut, stopped, stop_sequence, ended]).toEqual(['max_tokens', 'stop_sequence', 'me see', 'end_turn']);
  });

  test.each([
    [{ tool_choice: { type: 'tool', name: 'other' } }, 400, 'REQUEST_INVALID'],
    [{ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, 400, 'NOT_SUPPORTED'],
    [{ messages: [{ role: 'user', content: [{ type: 'image', source: {} }] }] }, 400, 'NOT_SUPPORTED'],
    [{ messages: [{ role: 'user', content: [{ type: 'tool_result' }] }] }, 400, 'REQUEST_INVALID'],
    [{ messages: [{ role: 'system', content: 'x' }] }, 400, 'REQUEST_INVALID'],
    [{ messages: [] }, 400, 'REQUEST_INVALID'],
    [{ temperature: -1 }, 400, 'SAMPLING_PARAM_INVALID'],
    [{ model: 'other' }, 404, 'MODEL_UNKNOWN'],
  ])("refuses %j in Anthropic's shape", async (fields, status, code) => {
    const response = await serving.post('/v1/messages', { ...request, ...fields });
    expect(response.status).toBe(status);
    const type = status === 404 ? 'not_found_error' : 'invalid_request_error';
    expect(await response.json()).toMatchObject({ type: 'error', error: { type, code, message: expect.any(String) } });
  });
});

test('the key may come in the header of the client, and is asked for in its shape', async () => {
  await using serving = await serve(new FakeEngine({ script: 'Hi', scriptEnds: true, stepMs: 0 }), { apiKeys: ['secret'] });
  const plain = { model: 'fake', max_tokens: 5, messages: [user] };
  expect((await clientOf(serving, 'secret').messages.create(plain)).content).toMatchObject([{ type: 'text', text: 'Hi' }]);
  await expect(clientOf(serving, 'wrong').messages.create(plain)).rejects.toBeInstanceOf(Anthropic.AuthenticationError);
});

test('a generation that fails while it streams ends with an error event', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 0, failAfter: 3 }));
  const response = await serving.post('/v1/messages', { ...request, tools: [], stream: true });
  expect(response.status).toBe(200);
  const events = (await response.text()).trim().split('\n\n');
  expect(events.at(-1)).toMatch(/^event: error\ndata: \{"type":"error","error":\{"type":"api_error"/);
});

test('a client that leaves ends the generation', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 5 }));
  const stream = clientOf(serving).messages.stream({ model: 'fake', max_tokens: 4000, messages: [user] });
  await new Promise<void>((resolve) => stream.once('text', () => resolve()));
  stream.abort();
  await stream.done().catch(() => undefined);
  await until(() => serving.engine.running === 0, 'the generation to end');
});
