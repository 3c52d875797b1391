/** Ollama's API through its own client: a fake engine replays what models write. */
import { Ollama } from 'ollama';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeEngine } from './fake-engine.ts';
import { type Serving, serve, until } from './serving.ts';

const script =
  '<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Z\u00fcrich"}}\n</tool_call>\n<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>';
const tools = [
  {
    type: 'function',
    function: { name: 'weather', description: 'Tells it.', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
  },
  { type: 'function', function: { name: 'stop', description: 'Ends it.', parameters: { type: 'object' } } },
];
const messages = [{ role: 'user', content: 'How is it?' }];
const request = { model: 'fake', messages, tools };

describe('a model that writes Hermes calls and thinks', () => {
  let serving: Serving<FakeEngine>;
  let client: Ollama;
  beforeAll(async () => {
    const outputFormats = { toolCalls: 'hermes', reasoning: 'think' };
    serving = await serve(new FakeEngine({ script, scriptEnds: true, stepMs: 0, outputFormats }));
    client = new Ollama({ host: serving.url });
  });
  afterAll(() => serving[Symbol.asyncDispose]());

  test('answers a chat whole', async () => {
    const answer = await client.chat(request);
    expect(answer).toMatchObject({ model: 'fake', done: true, done_reason: 'stop', eval_count: Buffer.byteLength(script) });
    expect(answer.message).toEqual({
      role: 'assistant',
      content: 'Let me see.',
      thinking: 'Hm.',
      tool_calls: [{ function: { name: 'weather', arguments: { city: 'Z\u00fcrich' } } }, { function: { name: 'stop', arguments: {} } }],
    });
    expect(answer.prompt_eval_count).toBeGreaterThan(0);
    expect(answer.total_duration).toBeGreaterThanOrEqual(answer.eval_duration);
  });

  test('streams the same in lines, the last of which is done', async () => {
    const whole = await client.chat(request);
    let content = '';
    let thinking = '';
    const calls: unknown[] = [];
    const dones: boolean[] = [];
    for await (const part of await client.chat({ ...request, stream: true })) {
      content += part.message.content;
      thinking += part.message.thinking ?? '';
      calls.push(...(part.message.tool_calls ?? []));
      dones.push(part.done);
    }
    expect({ role: 'assistant', content, thinking, tool_calls: calls }).toEqual(whole.message);
    expect(dones.length).toBeGreaterThan(5);
    expect([dones.at(-1), dones.indexOf(true)]).toEqual([true, dones.length - 1]);
  });

  test('takes calls and their results back with ids in order', async () => {
    const { message } = await client.chat(request);
    await client.chat({
      ...request,
      messages: [...messages, message, { role: 'tool', content: 'sunny', tool_name: 'weather' }, { role: 'tool', content: 'no' }],
    });
    const { input } = serving.engine.seen.at(-1)!;
    expect('messages' in input && input.messages.slice(1)).toMatchObject([
      { role: 'assistant', reasoning_content: 'Hm.', tool_calls: [{ id: 'call00000', function: { name: 'weather' } }, { id: 'call00001' }] },
      { role: 'tool', tool_call_id: 'call00000', content: 'sunny', name: 'weather' },
      { role: 'tool', tool_call_id: 'call00001', content: 'no' },
    ]);
  });

  test('passes options and thinking on', async () => {
    const options = { num_predict: 7, temperature: 0.5, top_k: 5, repeat_penalty: 1.1, seed: 3, stop: ['END'], num_ctx: 128 };
    await client.chat({ model: 'fake:latest', messages, options, think: false });
    const { input, params } = serving.engine.seen.at(-1)!;
    expect(params).toMatchObject({ maxTokens: 7, temperature: 0.5, topK: 5, repetitionPenalty: 1.1, seed: 3, stop: ['END'] });
    expect(input).toMatchObject({ template: { kwargs: { enable_thinking: false } } });
  });

  test('answers a prompt as a conversation of one message, and a raw one as it is', async () => {
    const chat = await client.generate({ model: 'fake', prompt: 'Hello', system: 'Be brief.' });
    expect(chat).toMatchObject({ response: expect.stringContaining('Let me see.'), thinking: 'Hm.', done: true });
    expect(serving.engine.seen.at(-1)!.input).toMatchObject({ messages: [{ role: 'system' }, { role: 'user', content: 'Hello' }] });
    let text = '';
    for await (const { response } of await client.generate({ model: 'fake', prompt: 'Hello', raw: true, stream: true })) text += response;
    expect(text).toBe(script);
    expect(serving.engine.seen.at(-1)!.input).toMatchObject({ prompt: 'Hello' });
  });

  test('is there when nothing is asked', async () => {
    expect(await client.generate({ model: 'fake', prompt: '' })).toMatchObject({ done: true, done_reason: 'load', response: '' });
  });

  test('is listed and described', async () => {
    const { models } = await client.list();
    expect(models).toMatchObject([{ name: 'fake', details: { family: 'FakeForCausalLM' }, digest: expect.stringMatching(/^[0-9a-f]{64}$/) }]);
    const shown = await client.show({ model: 'fake' });
    expect(shown).toMatchObject({ capabilities: ['completion', 'tools', 'thinking'], model_info: { 'general.parameter_count': 258 } });
    expect(await client.version()).toEqual({ version: expect.any(String) });
  });

  test.each([
    ['/api/chat', { model: 'other', messages }, 404, 'MODEL_UNKNOWN'],
    ['/api/chat', { messages: [{ role: 'user', content: 'x', images: ['AA=='] }] }, 400, 'NOT_SUPPORTED'],
    ['/api/chat', { messages, options: { mirostat: 1 } }, 400, 'NOT_SUPPORTED'],
    ['/api/chat', { messages, options: { temperature: -1 } }, 400, 'SAMPLING_PARAM_INVALID'],
    ['/api/chat', { messages, format: 'yaml' }, 400, 'REQUEST_INVALID'],
    ['/api/chat', { messages: 'x' }, 400, 'REQUEST_INVALID'],
    ['/api/generate', { prompt: 'x', suffix: 'y' }, 400, 'NOT_SUPPORTED'],
    ['/api/show', { model: 'other' }, 404, 'MODEL_UNKNOWN'],
  ])("%s refuses %j in Ollama's shape", async (path, body, status, code) => {
    const response = await serving.post(path, body);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: expect.any(String), code });
  });
});

test('a generation that fails while it streams ends with an error line', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 0, failAfter: 3 }));
  const lines = (await (await serving.post('/api/chat', { messages })).text()).trim().split('\n');
  expect(JSON.parse(lines.at(-1)!)).toMatchObject({ error: expect.any(String), code: 'BACKEND_STEP_FAILED' });
});

test('a client that leaves ends the generation', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 5 }));
  const stream = await new Ollama({ host: serving.url }).chat({ model: 'fake', messages, stream: true });
  const read = async () => {
    for await (const _ of stream) stream.abort();
  };
  await read().catch(() => undefined);
  await until(() => serving.engine.running === 0, 'the generation to end');
});
