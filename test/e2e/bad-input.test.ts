import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { errorTable } from '../../src/base/errors.ts';
import { FakeEngine } from './fake-engine.ts';
import { errorOf, isQuiet, type Serving, serve } from './serving.ts';

let serving: Serving<FakeEngine>;
beforeAll(async () => {
  serving = await serve(new FakeEngine({ maxModelLen: 256 }), { limits: { bodyBytes: 64 * 1024, prompts: 4, messages: 8, choices: 16 } });
});
afterAll(async () => {
  const health = await fetch(`${serving.url}/health`);
  expect(health.status, 'the server still serves').toBe(200);
  expect(isQuiet(serving)).toBe(true);
  await serving[Symbol.asyncDispose]();
});

const user = { role: 'user', content: 'hi' };
const chat = '/v1/chat/completions';
const plain = '/v1/completions';

// Each: what is sent, where, and the refusal that it gets.
const refusals: readonly [title: string, path: string, body: unknown, code: keyof typeof errorTable, param: string | null][] = [
  ['an empty body', chat, '', 'REQUEST_INVALID', null],
  ['broken JSON', chat, '{"messages": [', 'REQUEST_INVALID', null],
  ['a list for a body', chat, [], 'REQUEST_INVALID', null],
  ['a poisoned prototype', chat, '{"__proto__": {"x": 1}, "messages": []}', 'REQUEST_INVALID', null],
  ['no messages', chat, {}, 'REQUEST_INVALID', 'messages'],
  ['an empty list of messages', chat, { messages: [] }, 'REQUEST_INVALID', 'messages'],
  ['too many messages', chat, { messages: new Array(9).fill(user) }, 'REQUEST_INVALID', 'messages'],
  ['a message without a role', chat, { messages: [{ content: 'x' }] }, 'REQUEST_INVALID', 'messages[0].role'],
  ['content of a wrong type', chat, { messages: [user, { role: 'user', content: 3 }] }, 'REQUEST_INVALID', 'messages[1].content'],
  ['a part without text', chat, { messages: [{ role: 'user', content: [{ type: 'text' }] }] }, 'REQUEST_INVALID', 'messages[0].content[0].text'],
  [
    'an image',
    chat,
    { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:,' } }] }] },
    'NOT_SUPPORTED',
    'messages[0].content[0].type',
  ],
  ['a number as text', chat, { messages: [user], temperature: '0.5' }, 'REQUEST_INVALID', 'temperature'],
  ['a fraction of a token', chat, { messages: [user], max_tokens: 1.5 }, 'REQUEST_INVALID', 'max_tokens'],
  ['no token at all', chat, { messages: [user], max_tokens: 0 }, 'SAMPLING_PARAM_INVALID', 'max_tokens'],
  ['a negative temperature', chat, { messages: [user], temperature: -1 }, 'SAMPLING_PARAM_INVALID', 'temperature'],
  ['a top_p above 1', chat, { messages: [user], top_p: 1.5 }, 'SAMPLING_PARAM_INVALID', 'top_p'],
  ['an absurd n', chat, { messages: [user], n: 1e9 }, 'SAMPLING_PARAM_INVALID', 'n'],
  ['n = 0', chat, { messages: [user], n: 0 }, 'SAMPLING_PARAM_INVALID', 'n'],
  ['too many choices', plain, { prompt: ['a', 'b', 'c'], n: 6 }, 'REQUEST_INVALID', 'n'],
  ['too many top_logprobs', chat, { messages: [user], logprobs: true, top_logprobs: 21 }, 'SAMPLING_PARAM_INVALID', 'top_logprobs'],
  ['top_logprobs without logprobs', chat, { messages: [user], top_logprobs: 2 }, 'REQUEST_INVALID', 'top_logprobs'],
  ['too many logprobs', plain, { prompt: 'a', logprobs: 21 }, 'SAMPLING_PARAM_INVALID', 'logprobs'],
  ['stop of a wrong type', chat, { messages: [user], stop: 5 }, 'REQUEST_INVALID', 'stop'],
  ['too many stop strings', chat, { messages: [user], stop: new Array(17).fill('x') }, 'SAMPLING_PARAM_INVALID', 'stop'],
  ['a bias of a word', chat, { messages: [user], logit_bias: { hello: 1 } }, 'SAMPLING_PARAM_INVALID', 'logit_bias'],
  ['a bias outside the vocabulary', chat, { messages: [user], logit_bias: { 999999: 1 } }, 'SAMPLING_PARAM_INVALID', 'logit_bias'],
  ['a bias of a wrong type', chat, { messages: [user], logit_bias: { 5: 'x' } }, 'REQUEST_INVALID', 'logit_bias[5]'],
  ['stream_options without stream', chat, { messages: [user], stream_options: { include_usage: true } }, 'REQUEST_INVALID', 'stream_options'],
  [
    'a wrong stream option',
    chat,
    { messages: [user], stream: true, stream_options: { include_usage: 1 } },
    'REQUEST_INVALID',
    'stream_options.include_usage',
  ],
  ['an unknown model', chat, { model: 'gpt-9', messages: [user] }, 'MODEL_UNKNOWN', 'model'],
  [
    'two ways to end a prompt',
    chat,
    { messages: [user], add_generation_prompt: true, continue_final_message: true },
    'REQUEST_INVALID',
    'continue_final_message',
  ],
  ['a request id with a line break', chat, { messages: [user], request_id: 'a\r\nset-cookie: x' }, 'REQUEST_INVALID', 'request_id'],
  ['no prompt', plain, {}, 'REQUEST_INVALID', 'prompt'],
  ['an empty list of prompts', plain, { prompt: [] }, 'PROMPT_EMPTY', 'prompt'],
  ['a prompt of mixed kinds', plain, { prompt: ['a', 3] }, 'REQUEST_INVALID', 'prompt'],
  ['too many prompts', plain, { prompt: ['a', 'b', 'c', 'd', 'e'] }, 'REQUEST_INVALID', 'prompt'],
  ['a negative token id', plain, { prompt: [-1] }, 'REQUEST_INVALID', 'prompt'],
  ['a token id outside the vocabulary', plain, { prompt: [5, 4000] }, 'PROMPT_TOKEN_UNKNOWN', null],
  ['a prompt longer than the context', plain, { prompt: 'x'.repeat(300) }, 'PROMPT_TOO_LONG', 'prompt'],
  ['one long prompt among good ones', plain, { prompt: ['a', 'x'.repeat(300)], stream: true }, 'PROMPT_TOO_LONG', 'prompt'],
  ['an unknown id to detokenize', '/detokenize', { tokens: [4000] }, 'PROMPT_TOKEN_UNKNOWN', 'tokens'],
  ['nothing to tokenize', '/tokenize', {}, 'REQUEST_INVALID', 'prompt'],
  ['too much to tokenize', '/tokenize', { prompt: 'a', messages: [user] }, 'REQUEST_INVALID', 'prompt'],
];

test.each(refusals)('%s is refused with one clear error', async (_title, path, body, code, param) => {
  const response = await serving.post(path, body);
  const error = await errorOf(response);
  expect(error).toMatchObject({ code, param });
  expect(response.status).toBe(errorTable[code].status);
  expect(error.message.length).toBeGreaterThan(10);
  expect(error.message.length).toBeLessThan(600);
  expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f]{32}$/);
});

