/** The Vercel AI SDK: our provider in this process, and its provider of OpenAI-compatible servers over HTTP. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, Output, stepCountIs, streamText, tool } from 'ai';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { createMillrace } from '../../src/ai-sdk/index.ts';
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts';
import { serve, until } from './serving.ts';

const outputFormats = { toolCalls: 'hermes', reasoning: 'think' };
const calling = '<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Z\u00fcrich"}}\n</tool_call>';
const prompt = 'How is it?';

/** The same model both ways. */
async function eachWay(options: FakeEngineOptions) {
  const serving = await serve(new FakeEngine({ stepMs: 0, scriptEnds: true, ...options }));
  const remote = createOpenAICompatible({ name: 'millrace', baseURL: `${serving.url}/v1`, includeUsage: true, supportsStructuredOutputs: true });
  const models = { 'in process': createMillrace(serving.engine)(), 'over HTTP': remote('fake') };
  return { engine: serving.engine, models, [Symbol.asyncDispose]: serving[Symbol.asyncDispose] };
}
const ways = ['in process', 'over HTTP'] as const;

test.each(ways)('%s: text, reasoning and usage, whole and streamed', async (way) => {
  await using both = await eachWay({ script: '<think>\nHm.\n</think>\n\nIt is fine.', outputFormats });
  const model = both.models[way];
  const whole = await generateText({ model, prompt, maxOutputTokens: 100 });
  expect(whole).toMatchObject({ text: 'It is fine.', reasoningText: 'Hm.', finishReason: 'stop' });
  const streamed = streamText({ model, prompt, maxOutputTokens: 100 });
  let text = '';
  for await (const piece of streamed.textStream) text += piece;
  expect(text).toBe('It is fine.');
  expect(await streamed.reasoningText).toBe('Hm.');
  expect((await streamed.usage).outputTokens).toBe(whole.usage.outputTokens);
  expect(whole.usage.outputTokens).toBeGreaterThan(10);
});

test.each(ways)('%s: tools are called with arguments and told what came of it', async (way) => {
  await using both = await eachWay({ script: calling, outputFormats });
  const asked: string[] = [];
  const weather = tool({
    description: 'Tells it.',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      asked.push(city);
      return { degrees: 21 };
    },
  });
  const { steps } = await generateText({ model: both.models[way], prompt, tools: { weather }, stopWhen: stepCountIs(2) });
  expect(steps).toHaveLength(2);
  expect(steps[0]!.finishReason).toBe('tool-calls');
  const { input } = both.engine.seen[1]!;
  expect('messages' in input && input.messages).toMatchObject([
    { role: 'user' },
    { role: 'assistant', tool_calls: [{ function: { name: 'weather' } }] },
    { role: 'tool', content: '{"degrees":21}' },
  ]);
  const streamed = streamText({ model: both.models[way], prompt, tools: { weather } });
  const types: string[] = [];
  for await (const part of streamed.fullStream) types.push(part.type);
  expect(types).toEqual(
    expect.arrayContaining(['reasoning-delta', 'text-delta', 'tool-input-start', 'tool-input-delta', 'tool-call', 'tool-result']),
  );
  expect(asked).toEqual(['Z\u00fcrich', 'Z\u00fcrich', 'Z\u00fcrich']);
});

test.each(ways)('%s: an object by a schema, which the engine is told to enforce', async (way) => {
  await using both = await eachWay({ script: '{"name": "Ada", "age": 36}' });
  const schema = z.object({ name: z.string(), age: z.number() });
  const { output } = await generateText({ model: both.models[way], prompt, output: Output.object({ schema }) });
  expect(output).toEqual({ name: 'Ada', age: 36 });
  expect(both.engine.seen.at(-1)!.params.structuredOutput).toMatchObject({ json: { properties: { name: {}, age: {} } } });
});

test.each(ways)('%s: an abort ends the generation', async (way) => {
  await using both = await eachWay({ stepMs: 5, scriptEnds: false });
  const leaving = new AbortController();
  const { textStream } = streamText({ model: both.models[way], prompt, abortSignal: leaving.signal, onError: () => {} });
  const reader = textStream[Symbol.asyncIterator]();
  await reader.next();
  expect(both.engine.running).toBe(1);
  leaving.abort();
  await until(() => both.engine.running === 0, 'the generation to end');
});

test('in process: fields of ours pass through, and what is refused is thrown', async () => {
  await using both = await eachWay({ script: 'x' });
  const model = both.models['in process'];
  await generateText({ model, prompt, providerOptions: { millrace: { min_p: 0.1 } } });
  expect(both.engine.seen.at(-1)!.params.minP).toBe(0.1);
  await expect(generateText({ model, prompt, temperature: -1, maxRetries: 0 })).rejects.toThrow(/temperature/);
});
