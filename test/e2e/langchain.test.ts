/** LangChain.js over an engine in this process. */
import { HumanMessage, ToolMessage, type UsageMetadata } from '@langchain/core/messages';
import { StringOutputParser } from '@langchain/core/output_parsers';
import { ChatPromptTemplate } from '@langchain/core/prompts';
import { tool } from '@langchain/core/tools';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { ChatMillrace } from '../../src/langchain/index.ts';
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts';
import { until } from './serving.ts';

const outputFormats = { toolCalls: 'hermes', reasoning: 'think' };
const make = (options: FakeEngineOptions) => {
  const engine = new FakeEngine({ stepMs: 0, scriptEnds: true, ...options });
  return { engine, model: new ChatMillrace({ engine, request: { max_tokens: 200, temperature: 0 }, maxRetries: 0 }) };
};

test('text, reasoning and usage, whole and in a streamed chain', async () => {
  const { engine, model } = make({ script: '<think>\nHm.\n</think>\n\nIt is fine.', outputFormats });
  const answer = await model.invoke('How is it?');
  expect(answer.text).toBe('It is fine.');
  expect(answer.additional_kwargs.reasoning_content).toBe('Hm.');
  expect(answer.response_metadata.finish_reason).toBe('stop');
  const usage = answer.usage_metadata as unknown as UsageMetadata;
  expect(usage.total_tokens).toBe(usage.input_tokens + usage.output_tokens);
  expect(engine.seen[0]!.params).toMatchObject({ temperature: 0, maxTokens: 200 });
  const chain = ChatPromptTemplate.fromMessages([
    ['system', 'Be brief.'],
    ['human', 'How is {what}?'],
  ])
    .pipe(model)
    .pipe(new StringOutputParser());
  const pieces: string[] = [];
  for await (const piece of await chain.stream({ what: 'it' })) pieces.push(piece);
  expect(pieces.join('')).toBe('It is fine.');
  expect(pieces.length).toBeGreaterThan(5);
  const { input } = engine.seen.at(-1)!;
  expect('messages' in input && input.messages).toMatchObject([{ role: 'system' }, { role: 'user', content: 'How is it?' }]);
});

test('tools are bound, called and answered', async () => {
  const script = 'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Z\u00fcrich"}}\n</tool_call>';
  const { engine, model } = make({ script, outputFormats });
  const weather = tool(({ city }) => `21 degrees in ${city}`, { name: 'weather', description: 'Tells it.', schema: z.object({ city: z.string() }) });
  const bound = model.bindTools([weather]);
  const question = new HumanMessage('How is it?');
  const answer = await bound.invoke([question]);
  expect(answer.tool_calls).toMatchObject([{ name: 'weather', args: { city: 'Z\u00fcrich' }, type: 'tool_call' }]);
  const result = (await weather.invoke(answer.tool_calls![0]!)) as ToolMessage;
  expect(result).toBeInstanceOf(ToolMessage);
  await bound.invoke([question, answer, result]);
  const { input } = engine.seen.at(-1)!;
  expect('messages' in input && input.messages).toMatchObject([
    { role: 'user' },
    { role: 'assistant', content: 'Let me see.', tool_calls: [{ function: { name: 'weather', arguments: '{"city":"Z\u00fcrich"}' } }] },
    { role: 'tool', content: '21 degrees in Z\u00fcrich' },
  ]);
  expect('messages' in input && input.template?.tools).toMatchObject([{ function: { name: 'weather', parameters: { properties: { city: {} } } } }]);
});

test('structured output forces a call of the schema', async () => {
  const { engine, model } = make({ script: '<tool_call>\n{"name": "person", "arguments": {"name": "Ada"}}\n</tool_call>', outputFormats });
  const person = await model.withStructuredOutput(z.object({ name: z.string() }), { name: 'person' }).invoke('Who?');
  expect(person).toEqual({ name: 'Ada' });
  expect(engine.seen.at(-1)!.options.calls).toMatchObject({ mode: 'required', tools: [{ name: 'person' }] });
});

test('an abort ends the generation; what is refused is thrown', async () => {
  const { engine, model } = make({ stepMs: 5, scriptEnds: false });
  const leaving = new AbortController();
  const stream = await model.stream('How is it?', { signal: leaving.signal, request: { max_tokens: 2000 } });
  const reader = stream[Symbol.asyncIterator]();
  await reader.next();
  expect(engine.running).toBe(1);
  leaving.abort();
  await until(() => engine.running === 0, 'the generation to end');
  await expect(model.invoke('x', { request: { temperature: -1 } })).rejects.toThrow(/temperature/);
  const image = new HumanMessage({ content: [{ type: 'image_url', image_url: { url: 'data:,' } }] });
  await expect(model.invoke([image])).rejects.toThrow(/not supported/);
});
