/** Anthropic's official client on the pocket model. */
import Anthropic from '@anthropic-ai/sdk';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Api } from '../api/api.ts';
import { expectFreed, openPocket, personQuestion, weatherAnswer, weatherQuestion, weatherReport } from './pocket.ts';

let api: Api;
let client: Anthropic;
beforeAll(async () => {
  api = await openPocket();
  client = new Anthropic({ baseURL: api.url, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => api?.[Symbol.asyncDispose]());

const schemaOf = (properties: object) => ({ type: 'object' as const, properties, required: Object.keys(properties), additionalProperties: false });
const weather: Anthropic.Tool = { name: 'get_weather', description: 'Tells the weather.', input_schema: schemaOf({ city: { type: 'string' } }) };
const sampled = { model: 'pocket', max_tokens: 200, temperature: 0 };
const user = (content: string): Anthropic.MessageParam => ({ role: 'user', content });

test('a message is streamed to what comes whole', async () => {
  const whole = await client.messages.create({ ...sampled, messages: [user('How are you?')] });
  const pieces: string[] = [];
  const stream = client.messages.stream({ ...sampled, messages: [user('How are you?')] }).on('text', (piece) => pieces.push(piece));
  const message = await stream.finalMessage();
  expect(pieces.length).toBeGreaterThan(3);
  expect([message.content, message.stop_reason]).toEqual([whole.content, whole.stop_reason]);
  expect(message.usage.output_tokens).toBe(whole.usage.output_tokens);
});

test('a tool is used, its result told, and answered from; thoughts are blocks of their own', async () => {
  const messages = [user(weatherQuestion)];
  const thinking = { type: 'enabled' as const, budget_tokens: 1024 };
  const first = await client.messages.stream({ ...sampled, max_tokens: 2000, messages, tools: [weather], thinking }).finalMessage();
  expect(first.content.map(({ type }) => type)).toEqual(['thinking', 'tool_use']);
  const use = first.content.find((block) => block.type === 'tool_use');
  expect([use?.name, use?.input, first.stop_reason]).toEqual(['get_weather', { city: 'Oslo' }, 'tool_use']);
  const result: Anthropic.ToolResultBlockParam = { type: 'tool_result', tool_use_id: use?.id ?? '', content: JSON.stringify(weatherReport) };
  const told = [...messages, { role: 'assistant' as const, content: first.content }, { role: 'user' as const, content: [result] }];
  const second = await client.messages.create({ ...sampled, messages: told, tools: [weather] });
  expect(second.content[0]?.type === 'text' && second.content[0].text).toMatch(weatherAnswer);
});

test('an object comes as the input of a tool that must be used', async () => {
  const tool: Anthropic.Tool = {
    name: 'person',
    input_schema: schemaOf({ name: { type: 'string', maxLength: 20 }, age: { type: 'integer', minimum: 0, maximum: 120 } }),
  };
  const message = await client.messages.create({
    ...sampled,
    messages: [user(personQuestion)],
    tools: [tool],
    tool_choice: { type: 'tool', name: 'person' },
  });
  const [use] = message.content;
  expect(use).toMatchObject({ type: 'tool_use', name: 'person', input: { name: expect.any(String), age: expect.any(Number) } });
});

test('an abort frees the blocks', async () => {
  let leave = () => {};
  const begin = async () => {
    const stream = client.messages.stream({ ...sampled, max_tokens: 4000, messages: [user('Hello!')] });
    stream.done().catch(() => undefined);
    leave = () => stream.abort();
    await new Promise<void>((resolve) => stream.once('text', () => resolve()));
  };
  await expectFreed(api, begin, () => leave());
});
