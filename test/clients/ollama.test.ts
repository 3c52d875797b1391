/** Ollama's own client on the pocket model. */
import { Ollama } from 'ollama';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Api } from '../api/api.ts';
import { expectFreed, openPocket, person, personQuestion, weatherAnswer, weatherQuestion, weatherReport } from './pocket.ts';

let api: Api;
let client: Ollama;
beforeAll(async () => {
  api = await openPocket();
  client = new Ollama({ host: api.url });
});
afterAll(() => api?.[Symbol.asyncDispose]());

const options = { temperature: 0 };
const chat = (content: string) => ({ model: 'pocket', messages: [{ role: 'user', content }], options });
const objectOf = (properties: Record<string, { type: string }>) => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
const weather = {
  type: 'function',
  function: { name: 'get_weather', description: 'Tells the weather.', parameters: objectOf({ city: { type: 'string' } }) },
};

test('a chat and a prompt are streamed to what comes whole', async () => {
  const whole = await client.chat(chat('How are you?'));
  const pieces: string[] = [];
  for await (const { message } of await client.chat({ ...chat('How are you?'), stream: true })) pieces.push(message.content);
  expect(pieces.length).toBeGreaterThan(3);
  expect(pieces.join('')).toBe(whole.message.content);
  let text = '';
  for await (const { response } of await client.generate({ model: 'pocket', prompt: 'How are you?', options, stream: true })) text += response;
  expect(text).toBe(whole.message.content);
});

test('a tool is called, its result told, and answered from', async () => {
  const first = await client.chat({ ...chat(weatherQuestion), tools: [weather] });
  expect(first.message.tool_calls).toEqual([{ function: { name: 'get_weather', arguments: { city: 'Oslo' } } }]);
  const told = { role: 'tool', content: JSON.stringify(weatherReport), tool_name: 'get_weather' };
  const messages = [...chat(weatherQuestion).messages, first.message, told];
  expect((await client.chat({ ...chat(''), messages, tools: [weather] })).message.content).toMatch(weatherAnswer);
});

test('an object by its schema has what the text says', async () => {
  const format = objectOf({ name: { type: 'string' }, age: { type: 'integer' }, city: { type: 'string' } });
  const { message } = await client.chat({ ...chat(personQuestion), format });
  expect(JSON.parse(message.content)).toEqual(person);
});

test('an abort frees the blocks', async () => {
  let leave = () => {};
  const begin = async () => {
    const stream = await client.chat({ ...chat('Hello!'), stream: true });
    leave = () => stream.abort();
    await stream[Symbol.asyncIterator]().next();
  };
  await expectFreed(api, begin, () => leave());
});