// What does not exist yet is refused, in its place: ignoring it would answer another question.
const notYet: readonly [field: string, path: string, value: unknown][] = [
  ['response_format', chat, { type: 'yaml' }],
  ['guided_json', chat, {}],
  ['suffix', plain, 'the end'],
  ['chat_template', chat, '{{ messages }}'],
];

test.each(notYet)('%s is refused by name at %s until it is built', async (field, path, value) => {
  const response = await serving.post(path, { messages: [user], prompt: 'a', [field]: value });
  expect(response.status).toBe(400);
  expect(await errorOf(response)).toMatchObject({ code: 'NOT_SUPPORTED', param: field });
});

test('features that are switched off, nulls and unknown fields are let through', async () => {
  const off = { tools: [], tool_choice: 'none', response_format: { type: 'text' }, modalities: ['text'], logit_bias: null, stop: null, audio: null };
  const unknown = { user: 'someone', service_tier: 'auto', store: true, metadata: { a: 'b' }, no_such_field: 1, max_tokens: 2 };
  expect((await serving.post(chat, { messages: [user], ...off, ...unknown })).status).toBe(200);
  expect((await serving.post(plain, { prompt: 'a', best_of: 1, suffix: '', use_beam_search: false, max_tokens: 2 })).status).toBe(200);
});

test('a body over the limit is a 413, whether its length is announced or not', async () => {
  const large = JSON.stringify({ messages: [{ role: 'user', content: 'x'.repeat(70_000) }] });
  const announced = await serving.post(chat, large);
  expect(announced.status).toBe(413);
  expect((await errorOf(announced)).code).toBe('REQUEST_TOO_LARGE');
  const chunked = new ReadableStream({
    start(controller) {
      for (let at = 0; at < large.length; at += 8192) controller.enqueue(new TextEncoder().encode(large.slice(at, at + 8192)));
      controller.close();
    },
  });
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: chunked, duplex: 'half' } as RequestInit;
  expect((await fetch(serving.url + chat, init)).status).toBe(413);
});

test('unknown endpoints are 404, wrong methods 405 with what is allowed', async () => {
  const unknown = await fetch(`${serving.url}/v1/nothing`);
  expect([unknown.status, (await errorOf(unknown)).code]).toEqual([404, 'ROUTE_UNKNOWN']);
  const wrong = await fetch(serving.url + chat);
  expect([wrong.status, wrong.headers.get('allow'), (await errorOf(wrong)).code]).toEqual([405, 'POST', 'METHOD_NOT_ALLOWED']);
  const malformed = await fetch(`${serving.url}/%zz`);
  expect([malformed.status, (await errorOf(malformed)).code]).toEqual([400, 'REQUEST_INVALID']);
});

test('a body that is not declared as JSON is refused with the header to send', async () => {
  const response = await fetch(serving.url + chat, { method: 'POST', body: JSON.stringify({ messages: [user] }) });
  expect(response.status).toBe(400);
  expect((await errorOf(response)).message).toContain('application/json');
});

test('the official client throws its own classes for these', async () => {
  const ask = (fields: object) => serving.client.chat.completions.create({ model: 'fake', messages: [{ role: 'user', content: 'a' }], ...fields });
  await expect(ask({ n: 1e6 })).rejects.toBeInstanceOf(OpenAI.BadRequestError);
  await expect(ask({ model: 'other' })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
});

test('lone surrogates, control characters and deep nesting are only data', async () => {
  const content = '\ud800 \u0000 \udfff \u202e 𝄞';
  expect((await serving.post(chat, { messages: [{ role: 'user', content }], max_tokens: 2 })).status).toBe(200);
  const deep = '['.repeat(20_000) + ']'.repeat(20_000);
  const nested = `{"messages":[{"role":"user","content":"a"}],"max_tokens":2,"metadata":${deep},"chat_template_kwargs":{"x":${deep.slice(9000, -9000)}}}`;
  expect((await serving.post(chat, nested)).status).toBe(200);
});
