/** Endpoints that do not generate. */
import assert from 'node:assert/strict';
import { version } from '../../src/base/version.ts';
import { type Case, type Json, one } from './api.ts';

const user = { role: 'user', content: 'Tell me a story.' };
const weather = { name: 'get_weather', arguments: '{"city": "Oslo"}' };

export const tokenizeCases: readonly Case[] = [
  one(['prompt', 'model', 'return_token_strs'], 'ids of a text, with their spelling if asked', async (api) => {
    const told = (await api.ok('/tokenize', { prompt: 'Once upon', model: 'pocket', return_token_strs: true })).body;
    const ids = [...api.engine.tokenizer.encode('Once upon', { addSpecialTokens: true, parseSpecial: true })];
    assert.deepEqual([told.tokens, told.count, told.token_strs.length, told.max_model_len], [ids, ids.length, ids.length, 1024]);
    assert.deepEqual((await api.ok('/v1/tokenize', { prompt: 'Once upon' })).body.tokens, ids);
    await api.refused('/tokenize', { prompt: 'x', model: 'other' }, 'MODEL_UNKNOWN', 'model');
    await api.refused('/tokenize', { prompt: 'x', messages: [user] }, 'REQUEST_INVALID', 'prompt');
  }),
  one('add_special_tokens', 'off, the tokens of the text only', async (api) => {
    const told = (await api.ok('/tokenize', { prompt: 'Once', add_special_tokens: false })).body;
    assert.deepEqual(told.tokens, [...api.engine.tokenizer.encode('Once', { addSpecialTokens: false, parseSpecial: true })]);
  }),
  one(
    [
      ...['messages', 'messages[].role', 'messages[].content', 'messages[].content[].type', 'messages[].content[].text', 'messages[].name'],
      ...['messages[].tool_calls', 'messages[].tool_call_id', 'messages[].reasoning_content', 'messages[].reasoning', 'messages[].function_call'],
      ...['add_generation_prompt', 'continue_final_message', 'chat_template_kwargs'],
    ],
    'ids of the prompt that a chat with these fields is answered from',
    async (api) => {
      const call = { id: 'c1', type: 'function', function: weather };
      const messages = [
        { role: 'user', name: 'ada', content: [{ type: 'text', text: 'x' }] },
        { role: 'assistant', content: null, reasoning_content: 'I look.', tool_calls: [call] },
        { role: 'tool', tool_call_id: 'c1', content: 'sunny' },
        { role: 'assistant', content: 'Sunny', reasoning: 'I say so.' },
      ];
      for (const ending of [{}, { add_generation_prompt: false }, { continue_final_message: true }, { chat_template_kwargs: { note: 'brief' } }]) {
        const { tokens } = (await api.ok('/tokenize', { messages, ...ending })).body;
        const chat = { messages, ...ending, max_tokens: 1, return_token_ids: true };
        const told = (await api.ok('/v1/chat/completions', chat)).body;
        assert.deepEqual(tokens, told.prompt_token_ids);
      }
      const older = [{ role: 'assistant', content: null, function_call: weather }];
      await api.refused('/tokenize', { messages: older }, 'NOT_SUPPORTED', 'messages[0].function_call');
      const shown = api.engine.tokenizer.decode((await api.ok('/tokenize', { messages })).body.tokens);
      assert.match(shown, /\[name ada\][\s\S]*\[answers c1\][\s\S]*I look\.[\s\S]*Oslo[\s\S]*sunny[\s\S]*I say so\./);
    },
  ),
];

export const detokenizeCases: readonly Case[] = [
  one(['tokens', 'model'], 'the text of the ids; an unknown one is refused', async (api) => {
    const { tokens } = (await api.ok('/tokenize', { prompt: 'Once upon a time', add_special_tokens: false })).body;
    assert.equal((await api.ok('/detokenize', { tokens, model: 'pocket' })).body.prompt, 'Once upon a time');
    await api.refused('/detokenize', { tokens: [999_999] }, 'PROMPT_TOKEN_UNKNOWN', 'tokens');
    await api.refused('/v1/detokenize', { tokens, model: 'other' }, 'MODEL_UNKNOWN', 'model');
  }),
];

