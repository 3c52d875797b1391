/** The Vercel AI SDK on the pocket model: our provider in this process, and its OpenAI-compatible one over HTTP. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, Output, stepCountIs, streamText, tool } from 'ai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createMillrace } from '../../src/ai-sdk/index.ts';
import type { Api } from '../api/api.ts';
import { until } from '../e2e/serving.ts';
import { expectFreed, openPocket, person, personQuestion, weatherAnswer, weatherQuestion, weatherReport } from './pocket.ts';

let api: Api;
beforeAll(async () => {
  api = await openPocket();
});
afterAll(() => api?.[Symbol.asyncDispose]());

const remote = () => createOpenAICompatible({ name: 'millrace', baseURL: `${api.url}/v1`, includeUsage: true, supportsStructuredOutputs: true });
const ways = [
  ['in process', () => createMillrace(api.served)()],
  ['over HTTP', () => remote()('pocket')],
] as const;

describe.each(ways)('%s', (_way, model) => {
  test('text is streamed to what comes whole', async () => {
    const asked = { model: model(), prompt: 'How are you?', temperature: 0 };
    const whole = await generateText(asked);
    const streamed = streamText(asked);
    const pieces: string[] = [];
    for await (const piece of streamed.textStream) pieces.push(piece);
    expect(pieces.length).toBeGreaterThan(3);
    expect([pieces.join(''), (await streamed.usage).outputTokens]).toEqual([whole.text, whole.usage.outputTokens]);
  });

  test('tools are run until there is an answer, streamed', async () => {
    const cities: string[] = [];
    const get_weather = tool({
      description: 'Tells the weather.',
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => {
        cities.push(city);
        return weatherReport;
      },
    });
    const { textStream } = streamText({
      model: model(),
      prompt: weatherQuestion,
      temperature: 0,
      tools: { get_weather },
      stopWhen: stepCountIs(4),
    });
    let text = '';
    for await (const piece of textStream) text += piece;
    expect(text).toMatch(/rainy|12/);
    expect(text).toMatch(weatherAnswer);
    expect(cities).toEqual(['Oslo']);
  });

  test('an object has what the text says', async () => {
    const schema = z.object({ name: z.string(), age: z.number().int(), city: z.string() });
    const { output } = await generateText({ model: model(), prompt: personQuestion, temperature: 0, output: Output.object({ schema }) });
    expect(output).toEqual(person);
  });

  test('an abort frees the blocks', async () => {
    const leaving = new AbortController();
    const begin = async () => {
      const { textStream } = streamText({ model: model(), prompt: 'Hello!', abortSignal: leaving.signal, onError: () => {} });
      await textStream[Symbol.asyncIterator]().next();
    };
    await expectFreed(api, begin, () => leaving.abort());
  });

  test('an abort of what is not streamed frees the blocks', async () => {
    const leaving = new AbortController();
    let pending: Promise<unknown> = Promise.resolve();
    const begin = async () => {
      pending = generateText({ model: model(), prompt: 'Hello!', abortSignal: leaving.signal });
      pending.catch(() => undefined);
      await until(() => api.engine.stats().kvBlocksReferenced > 0, 'it runs');
    };
    await expectFreed(api, begin, () => leaving.abort());
    await expect(pending).rejects.toThrow();
  });
});
