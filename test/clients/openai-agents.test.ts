/** The OpenAI Agents SDK on the pocket model, by both of its APIs. */
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, tool } from '@openai/agents';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { Api } from '../api/api.ts';
import { expectFreed, openPocket, person, personQuestion, weatherAnswer, weatherQuestion, weatherReport } from './pocket.ts';

let api: Api;
beforeAll(async () => {
  api = await openPocket();
});
afterAll(() => api?.[Symbol.asyncDispose]());

const runner = new Runner({ tracingDisabled: true });
type Client = ConstructorParameters<typeof OpenAIResponsesModel>[0];
const ways = [
  ['chat completions', OpenAIChatCompletionsModel],
  ['responses', OpenAIResponsesModel],
] as const;

describe.each(ways)('%s', (_way, Model) => {
  const settings = (fields: object) => {
    const client = new OpenAI({ baseURL: `${api.url}/v1`, apiKey: 'none', maxRetries: 0 });
    return { name: 'Teller', model: new Model(client as unknown as Client, 'pocket'), modelSettings: { temperature: 0 }, ...fields };
  };

  test('an agent answers, streamed to what comes whole', async () => {
    const agent = new Agent(settings({}));
    const whole = await runner.run(agent, 'How are you?');
    const streamed = await runner.run(agent, 'How are you?', { stream: true });
    const pieces: string[] = [];
    for await (const piece of streamed.toTextStream()) pieces.push(piece);
    await streamed.completed;
    expect(pieces.length).toBeGreaterThan(3);
    expect(pieces.join('')).toBe(whole.finalOutput);
  });

  test('an agent runs its tool and answers from the result', async () => {
    const cities: string[] = [];
    const weather = tool({
      name: 'get_weather',
      description: 'Tells the weather.',
      parameters: z.object({ city: z.string() }),
      execute: ({ city }) => {
        cities.push(city);
        return JSON.stringify(weatherReport);
      },
    });
    const { finalOutput } = await runner.run(new Agent(settings({ tools: [weather] })), weatherQuestion, { maxTurns: 3 });
    expect(cities).toEqual(['Oslo']);
    expect(finalOutput).toMatch(weatherAnswer);
  });

  test('an agent with a type of output gets it', async () => {
    const outputType = z.object({ name: z.string(), age: z.number().int(), city: z.string() });
    const { finalOutput } = await runner.run(new Agent({ ...settings({}), outputType }), personQuestion);
    expect(finalOutput).toEqual(person);
  });

  test('an abort frees the blocks', async () => {
    const leaving = new AbortController();
    let completed: Promise<unknown> = Promise.resolve();
    const begin = async () => {
      const streamed = await runner.run(new Agent(settings({})), 'Hello!', { stream: true, signal: leaving.signal });
      completed = streamed.completed.catch(() => undefined);
      await streamed.toTextStream()[Symbol.asyncIterator]().next();
    };
    await expectFreed(api, begin, () => leaving.abort());
    await completed;
  });
});
