/** What is answered, whole and as events, against the schemas of OpenAI's own document, keyword by keyword (types, required fields, values of enums, alternatives). */
import fs from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import Ajv2020 from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Api, type Json } from '../api/api.ts';

const file = path.join(process.env.MILLRACE_SHARED ?? path.resolve('../shared'), 'data/openai-openapi/openapi.json.gz');
const messages = [{ role: 'user', content: 'What is the weather in Oslo?' }];
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false };
const weather = { name: 'get_weather', description: 'Tells the weather.', parameters };
const schema = { type: 'object', properties: { n: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['n'], additionalProperties: false };
const thinking = { chat_template_kwargs: { enable_thinking: true } };
const sampled = { model: 'pocket', temperature: 0 };

const chats: readonly (readonly [string, object])[] = [
  ['a text', { max_tokens: 8 }],
  ['a call', { tools: [{ type: 'function', function: weather }], max_tokens: 60 }],
  ['a forced call', { tools: [{ type: 'function', function: weather }], tool_choice: 'required', max_tokens: 60 }],
  ['a thought', { ...thinking, max_tokens: 60 }],
  ['log probabilities', { logprobs: true, top_logprobs: 2, max_tokens: 4 }],
  ['a structured output', { response_format: { type: 'json_schema', json_schema: { name: 'n', schema, strict: true } }, max_tokens: 30 }],
  ['several choices', { n: 2, temperature: 1, max_tokens: 6, stop: 'e' }],
];
const responses: readonly (readonly [string, object])[] = [
  ['a text', { max_output_tokens: 8 }],
  ['a call', { tools: [{ type: 'function', ...weather, strict: true }], max_output_tokens: 60 }],
  ['a forced call', { tools: [{ type: 'function', ...weather }], tool_choice: { type: 'function', name: 'get_weather' }, max_output_tokens: 60 }],
  ['a thought', { ...thinking, reasoning: { effort: 'low' }, max_output_tokens: 60 }],
  ['log probabilities', { include: ['message.output_text.logprobs'], top_logprobs: 2, max_output_tokens: 4 }],
  ['a structured output', { text: { format: { type: 'json_schema', name: 'n', schema, strict: true } }, max_output_tokens: 30 }],
  ['metadata and instructions', { instructions: 'Be brief.', metadata: { a: 'b' }, store: false, max_output_tokens: 4 }],
];

/** Where the document says less than OpenAI's own server and its clients do. */
const differences: readonly RegExp[] = [
  /^\/response\/usage must be object$|^\/usage must be object$/, // null until it has ended
  /^\/choices\/0\/finish_reason must be/, // null in all chunks of a completion but the last
  /^\/choices\/0\/logprobs(\/(token|top)_logprobs\/0)? must/, // null for the first token of a prompt, which follows nothing
];

/** OpenAPI 3.0's `nullable`, which the document still has here and there, as JSON Schema says it. */
function withNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withNulls);
  if (typeof value !== 'object' || value === null) return value;
  const { nullable, ...rest } = Object.fromEntries(Object.entries(value).map(([name, each]) => [name, withNulls(each)]));
  return nullable === true ? { anyOf: [rest, { type: 'null' }] } : { ...rest, ...(typeof nullable === 'object' ? { nullable } : {}) };
}

describe.skipIf(!fs.existsSync(file))("answers and OpenAI's document (../shared/data/openai-openapi)", () => {
  let api: Api;
  let fits: (name: string, value: Json) => void;
  beforeAll(async () => {
    api = await Api.open();
    const document = withNulls(JSON.parse(gunzipSync(fs.readFileSync(file)).toString('utf8'))) as Json;
    const ajv = new Ajv2020.default({ strict: false, validateFormats: false, allErrors: true });
    ajv.addSchema(document, 'openai');
    const events: Json[] = document.components.schemas.ResponseStreamEvent.anyOf;
    const byType = new Map<string, string>(
      events.flatMap(({ $ref }) => {
        const name = $ref.split('/').at(-1);
        return document.components.schemas[name].properties.type.enum.map((type: string) => [type, name] as const);
      }),
    );
    fits = (name, value) => {
      const schemaName = name === 'ResponseStreamEvent' ? byType.get(value.type) : name;
      expect(schemaName, `an event of the type ${value.type}`).toBeDefined();
      const validate = ajv.getSchema(`openai#/components/schemas/${schemaName}`);
      expect(validate, schemaName).toBeDefined();
      const told = validate?.(value) ? [] : (validate?.errors ?? []).map(({ instancePath: at, message }) => `${at} ${message}`);
      const faults = told.filter((fault) => !differences.some((known) => known.test(fault)));
      expect(faults, `${schemaName}: ${JSON.stringify(value)}`).toEqual([]);
    };
  });
  afterAll(() => api?.[Symbol.asyncDispose]());

  test.each(chats)('a chat completion: %s', async (_, fields) => {
    const body = { ...sampled, messages, ...fields };
    fits('CreateChatCompletionResponse', (await api.ok('/v1/chat/completions', body)).body);
    for (const chunk of await api.frames('/v1/chat/completions', { ...body, stream: true, stream_options: { include_usage: true } })) {
      fits('CreateChatCompletionStreamResponse', chunk);
    }
  });

  test.each([
    ['a text', { max_tokens: 4 }],
    ['log probabilities', { logprobs: 2, max_tokens: 4, stream: true }],
    ['an echo with log probabilities', { logprobs: 0, echo: true, max_tokens: 4 }],
  ])('a completion: %s', async (_, fields) => {
    const body = { ...sampled, prompt: 'Once upon', ...fields };
    const frames = 'stream' in fields ? await api.frames('/v1/completions', body) : [(await api.ok('/v1/completions', body)).body];
    for (const frame of frames) fits('CreateCompletionResponse', frame);
  });

  test.each(responses)('a response: %s', async (_, fields) => {
    const body = { ...sampled, input: 'What is the weather in Oslo?', ...fields };
    fits('Response', (await api.ok('/v1/responses', body)).body);
    for (const event of await api.frames('/v1/responses', { ...body, stream: true })) fits('ResponseStreamEvent', event);
  });

  test('a response in the background, its items and its events', async () => {
    const input = [
      { role: 'user', content: 'What is the weather in Oslo?' },
      { type: 'reasoning', content: [{ type: 'reasoning_text', text: 'I look.' }] },
      { type: 'function_call', call_id: 'c1', name: 'get_weather', arguments: '{"city": "Oslo"}' },
      { type: 'function_call_output', call_id: 'c1', output: 'sunny' },
      { role: 'assistant', content: 'Sunny.' },
      { role: 'user', content: 'Tell me a story.' },
    ];
    const queued = (await api.ok('/v1/responses', { ...sampled, input, background: true, max_output_tokens: 6 })).body;
    fits('Response', queued);
    for (const event of await api.frames(`/v1/responses/${queued.id}?stream=true`, undefined)) fits('ResponseStreamEvent', event);
    fits('ResponseItemList', (await api.ok(`/v1/responses/${queued.id}/input_items`)).body);
    fits('Response', (await api.ok(`/v1/responses/${queued.id}`)).body);
  });

  test('models', async () => {
    fits('ListModelsResponse', (await api.ok('/v1/models')).body);
    fits('Model', (await api.ok('/v1/models/pocket')).body);
  });

  test.each(['/v1/chat/completions', '/v1/completions', '/v1/responses'])('an error of %s', async (at) => {
    fits('ErrorResponse', (await api.send(at, { temperature: 'hot' })).body);
  });
});
