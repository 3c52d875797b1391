/** `/v1/messages` and `/v1/messages/count_tokens`, in Anthropic's words. */
import assert from 'node:assert/strict';
import { type Api, type Case, type Json, one } from './api.ts';
import { type SamplingEndpoint, samplingCases } from './sampling-fields.ts';

const path = '/v1/messages';
const user = { role: 'user', content: 'Tell me a story.' };
const schemaOf = (properties: object) => ({ type: 'object', properties, required: Object.keys(properties) });
const weather = { name: 'get_weather', description: 'Tells the weather.', input_schema: schemaOf({ city: { type: 'string' } }) };
const timer = { name: 'set_timer', input_schema: schemaOf({ minutes: { type: 'integer' } }) };
const asked = { messages: [{ role: 'user', content: 'What is the weather in Oslo?' }], temperature: 0, max_tokens: 64 };
const endpoint: SamplingEndpoint = { path, body: (fields) => ({ messages: [user], temperature: 1.5, max_tokens: 24, ...fields }) };
const { body } = endpoint;
const uses = (told: Json) => told.content.filter(({ type }: Json) => type === 'tool_use');

/** What the model is shown, by either endpoint: the one generates from it, the other counts it. */
type Shown = (api: Api, fields: object) => Promise<string>;

const generated: Shown = (api, fields) => api.prompt(path, body({ max_tokens: 1, ...fields }));
/** Counted to the token as what the other endpoint generates from. */
const counted: Shown = async (api, fields) => {
  const shown = await generated(api, fields);
  const { input_tokens: count } = (await api.ok(`${path}/count_tokens`, { messages: [user], ...fields })).body;
  assert.equal(count, api.generated.at(-1)?.stream.usage.promptTokens);
  return shown;
};

function promptCases(at: string, shown: Shown): Case[] {
  const given = (fields: object) => ({ messages: [user], max_tokens: 8, ...fields });
  return [
    one(
      ['messages', 'messages[].role', 'messages[].content', 'messages[].content[].type', 'messages[].content[].text'],
      'text, or blocks of text; images and other roles are refused',
      async (api) => {
        const told = await shown(api, { messages: [user] });
        assert.match(told, /user\nTell me a story\./);
        assert.equal(await shown(api, { messages: [{ role: 'user', content: [{ type: 'text', text: 'Tell me a story.' }] }] }), told);
        await api.refused(at, given({ messages: [{ role: 'system', content: 'x' }] }), 'REQUEST_INVALID');
        await api.refused(at, given({ messages: [{ role: 'user', content: [{ type: 'image', source: {} }] }] }), 'NOT_SUPPORTED');
        await api.refused(at, given({ messages: [] }), 'REQUEST_INVALID');
      },
    ),
    one(
      [
        ...['messages[].content[].thinking', 'messages[].content[].id', 'messages[].content[].name', 'messages[].content[].input'],
        ...['messages[].content[].tool_use_id', 'messages[].content[].content', 'messages[].content[].content[].type'],
        ...['messages[].content[].content[].text', 'messages[].content[].is_error'],
      ],
      'thoughts, uses of tools and their results are rendered; what lacks its id is refused',
      async (api) => {
        const use = { type: 'tool_use', id: 'c1', name: 'get_weather', input: { city: 'Oslo' } };
        const result = { type: 'tool_result', tool_use_id: 'c1', content: [{ type: 'text', text: 'no' }], is_error: true };
        const messages = [
          user,
          { role: 'assistant', content: [{ type: 'thinking', thinking: 'I look.' }, use] },
          { role: 'user', content: [result] },
        ];
        const told = await shown(api, { messages, tools: [weather] });
        assert.match(
          told,
          /\[answers c1\][\s\S]*<think>\nI look\.\n<\/think>[\s\S]*"name": "get_weather", "arguments": \{"city": "Oslo"\}[\s\S]*<tool_response>\nError: no/,
        );
        for (const wrong of [[{ ...use, id: undefined }], [{ ...use, name: undefined }]]) {
          await api.refused(at, given({ messages: [user, { role: 'assistant', content: wrong }] }), 'REQUEST_INVALID');
        }
        await api.refused(at, given({ messages: [{ role: 'user', content: [{ ...result, tool_use_id: undefined }] }] }), 'REQUEST_INVALID');
      },
    ),
    one('model', 'each served name is taken; another is a 404', async (api) => {
      for (const model of ['pocket', 'org/pocket']) await api.ok(at, given({ model }));
      await api.refused(at, given({ model: 'claude-9' }), 'MODEL_UNKNOWN');
    }),
    one(['system', 'system[].type', 'system[].text'], 'the system prompt, as text or in blocks', async (api) => {
      const told = await shown(api, { system: 'Be brief.' });
      assert.match(told, /^<\|im_start\|>system\nBe brief\./);
      assert.equal(await shown(api, { system: [{ type: 'text', text: 'Be brief.' }] }), told);
    }),
    one(
      ['tools', 'tools[].name', 'tools[].description', 'tools[].input_schema', 'tools[].type'],
      'shown to the model; one that Anthropic runs is refused',
      async (api) => {
        assert.match(await shown(api, { tools: [{ ...weather, type: 'custom' }] }), /\[tool Tells the weather\.\][\s\S]*get_weather\(city\)/);
        await api.refused(at, given({ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }), 'NOT_SUPPORTED');
      },
    ),
    one(['tool_choice', 'tool_choice.type', 'tool_choice.name'], '`none` hides the tools; a tool that there is not is refused', async (api) => {
      assert.doesNotMatch(await shown(api, { tools: [weather], tool_choice: { type: 'none' } }), /get_weather/);
      await api.refused(at, given({ tools: [weather], tool_choice: { type: 'tool', name: 'x' } }), 'REQUEST_INVALID');
    }),
    one('thinking.budget_tokens', 'bounds the thinking, and there is none when it is disabled', async (api) => {
      const { params } = await api.generate(path, body({ thinking: { type: 'enabled', budget_tokens: 1024 } }));
      assert.equal(params.thinkingTokenBudget, 1024);
      assert.equal((await api.generate(path, body({ thinking: { type: 'disabled' } }))).params.thinkingTokenBudget, 0);
    }),
    one(['thinking', 'thinking.type'], 'opens, or does not open, the reasoning of a template that knows it', async (api) => {
      assert.match(await shown(api, { thinking: { type: 'enabled', budget_tokens: 1024 } }), /<think>\n$/);
      assert.doesNotMatch(await shown(api, { thinking: { type: 'disabled' } }), /<think>/);
    }),
  ];
}

