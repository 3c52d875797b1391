/** Calls that a request forces, from a model that would never make one: random weights, the real engine, every dialect. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Anthropic from '@anthropic-ai/sdk';
import type OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
import { type Serving, serve } from './serving.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-forced-'));
copyFileSync(fileURLToPath(new URL('../golden/qwen3/config.json', import.meta.url)), join(folder, 'config.json'));
writeFileSync(join(folder, 'chat_template.jinja'), "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}<think>\n");

const size = {
  type: 'object',
  properties: { size: { $ref: '#/$defs/size' }, many: { type: 'boolean' } },
  required: ['size', 'many'],
  additionalProperties: false,
  $defs: { size: { enum: ['small', 'large'] } },
};
const count = {
  type: 'object',
  properties: { count: { type: 'integer', minimum: 0, maximum: 9 } },
  required: ['count'],
  additionalProperties: false,
};
const schemas: Readonly<Record<string, Record<string, unknown>>> = { size, count };
const tools: OpenAI.ChatCompletionTool[] = Object.entries(schemas).map(([name, parameters]) => ({
  type: 'function',
  function: { name, parameters },
}));
/** The template opens reasoning, which random weights would hardly end. */
const thinking = { thinking_token_budget: 3 };
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Go.' }];

let serving: Serving;
beforeAll(async () => {
  serving = await serve(await loadEngine({ model: folder, loadFormat: 'dummy', servedModelName: ['any'], backend: 'reference' }));
});
afterAll(async () => {
  await serving[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function check(name: string, args: unknown): void {
  if (name === 'size') expect(args).toEqual({ size: expect.stringMatching(/^(small|large)$/), many: expect.any(Boolean) });
  else expect([name, args]).toEqual(['count', { count: expect.any(Number) }]);
}

test('a required call is one of the tools, with arguments of its schema, whole and streamed', async () => {
  const names = new Set<string>();
  for (let seed = 1; seed <= 6; seed++) {
    const request = { model: 'any', messages, tools, tool_choice: 'required', seed, max_tokens: 100, ...thinking } as const;
    const { choices } = await serving.client.chat.completions.create(request);
    const [choice] = choices;
    expect([choice!.finish_reason, choice!.message.content]).toEqual(['tool_calls', null]);
    const [call] = choice!.message.tool_calls!;
    if (call!.type !== 'function') continue;
    check(call!.function.name, JSON.parse(call!.function.arguments));
    names.add(call!.function.name);
    let streamed = '';
    for await (const chunk of await serving.client.chat.completions.create({ ...request, stream: true })) {
      for (const piece of chunk.choices[0]!.delta.tool_calls ?? []) streamed += piece.function?.arguments ?? '';
    }
    expect(streamed).toBe(call!.function.arguments);
  }
  expect(names.size).toBe(2);
});

test('a named call is that tool', async () => {
  const tool_choice = { type: 'function', function: { name: 'size' } } as const;
  const { choices } = await serving.client.chat.completions.create({
    model: 'any',
    messages,
    tools,
    tool_choice,
    seed: 1,
    max_tokens: 100,
    ...thinking,
  });
  expect(choices[0]!.finish_reason).toBe('stop');
  const [call] = choices[0]!.message.tool_calls!;
  if (call!.type === 'function') check('size', JSON.parse(call!.function.arguments));
  expect(call).toMatchObject({ type: 'function', function: { name: 'size' } });
});

test('Messages and Responses force calls as well', async () => {
  const client = new Anthropic({ baseURL: serving.url, apiKey: 'none', maxRetries: 0 });
  const given = Object.entries(schemas).map(([name, schema]) => ({ name, input_schema: schema as Anthropic.Tool.InputSchema }));
  const tool_choice = { type: 'tool', name: 'count' } as const;
  const message = await client.messages.create({
    model: 'any',
    max_tokens: 100,
    messages: [{ role: 'user', content: 'Go.' }],
    tools: given,
    tool_choice,
    thinking: { type: 'disabled' },
  });
  expect(message).toMatchObject({ stop_reason: 'tool_use', content: [{ type: 'tool_use', name: 'count', input: { count: expect.any(Number) } }] });
  const response = await serving.client.responses.create({
    model: 'any',
    input: 'Go.',
    max_output_tokens: 100,
    tools: Object.entries(schemas).map(([name, parameters]) => ({ type: 'function', name, parameters, strict: true })),
    tool_choice: { type: 'function', name: 'count' },
    ...thinking,
  });
  expect(response.output).toMatchObject([
    { type: 'reasoning' },
    { type: 'function_call', name: 'count', arguments: expect.stringMatching(/^\{"count": ?\d\}$/) },
  ]);
});

test('a tool whose schema cannot be held is refused when it is forced', async () => {
  const parameters = { type: 'object', properties: { x: { type: 'string', contentEncoding: 'base64', pattern: '(?=a)' } } };
  const refused = serving.client.chat.completions.create({
    model: 'any',
    messages,
    tools: [{ type: 'function', function: { name: 'f', parameters } }],
    tool_choice: 'required',
  });
  await expect(refused).rejects.toMatchObject({ status: 400, code: expect.stringMatching(/^GRAMMAR_/) });
});

test('an output that a schema holds is the answer behind the reasoning that the prompt has opened', async () => {
  const response_format = { type: 'json_schema', json_schema: { name: 'count', schema: count } } as const;
  const { choices, usage } = await serving.client.chat.completions.create({
    model: 'any',
    messages,
    response_format,
    max_tokens: 100,
    seed: 1,
    ...thinking,
  });
  check('count', JSON.parse(choices[0]!.message.content!));
  // its three tokens and, a byte each, the tag that was forced behind them
  expect(usage!.completion_tokens_details!.reasoning_tokens).toBeGreaterThanOrEqual(3 + '</think>'.length);
  const free = await serving.client.chat.completions.create({ model: 'any', messages, max_tokens: 5, seed: 1 });
  expect(free.usage!.completion_tokens_details!.reasoning_tokens).toBe(free.usage!.completion_tokens);
});
