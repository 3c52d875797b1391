/** A structured output beside tools, and strict tools, from a model that would never write either: random weights, the real engine. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LLM } from '../../src/engine/llm.ts';
import { loadEngine } from '../../src/engine/load.ts';
import { errorOf, type Serving, serve } from './serving.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-held-'));
copyFileSync(fileURLToPath(new URL('../golden/qwen3/config.json', import.meta.url)), join(folder, 'config.json'));
const template =
  "{# <tool_call>{'name': .., 'arguments': ..}</tool_call> #}{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}<think>\n";
writeFileSync(join(folder, 'chat_template.jinja'), template);

const parameters = {
  type: 'object',
  properties: { count: { type: 'integer', minimum: 0, maximum: 9 } },
  required: ['count'],
  additionalProperties: false,
};
const answer = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'], additionalProperties: false };
const tool = (strict: boolean) => ({ type: 'function', function: { name: 'count', parameters, strict } }) as const;
const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Go.' }];
const request = { model: 'any', messages, max_tokens: 120, thinking_token_budget: 2 };

let serving: Serving;
beforeAll(async () => {
  serving = await serve(await loadEngine({ model: folder, loadFormat: 'dummy', servedModelName: ['any'], backend: 'reference' }));
});
afterAll(async () => {
  await serving[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

test('with a structured output beside tools the answer is a call of a tool or JSON of the schema, whole and streamed', {
  timeout: 60_000,
}, async () => {
  const response_format = { type: 'json_schema', json_schema: { name: 'answer', schema: answer } } as const;
  const seen = new Set<string>();
  for (let seed = 1; seed <= 8; seed++) {
    const asked = { ...request, tools: [tool(false)], response_format, parallel_tool_calls: false, seed };
    const { choices } = await serving.client.chat.completions.create(asked);
    const { message, finish_reason } = choices[0]!;
    const call = message.tool_calls?.[0];
    seen.add(finish_reason);
    if (call?.type === 'function') expect(JSON.parse(call.function.arguments)).toEqual({ count: expect.any(Number) });
    else expect(JSON.parse(message.content!)).toEqual({ ok: expect.any(Boolean) });
    let text = '';
    let args = '';
    for await (const chunk of await serving.client.chat.completions.create({ ...asked, stream: true })) {
      text += chunk.choices[0]!.delta.content ?? '';
      for (const piece of chunk.choices[0]!.delta.tool_calls ?? []) args += piece.function?.arguments ?? '';
    }
    expect([text, args]).toEqual([message.content ?? '', call?.type === 'function' ? call.function.arguments : '']);
  }
  expect(seen).toEqual(new Set(['tool_calls', 'stop']));
});

test('what cannot be told apart is refused by name', async () => {
  const refused = await serving.post('/v1/chat/completions', { ...request, tools: [tool(false)], structured_outputs: { regex: 'a+' } });
  expect(refused.status).toBe(400);
  expect(await errorOf(refused)).toMatchObject({ code: 'NOT_SUPPORTED', param: 'structured_outputs' });
});

test('a required call is written as the model writes calls', async () => {
  const { choices } = await serving.client.chat.completions.create({
    ...request,
    tools: [tool(false)],
    tool_choice: 'required',
    parallel_tool_calls: false,
    seed: 3,
  });
  expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { tool_calls: [{ function: { name: 'count' } }] } });
  const result = serving.engine.generate(
    { messages: [{ role: 'user', content: 'Go.' }] },
    { thinkingTokenBudget: 0, maxTokens: 120, seed: 3 },
    {
      calls: {
        format: (await import('../../src/chat/tool-calls/hermes.ts')).hermes,
        tools: [{ name: 'count', parameters }],
        allowsMany: false,
        mode: 'required',
      },
    },
  );
  expect((await result).choices[0]!.text).toMatch(/^<\/think>\n{0,2}<tool_call>\n\{"name": "count", "arguments": \{"count": ?\d\}\}\n<\/tool_call>$/);
});

test('objects of the library may be thought about first', async () => {
  const llm = new LLM(serving.engine);
  const params = { thinkingTokenBudget: 3, maxTokens: 100, seed: 2 };
  expect(await llm.object({ schema: answer, messages: 'Go.', params })).toEqual({ ok: expect.any(Boolean) });
  const partials: unknown[] = [];
  const stream = llm.objectStream({ schema: answer, messages: 'Go.', params });
  for await (const partial of stream) partials.push(partial);
  expect(partials.at(-1)).toEqual(await stream);
});

test('a chat of the library calls tools or answers by the schema', { timeout: 60_000 }, async () => {
  const llm = new LLM(serving.engine);
  const seen = new Set<boolean>();
  for (let seed = 1; seed <= 6; seed++) {
    const counted: unknown[] = [];
    const tools = { count: { parameters, execute: (args: unknown) => counted.push(args) } };
    const params = { structuredOutput: { json: answer }, thinkingTokenBudget: 2, maxTokens: 60, seed };
    const { text, finishReason } = await llm.chat('Go.', { tools, params, maxTurns: 1 });
    seen.add(counted.length > 0);
    for (const args of counted) expect(args).toEqual({ count: expect.any(Number) });
    if (finishReason === 'stop') expect(JSON.parse(text)).toEqual({ ok: expect.any(Boolean) });
  }
  expect(seen.has(false)).toBe(true);
});
