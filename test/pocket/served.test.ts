/** Learned weights behind the server: tools that a model decides to call, objects whose values are right and not only well formed. */
import path from 'node:path';
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LLM } from '../../src/index.ts';
import { type Serving, serve } from '../e2e/serving.ts';

const model = path.join(import.meta.dirname, '..', '..', 'pocket', 'model');
const functionOf = (name: string, properties: Record<string, { type: string }>): OpenAI.ChatCompletionTool => ({
  type: 'function',
  function: { name, parameters: { type: 'object', properties, required: Object.keys(properties) } },
});
const tools = [functionOf('set_timer', { minutes: { type: 'integer' } }), functionOf('get_weather', { city: { type: 'string' } })];
const asked: OpenAI.ChatCompletionMessageParam = { role: 'user', content: 'What is the weather in Oslo?' };
const request = { model: 'pocket', temperature: 0, tools, messages: [asked] };

let serving: Serving;
let llm: LLM;

beforeAll(async () => {
  llm = await LLM.load({ model, servedModelName: ['pocket'] });
  serving = await serve(llm.engine);
});
afterAll(() => serving?.[Symbol.asyncDispose]());

describe('the pocket model behind the server', () => {
  test('calls the tool that the question needs, and answers from its result', async () => {
    const first = await serving.client.chat.completions.create(request);
    const [{ message, finish_reason }] = first.choices as [OpenAI.ChatCompletion.Choice];
    expect(finish_reason).toBe('tool_calls');
    const [call] = message.tool_calls as [OpenAI.ChatCompletionMessageFunctionToolCall];
    expect([call.function.name, JSON.parse(call.function.arguments)]).toEqual(['get_weather', { city: 'Oslo' }]);
    const told: OpenAI.ChatCompletionMessageParam = { role: 'tool', tool_call_id: call.id, content: '{"temperature": 12, "condition": "rainy"}' };
    const second = await serving.client.chat.completions.create({ ...request, messages: [asked, message, told] });
    expect(second.choices[0]?.finish_reason).toBe('stop');
    expect(second.choices[0]?.message.content).toMatch(/rainy.*Oslo.*12 degrees/);
  });

  test('streams the call that it gives whole', async () => {
    const names: string[] = [];
    let json = '';
    for await (const chunk of await serving.client.chat.completions.create({ ...request, stream: true })) {
      for (const { function: part } of chunk.choices[0]?.delta.tool_calls ?? []) {
        if (part?.name) names.push(part.name);
        json += part?.arguments ?? '';
      }
    }
    expect(names).toEqual(['get_weather']);
    expect(JSON.parse(json)).toEqual({ city: 'Oslo' });
  });

  test('does not call a tool for a greeting', async () => {
    const { choices } = await serving.client.chat.completions.create({ ...request, messages: [{ role: 'user', content: 'Hello!' }] });
    expect(choices[0]?.finish_reason).toBe('stop');
    expect(choices[0]?.message.content).toMatch(/hello|hi/i);
  });

  test('fills a schema with what the text says', async () => {
    const schema = {
      type: 'object',
      properties: { name: { type: 'string' }, age: { type: 'integer' }, city: { type: 'string' } },
      required: ['name', 'age', 'city'],
      additionalProperties: false,
    };
    const text = 'Extract name, age, city as JSON: Lena is 34 years old and lives in Berlin.';
    const { choices } = await serving.client.chat.completions.create({
      model: 'pocket',
      temperature: 0,
      messages: [{ role: 'user', content: text }],
      response_format: { type: 'json_schema', json_schema: { name: 'person', schema, strict: true } },
    });
    expect(JSON.parse(choices[0]?.message.content ?? '')).toEqual({ name: 'Lena', age: 34, city: 'Berlin' });
  });

  test('runs a tool in this process until it can answer', async () => {
    const cities: unknown[] = [];
    const weather = {
      parameters: { type: 'object', properties: { city: { type: 'string' } } },
      execute: ({ city }: Readonly<Record<string, unknown>>) => {
        cities.push(city);
        return '{"temperature": 3, "condition": "snowy"}';
      },
    };
    const answer = await llm.chat('What is the weather in Cairo?', { tools: { get_weather: weather }, params: { temperature: 0 } });
    expect(cities).toEqual(['Cairo']);
    expect(answer.text).toMatch(/snowy.*Cairo.*3 degrees/);
  });
});