export const messagesCases: readonly Case[] = [
  ...promptCases(path, generated),
  ...samplingCases(endpoint, ['max_tokens', 'temperature', 'top_p', 'top_k']),
  one('tool_choice.disable_parallel_tool_use', 'only the first of several uses is told', async (api) => {
    const call = (city: string) => `<tool_call>\n{"name": "get_weather", "arguments": {"city": "${city}"}}\n</tool_call>`;
    const fields = { ...asked, tools: [weather] };
    const counts = await api.dictating(`${call('Oslo')}\n${call('Rome')}`, async () => [
      uses((await api.ok(path, body(fields))).body).length,
      uses((await api.ok(path, body({ ...fields, tool_choice: { type: 'auto', disable_parallel_tool_use: true } }))).body).length,
    ]);
    assert.deepEqual(counts, [2, 1]);
  }),
  one('(tool use)', 'the model uses the tool that the question needs; `tool` and `any` make it', async (api) => {
    const told = (await api.ok(path, body({ ...asked, tools: [timer, weather] }))).body;
    assert.deepEqual([told.stop_reason, uses(told)[0].name, uses(told)[0].input], ['tool_use', 'get_weather', { city: 'Oslo' }]);
    const forced = (await api.ok(path, body({ ...asked, tools: [timer, weather], tool_choice: { type: 'tool', name: 'set_timer' } }))).body;
    assert.equal(uses(forced)[0].name, 'set_timer');
    assert.equal(uses((await api.ok(path, body({ ...asked, tools: [timer, weather], tool_choice: { type: 'any' } }))).body).length, 1);
  }),
  one('stop_sequences', 'ends the text before one of these, and is named', async (api) => {
    const [{ text }] = (await api.ok(path, body({ temperature: 0 }))).body.content;
    const stop = text.slice(6, 9);
    const told = (await api.ok(path, body({ temperature: 0, stop_sequences: ['never \u0001', stop] }))).body;
    assert.deepEqual(
      [told.content[0].text.trimEnd(), told.stop_reason, told.stop_sequence],
      [text.slice(0, text.indexOf(stop)).trimEnd(), 'stop_sequence', stop],
    );
  }),
  one('stream', 'events by name, whose pieces join to the text that comes whole', async (api) => {
    const [{ text }] = (await api.ok(path, body({}))).body.content;
    const events = await api.frames(path, body({ stream: true }));
    assert.equal(events.map(({ delta }) => delta?.text ?? '').join(''), text);
    assert.deepEqual([events[0].type, events.at(-1).type], ['message_start', 'message_stop']);
    assert.equal(events.at(-2).usage.output_tokens, 24);
  }),
  one(['metadata', 'metadata.user_id'], 'whom the request counts for', async (api) => {
    assert.equal((await api.generate(path, body({ metadata: { user_id: 'ada' } }))).options.tenant, 'ada');
  }),
];

export const countTokensCases: readonly Case[] = [
  ...promptCases(`${path}/count_tokens`, counted),
  one('tool_choice.disable_parallel_tool_use', 'taken, and changes nothing in the count', async (api) => {
    const count = async (tool_choice: object) =>
      (await api.ok(`${path}/count_tokens`, { messages: [user], tools: [weather], tool_choice })).body.input_tokens;
    assert.equal(await count({ type: 'auto', disable_parallel_tool_use: true }), await count({ type: 'auto' }));
  }),
];