export const modelCases: readonly Case[] = [
  one('(answer)', 'a card for each served name', async (api) => {
    const { data } = (await api.ok('/v1/models')).body;
    assert.deepEqual(
      data.map(({ id, root, parent, max_model_len }: Json) => [id, root, parent, max_model_len]),
      [
        ['pocket', 'pocket', null, 1024],
        ['org/pocket', 'pocket', 'pocket', 1024],
      ],
    );
  }),
];
export const oneModelCases: readonly Case[] = [
  one('{model}', 'the card of a name, slashes plain or escaped; an unknown one is a 404', async (api) => {
    for (const at of ['org/pocket', 'org%2Fpocket']) assert.equal((await api.ok(`/v1/models/${at}`)).body.id, 'org/pocket');
    assert.equal((await api.refused('/v1/models/other', undefined, 'MODEL_UNKNOWN')).status, 404);
  }),
];
export const streamCases: readonly Case[] = [
  one(
    ['{id}', 'header x-stream-resume', 'header Last-Event-ID'],
    'a kept stream from its beginning, or behind an event; generated once',
    async (api) => {
      const body = { messages: [user], max_tokens: 12, temperature: 0, stream: true, ignore_eos: true };
      const { headers, text } = await api.ok('/v1/chat/completions', body, { 'x-stream-resume': '1' });
      const id = headers.get('x-stream-id');
      const { length } = api.generated;
      assert.equal((await api.ok(`/v1/streams/${id}`)).text, text);
      const rest = (await api.ok(`/v1/streams/${id}`, undefined, { 'last-event-id': `${id}-3` })).text;
      assert.ok(text.endsWith(rest) && rest.startsWith(`id: ${id}-4\n`));
      assert.equal((await api.ok('/v1/chat/completions', body, { 'last-event-id': `${id}-3` })).text, rest);
      assert.equal(api.generated.length, length);
      await api.refused('/v1/streams/none', undefined, 'STREAM_UNKNOWN');
    },
  ),
];
export const ollamaModelCases = {
  tags: [
    one('(answer)', 'an entry for each served name', async (api) => {
      const { models } = (await api.ok('/api/tags')).body;
      assert.deepEqual(
        models.map(({ name }: Json) => name),
        ['pocket', 'org/pocket'],
      );
      assert.match(models[0].digest, /^[0-9a-f]{64}$/);
    }),
  ],
  show: [
    one(['model', 'name'], 'describes it under either field; another is a 404', async (api) => {
      for (const field of ['model', 'name']) {
        const { body: told } = await api.ok('/api/show', { [field]: 'pocket:latest' });
        assert.deepEqual(told.capabilities, ['completion', 'tools', 'thinking']);
        assert.equal(told.model_info['general.parameter_count'], api.engine.model.numParameters);
      }
      await api.refused('/api/show', { model: 'other' }, 'MODEL_UNKNOWN');
    }),
  ],
  ps: [
    one('(answer)', 'an entry for each served name, all of them in memory', async (api) => {
      const { models } = (await api.ok('/api/ps')).body;
      assert.deepEqual(
        models.map(({ model, context_length }: Json) => [model, context_length]),
        [
          ['pocket', 1024],
          ['org/pocket', 1024],
        ],
      );
      assert.ok(Date.parse(models[0].expires_at) > Date.now());
    }),
  ],
  version: [one('(answer)', 'the version', async (api) => assert.deepEqual((await api.ok('/api/version')).body, { version }))],
} as const satisfies Readonly<Record<string, readonly Case[]>>;

export const operationCases = {
  health: [one('(answer)', 'that it makes progress', async (api) => assert.equal((await api.ok('/health')).body.status, 'ok'))],
  version: [one('(answer)', 'the version', async (api) => assert.equal((await api.ok('/version')).body.version, version))],
  requests: [
    one('(answer)', 'every open request and where it stands', async (api) => {
      const body = { prompt: 'Once', max_tokens: 800, ignore_eos: true, stream: true, request_id: 'seen', user: 'ada' };
      const leaving = new AbortController();
      const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body), signal: leaving.signal };
      const response = await fetch(`${api.url}/v1/completions`, init);
      await response.body?.getReader().read();
      const { data } = (await api.ok('/v1/requests')).body;
      assert.deepEqual(
        data.map(({ status, tenant, model }: Json) => [status, tenant, model]),
        [['running', 'ada', 'pocket']],
      );
      leaving.abort();
      while (api.engine.stats().numRunning > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.deepEqual((await api.ok('/v1/requests')).body.data, []);
    }),
  ],
  policy: [
    one(['policy', 'model'], 'switched; an unknown one is refused with those that there are', async (api) => {
      assert.deepEqual((await api.ok('/v1/scheduling-policy', { policy: 'priority', model: 'pocket' })).body, {
        model: 'pocket',
        policy: 'priority',
      });
      await api.refused('/v1/scheduling-policy', { policy: 'x' }, 'REQUEST_INVALID');
      await api.refused('/v1/scheduling-policy', { policy: 'fcfs', model: 'other' }, 'MODEL_UNKNOWN');
      await api.ok('/v1/scheduling-policy', { policy: 'fcfs' });
    }),
  ],
  metrics: [one('(answer)', 'series in the text format of Prometheus', async (api) => assert.match((await api.ok('/metrics')).text, /^# HELP \w+/m))],
  page: [one('(answer)', 'a page without outside assets', async (api) => assert.match((await api.ok('/')).text, /<!doctype html>/i))],
  openapi: [
    one('(answer)', 'the document, with each endpoint of this table', async (api) =>
      assert.equal((await api.ok('/openapi.json')).body.openapi, '3.1.0'),
    ),
  ],
} as const satisfies Readonly<Record<string, readonly Case[]>>;
