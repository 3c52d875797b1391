/** The official openai client on the pocket model: chat completions and responses. */
import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import type { Api } from '../api/api.ts';
import { until } from '../e2e/serving.ts';
import { expectFreed, openPocket, person, personQuestion, weatherAnswer, weatherQuestion, weatherReport } from './pocket.ts';

let api: Api;
let client: OpenAI;
beforeAll(async () => {
  api = await openPocket();
  client = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => api?.[Symbol.asyncDispose]());

const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false };
const Person = z.object({ name: z.string(), age: z.number().int(), city: z.string() });
const sampled = { model: 'pocket', temperature: 0 };

test('a chat is streamed, with usage at its end', async () => {
  const messages = [{ role: 'user' as const, content: 'How are you?' }];
  const whole = await client.chat.completions.create({ ...sampled, messages });
  const stream = client.chat.completions.stream({ ...sampled, messages, stream_options: { include_usage: true } });
  const pieces: string[] = [];
  stream.on('content', (piece) => pieces.push(piece));
  const { choices, usage } = await stream.finalChatCompletion();
  expect(pieces.length).toBeGreaterThan(3);
  expect(choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
  expect(usage?.completion_tokens).toBe(whole.usage?.completion_tokens);
});

test('the client runs its tools until there is an answer, streamed', async () => {
  const cities: string[] = [];
  const runner = client.chat.completions.runTools({
    ...sampled,
    stream: true,
    messages: [{ role: 'user', content: weatherQuestion }],
    tools: [
      {
        type: 'function',
        function: {
          name: 'get_weather',
          description: 'Tells the weather.',
          parameters,
          parse: JSON.parse,
          function: ({ city }: { city: string }) => {
            cities.push(city);
            return JSON.stringify(weatherReport);
          },
        },
      },
    ],
  });
  expect(await runner.finalContent()).toMatch(weatherAnswer);
  expect(cities).toEqual(['Oslo']);
});

test('an object by a Zod schema is parsed, of chats and of responses', async () => {
  const chat = await client.chat.completions.parse({
    ...sampled,
    messages: [{ role: 'user', content: personQuestion }],
    response_format: zodResponseFormat(Person, 'person'),
  });
  expect(chat.choices[0]?.message.parsed).toEqual(person);
  const response = await client.responses.parse({ ...sampled, input: personQuestion, text: { format: zodTextFormat(Person, 'person') } });
  expect(response.output_parsed).toEqual(person);
});

test('a schema is answered without thoughts, which this model has on request only, and behind them when they are asked for', async () => {
  const schema = { type: 'object', properties: { name: { type: 'string', maxLength: 8 }, age: { type: 'integer', minimum: 0, maximum: 99 } } };
  const held = { ...schema, required: ['name', 'age'], additionalProperties: false };
  const ask = async (seed: number, more: object = {}) => {
    const chat = await client.chat.completions.create({
      ...sampled,
      ...{ seed, temperature: 1.2, max_tokens: 60, ...more },
      messages: [{ role: 'user', content: 'Tell me something.' }],
      response_format: { type: 'json_schema', json_schema: { name: 'person', schema: held, strict: true } },
    });
    return chat.choices[0]!;
  };
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    const { message, finish_reason } = await ask(seed);
    expect([finish_reason, 'reasoning' in message]).toEqual(['stop', false]);
    expect(JSON.parse(message.content ?? '')).toEqual({ name: expect.any(String), age: expect.any(Number) });
  }
  const { message } = await ask(1, { reasoning_effort: 'low', thinking_token_budget: 8 });
  expect(message).toMatchObject({ reasoning: expect.stringMatching(/./), content: expect.stringMatching(/^\{/) });
});

test('a response is streamed, and goes on behind the result of a tool', async () => {
  const tools = [{ type: 'function' as const, name: 'get_weather', description: 'Tells the weather.', parameters, strict: true }];
  const stream = client.responses.stream({ ...sampled, input: weatherQuestion, tools });
  const types = new Set<string>();
  for await (const { type } of stream) types.add(type);
  expect([...types]).toEqual(expect.arrayContaining(['response.created', 'response.function_call_arguments.delta', 'response.completed']));
  const response = await stream.finalResponse();
  const [call] = response.output.filter(({ type }) => type === 'function_call') as OpenAI.Responses.ResponseFunctionToolCall[];
  expect([call?.name, JSON.parse(call?.arguments ?? '')]).toEqual(['get_weather', { city: 'Oslo' }]);
  const output = { type: 'function_call_output' as const, call_id: call?.call_id ?? '', output: JSON.stringify(weatherReport) };
  const answer = await client.responses.create({ ...sampled, previous_response_id: response.id, input: [output], tools });
  expect(answer.output_text).toMatch(weatherAnswer);
});

test.each(['chat', 'response'] as const)('an abort of a streamed %s frees its blocks', async (kind) => {
  const leaving = new AbortController();
  const { signal } = leaving;
  const open = async (): Promise<AsyncIterable<unknown>> =>
    kind === 'chat'
      ? client.chat.completions.create({ ...sampled, messages: [{ role: 'user', content: 'Hello!' }], stream: true }, { signal })
      : client.responses.create({ ...sampled, input: 'Hello!', stream: true }, { signal });
  const begin = async () => void (await (await open())[Symbol.asyncIterator]().next());
  await expectFreed(api, begin, () => leaving.abort());
});

test('an abort of a request that is not streamed frees its blocks', async () => {
  const leaving = new AbortController();
  let pending: Promise<unknown> = Promise.resolve();
  const begin = async () => {
    pending = client.chat.completions.create({ ...sampled, messages: [{ role: 'user', content: 'Hello!' }] }, { signal: leaving.signal });
    pending.catch(() => undefined);
    await until(() => api.engine.stats().kvBlocksReferenced > 0, 'it runs');
  };
  await expectFreed(api, begin, () => leaving.abort());
  await expect(pending).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
});
