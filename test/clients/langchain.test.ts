/** LangChain.js over the pocket model in this process. */
import { HumanMessage, type ToolMessage } from '@langchain/core/messages';
import { tool } from '@langchain/core/tools';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { ChatMillrace } from '../../src/langchain/index.ts';
import type { Api } from '../api/api.ts';
import { until } from '../e2e/serving.ts';
import { expectFreed, openPocket, personQuestion, weatherAnswer, weatherQuestion, weatherReport } from './pocket.ts';

let api: Api;
let model: ChatMillrace;
beforeAll(async () => {
  api = await openPocket();
  model = new ChatMillrace({ engine: api.served, request: { temperature: 0 }, maxRetries: 0 });
});
afterAll(() => api?.[Symbol.asyncDispose]());

test('an answer is streamed to what comes whole', async () => {
  const whole = await model.invoke('How are you?');
  const pieces: string[] = [];
  for await (const piece of await model.stream('How are you?')) pieces.push(piece.text);
  expect(pieces.length).toBeGreaterThan(3);
  expect(pieces.join('')).toBe(whole.text);
});

test('a tool is called, its result told, and answered from', async () => {
  const schema = z.object({ city: z.string() });
  const weather = tool(() => JSON.stringify(weatherReport), { name: 'get_weather', description: 'Tells the weather.', schema });
  const bound = model.bindTools([weather]);
  const question = new HumanMessage(weatherQuestion);
  const answer = await bound.invoke([question]);
  expect(answer.tool_calls).toMatchObject([{ name: 'get_weather', args: { city: 'Oslo' } }]);
  const result = (await weather.invoke(answer.tool_calls![0]!)) as ToolMessage;
  expect((await bound.invoke([question, answer, result])).text).toMatch(weatherAnswer);
});

test('a structured output has the type of its schema', async () => {
  const schema = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(120) });
  const found = await model.withStructuredOutput(schema, { name: 'person' }).invoke(personQuestion);
  expect(schema.parse(found)).toEqual(found);
});

test('an abort frees the blocks', async () => {
  const leaving = new AbortController();
  const begin = async () => {
    const stream = await model.stream('Hello!', { signal: leaving.signal });
    await stream[Symbol.asyncIterator]().next();
  };
  await expectFreed(api, begin, () => leaving.abort());
});

test('an abort of what is not streamed frees the blocks', async () => {
  const leaving = new AbortController();
  let pending: Promise<unknown> = Promise.resolve();
  const begin = async () => {
    pending = model.invoke('Hello!', { signal: leaving.signal });
    pending.catch(() => undefined);
    await until(() => api.engine.stats().kvBlocksReferenced > 0, 'it runs');
  };
  await expectFreed(api, begin, () => leaving.abort());
  await expect(pending).rejects.toThrow();
});
