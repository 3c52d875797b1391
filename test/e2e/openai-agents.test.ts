/** The OpenAI Agents SDK over HTTP, by the chat completions and by the Responses API. */
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, tool } from '@openai/agents';
import OpenAI from 'openai';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts';
import { serve, until } from './serving.ts';

const outputFormats = { toolCalls: 'hermes', reasoning: 'think' };
const ways = ['chat completions', 'responses'] as const;

async function agents(way: (typeof ways)[number], options: FakeEngineOptions) {
  const serving = await serve(new FakeEngine({ stepMs: 0, scriptEnds: true, outputFormats, ...options }));
  const client = new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'none', maxRetries: 0 });
  type Client = ConstructorParameters<typeof OpenAIResponsesModel>[0];
  const Model = way === 'responses' ? OpenAIResponsesModel : OpenAIChatCompletionsModel;
  const model = new Model(client as unknown as Client, 'fake');
  const runner = new Runner({ tracingDisabled: true });
  return { engine: serving.engine, model, runner, [Symbol.asyncDispose]: serving[Symbol.asyncDispose] };
}

test.each(ways)('%s: an agent answers, whole and streamed', async (way) => {
  await using setup = await agents(way, { script: 'It is fine.' });
  const agent = new Agent({ name: 'Teller', instructions: 'Be brief.', model: setup.model });
  expect((await setup.runner.run(agent, 'How is it?')).finalOutput).toBe('It is fine.');
  const { input } = setup.engine.seen[0]!;
  expect('messages' in input && input.messages).toMatchObject([
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'How is it?' },
  ]);
  const streamed = await setup.runner.run(agent, 'How is it?', { stream: true });
  let text = '';
  for await (const piece of streamed.toTextStream()) text += piece;
  await streamed.completed;
  expect([text, streamed.finalOutput]).toEqual(['It is fine.', 'It is fine.']);
});

test.each(ways)('%s: an agent runs its tools', async (way) => {
  const script = '<tool_call>\n{"name": "weather", "arguments": {"city": "Z\u00fcrich"}}\n</tool_call>';
  await using setup = await agents(way, { script });
  const weather = tool({
    name: 'weather',
    description: 'Tells it.',
    parameters: z.object({ city: z.string() }),
    execute: ({ city }) => `21 degrees in ${city}`,
  });
  const agent = new Agent({ name: 'Teller', instructions: 'Be brief.', model: setup.model, tools: [weather] });
  // The fake model calls for ever: the second turn shows that it was told the result.
  await expect(setup.runner.run(agent, 'How is it?', { maxTurns: 2 })).rejects.toThrow(/turns/i);
  const { input } = setup.engine.seen.at(-1)!;
  expect('messages' in input && input.messages).toMatchObject([
    { role: 'system' },
    { role: 'user' },
    { role: 'assistant', tool_calls: [{ function: { name: 'weather' } }] },
    { role: 'tool', content: '21 degrees in Z\u00fcrich' },
  ]);
});

test.each(ways)('%s: an agent with a type of output gets it', async (way) => {
  await using setup = await agents(way, { script: '{"degrees": 21}' });
  const agent = new Agent({ name: 'Teller', instructions: 'x', model: setup.model, outputType: z.object({ degrees: z.number() }) });
  expect((await setup.runner.run(agent, 'How is it?')).finalOutput).toEqual({ degrees: 21 });
  expect(setup.engine.seen[0]!.params.structuredOutput).toBeTruthy();
});

test.each(ways)('%s: an abort ends the generation', async (way) => {
  await using setup = await agents(way, { stepMs: 5, scriptEnds: false });
  const agent = new Agent({ name: 'Teller', instructions: 'x', model: setup.model });
  const leaving = new AbortController();
  const streamed = await setup.runner.run(agent, 'How is it?', { stream: true, signal: leaving.signal });
  await streamed.toTextStream()[Symbol.asyncIterator]().next();
  expect(setup.engine.running).toBe(1);
  leaving.abort();
  await until(() => setup.engine.running === 0, 'the generation to end');
  await streamed.completed.catch(() => {});
});
