/** Tool calls and reasoning through the official client: a fake engine replays what models write. */
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeEngine } from './fake-engine.ts';
import { errorOf, type Serving, serve } from './serving.ts';

const script =
  '<think>\nThe user wants the weather.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Z\u00fcrich", "days": [1, 2]}}\n</tool_call>\n<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>';
const tools: OpenAI.ChatCompletionTool[] = [
  {
    type: 'function',
    function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'array' } } } },
  },
  { type: 'function', function: { name: 'stop' } },
];
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'How is it?' }];
const request = { model: 'fake', messages, tools };

type Message = OpenAI.ChatCompletionMessage & { reasoning?: string; reasoning_content?: string };

describe('a model that writes Hermes calls and thinks', () => {
  let serving: Serving<FakeEngine>;
  beforeAll(async () => {
    const outputFormats = { toolCalls: 'hermes', reasoning: 'think' };
    serving = await serve(new FakeEngine({ script, scriptEnds: true, stepMs: 0, outputFormats }));
  });
  afterAll(() => serving[Symbol.asyncDispose]());

  test('answers with its calls, its words and its reasoning, each by itself', async () => {
    const { choices, usage } = await serving.client.chat.completions.create(request);
    const { finish_reason, message } = choices[0]!;
    const { content, reasoning, reasoning_content, tool_calls } = message as Message;
    expect(finish_reason).toBe('tool_calls');
    expect([content, reasoning, reasoning_content]).toEqual(['Let me see.', 'The user wants the weather.', 'The user wants the weather.']);
    expect(tool_calls!.map((call) => (call.type === 'function' ? [call.function.name, JSON.parse(call.function.arguments)] : null))).toEqual([
      ['weather', { city: 'Z\u00fcrich', days: [1, 2] }],
      ['stop', {}],
    ]);
    expect(new Set(tool_calls!.map(({ id }) => id)).size).toBe(2);
    expect(usage!.completion_tokens_details!.reasoning_tokens).toBe(script.indexOf('</think>') + '</think>'.length);
  });

  test('streams them in deltas that add up to the same, each call opened by its id and name', async () => {
    const whole = await serving.client.chat.completions.create(request);
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    for await (const chunk of await serving.client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } })) {
      chunks.push(chunk);
    }
    const deltas = chunks.flatMap(({ choices }) =>
      choices.map(({ delta }) => delta as typeof delta & { reasoning?: string; reasoning_content?: string }),
    );
    const join = (field: 'content' | 'reasoning' | 'reasoning_content') => deltas.map((delta) => delta[field] ?? '').join('');
    expect([join('content'), join('reasoning'), join('reasoning_content')]).toEqual([
      'Let me see.',
      'The user wants the weather.',
      'The user wants the weather.',
    ]);
    const pieces = deltas.flatMap(({ tool_calls }) => tool_calls ?? []);
    for (const [index, call] of whole.choices[0]!.message.tool_calls!.entries()) {
      if (call.type !== 'function') continue;
      const [first, ...rest] = pieces.filter((piece) => piece.index === index);
      expect(first).toMatchObject({
        id: expect.stringMatching(/^call_\w{24}$/),
        type: 'function',
        function: { name: call.function.name, arguments: '' },
      });
      expect(rest.every((piece) => piece.id === undefined && piece.function?.name === undefined)).toBe(true);
      expect(rest.map((piece) => piece.function?.arguments).join('')).toBe(call.function.arguments);
    }
    expect(pieces.length).toBeGreaterThan(10);
    expect(chunks.flatMap(({ choices }) => choices.map(({ finish_reason }) => finish_reason)).filter(Boolean)).toEqual(['tool_calls']);
    expect(chunks.at(-1)!.usage).toEqual(whole.usage);
  });

  test('is understood by the streaming helper of the client', async () => {
    const message = (await serving.client.chat.completions.stream(request).finalMessage()) as Message;
    expect(message.tool_calls!.map((call) => (call.type === 'function' ? call.function.name : ''))).toEqual(['weather', 'stop']);
  });

  test('runs tools with the runner of the client', async () => {
    const seen: unknown[] = [];
    const runner = serving.client.chat.completions.runTools(
      {
        model: 'fake',
        messages,
        tools: [
          {
            type: 'function',
            function: { name: 'weather', description: '', parameters: {}, parse: JSON.parse, function: (args: object) => seen.push(args) && 'sunny' },
          },
        ],
      },
      { maxChatCompletions: 2 },
    );
    await runner.done().catch(() => undefined);
    expect(seen[0]).toEqual({ city: 'Z\u00fcrich', days: [1, 2] });
    const sent = serving.engine.seen.at(-1)!.input;
    expect('messages' in sent && sent.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool', 'tool']);
  });

  test('shows the tools to the template, unless they may not be called', async () => {
    await serving.client.chat.completions.create(request);
    expect(serving.engine.seen.at(-1)!.input).toMatchObject({ template: { tools } });
    const { choices } = await serving.client.chat.completions.create({ ...request, tool_choice: 'none' });
    expect(serving.engine.seen.at(-1)!.input).not.toMatchObject({ template: { tools } });
    expect(choices[0]!.message.tool_calls).toBeUndefined();
    expect(choices[0]!.finish_reason).toBe('stop');
  });

  test('reports one call when several are not wanted', async () => {
    const { choices } = await serving.client.chat.completions.create({ ...request, parallel_tool_calls: false });
    expect(choices[0]!.message.tool_calls).toHaveLength(1);
  });

  test('keeps its reasoning to itself when it is not asked for', async () => {
    const { choices } = await serving.client.chat.completions.create({ ...request, ...({ include_reasoning: false } as object) });
    expect(choices[0]!.message).toMatchObject({ content: 'Let me see.' });
    expect(choices[0]!.message).not.toHaveProperty('reasoning');
  });

  test('cut off in a call, says length and not that the call is there', async () => {
    const { choices } = await serving.client.chat.completions.create({ ...request, max_tokens: script.indexOf('days') });
    expect(choices[0]!.finish_reason).toBe('length');
  });

  test.each([
    [{ tool_choice: 'required', tools: [] }, 'tool_choice', 'REQUEST_INVALID'],
    [{ tool_choice: { type: 'function', function: { name: 'other' } } }, 'tool_choice', 'REQUEST_INVALID'],
    [{ tool_choice: { type: 'allowed_tools' } }, 'tool_choice', 'NOT_SUPPORTED'],
    [{ tool_choice: 'perhaps' }, 'tool_choice', 'REQUEST_INVALID'],
    [{ tool_choice: 7 }, 'tool_choice', 'REQUEST_INVALID'],
    [{ tools: [{ type: 'function' }] }, 'tools[0].function', 'REQUEST_INVALID'],
    [{ tools: [{ type: 'retrieval', function: { name: 'f' } }] }, 'tools[0].type', 'REQUEST_INVALID'],
    [{ tools: [{ type: 'function', function: { name: '' } }] }, 'tools[0].function.name', 'REQUEST_INVALID'],
  ])('refuses %j', async (fields, param, code) => {
    const response = await serving.post('/v1/chat/completions', { ...request, ...fields });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ param, code });
  });
});

test('tools are refused when nobody knows how the model calls them', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 0 }));
  await expect(serving.client.chat.completions.create(request)).rejects.toMatchObject({ status: 400, code: 'NOT_SUPPORTED', param: 'tools' });
});

test('text in the form of a call is text when no tools were given', async () => {
  await using serving = await serve(
    new FakeEngine({ script: 'A <tool_call> B', scriptEnds: true, stepMs: 0, outputFormats: { toolCalls: 'hermes', reasoning: null } }),
  );
  const { choices } = await serving.client.chat.completions.create({ model: 'fake', messages });
  expect(choices[0]!.message.content).toBe('A <tool_call> B');
});
