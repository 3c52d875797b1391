/** `/v1/responses`: fields, and the endpoints of stored responses. */
import assert from 'node:assert/strict';
import { type Api, type Case, type Json, one } from './api.ts';
import { openAiSampling, type SamplingEndpoint, samplingCases } from './sampling-fields.ts';

const path = '/v1/responses';
const weather = {
  type: 'function',
  name: 'get_weather',
  description: 'Tells the weather.',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const timer = {
  type: 'function',
  name: 'set_timer',
  parameters: { type: 'object', properties: { minutes: { type: 'integer' } }, required: ['minutes'] },
};
const asked = { input: 'What is the weather in Oslo?', temperature: 0, max_output_tokens: 64 };
const endpoint: SamplingEndpoint = {
  path,
  body: (fields) => ({ input: 'Tell me a story.', temperature: 1.5, max_output_tokens: 24, ...fields }),
  names: { max_tokens: 'max_output_tokens' },
};
const { body } = endpoint;
const prompt = (api: Api, fields: object) => api.prompt(path, body({ max_output_tokens: 1, ...fields }));
const textOf = (told: Json): string =>
  told.output
    .flatMap((item: Json) => item.content ?? [])
    .map((part: Json) => part.text)
    .join('');
const calls = (told: Json) => told.output.filter(({ type }: Json) => type === 'function_call');

export const responsesCases: readonly Case[] = [
  ...samplingCases(endpoint, openAiSampling),
  one('truncate_prompt_tokens', 'only the last tokens of the prompt are kept', async (api) => {
    const whole = (await api.generate(path, body({}))).result.promptTokenIds;
    assert.deepEqual([...(await api.generate(path, body({ truncate_prompt_tokens: 2 }))).result.promptTokenIds], [...whole.slice(-2)]);
  }),
  ...engineCases(),
  ...inputCases(),
  ...toolCases(),
  ...storeCases(),
  one('model', 'each served name is taken and given back; another is a 404', async (api) => {
    for (const model of ['pocket', 'org/pocket']) assert.equal((await api.ok(path, body({ model }))).body.model, model);
    await api.refused(path, body({ model: 'gpt-9' }), 'MODEL_UNKNOWN', 'model');
  }),
  one('instructions', 'a system message ahead of the input', async (api) => {
    assert.match(await prompt(api, { instructions: 'Be brief.' }), /^<\|im_start\|>system\nBe brief\./);
  }),
  one('stream', 'events by name and number, whose pieces join to the text that comes whole', async (api) => {
    const whole = textOf((await api.ok(path, body({}))).body);
    const events = await api.frames(path, body({ stream: true }));
    assert.deepEqual(
      events.map(({ sequence_number: number }) => number),
      events.map((_, at) => at),
    );
    assert.equal(
      events
        .filter(({ type }) => type === 'response.output_text.delta')
        .map(({ delta }) => delta)
        .join(''),
      whole,
    );
    assert.deepEqual([events[0].type, events.at(-1).type], ['response.created', 'response.incomplete']);
  }),
  one(['text', 'text.format', 'text.format.type'], 'the answer fulfils the schema', async (api) => {
    const schema = { type: 'object', properties: { n: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['n'], additionalProperties: false };
    const format = { type: 'json_schema', name: 'n', schema, strict: true };
    assert.match(textOf((await api.ok(path, body({ text: { format }, max_output_tokens: 100 }))).body), /^\{"n": ?\d\}$/);
    await api.refused(path, body({ text: { format: { type: 'yaml' } } }), 'NOT_SUPPORTED');
  }),
  one('reasoning.max_tokens', 'bounds the reasoning', async (api) => {
    const { params } = await api.generate(path, body({ reasoning: { max_tokens: 4 } }));
    assert.equal(params.thinkingTokenBudget, 4);
  }),
  one(['reasoning', 'reasoning.effort'], 'reaches a template that knows it', async (api) => {
    assert.match(await prompt(api, { reasoning: { effort: 'low' } }), /\[effort low\]/);
  }),
  one('text.verbosity', 'refused by name, unless it asks for nothing', async (api) => {
    await api.refused(path, body({ text: { verbosity: 'low' } }), 'NOT_SUPPORTED', 'text.verbosity');
    await api.ok(path, body({ text: { verbosity: 'medium' } }));
  }),
  one('metadata', 'given back', async (api) => {
    assert.deepEqual((await api.ok(path, body({ metadata: { a: 'b' } }))).body.metadata, { a: 'b' });
  }),
  one('user', 'whom the request counts for', async (api) => {
    assert.equal((await api.generate(path, body({ user: 'ada' }))).options.tenant, 'ada');
  }),
  one('kv_cache', 'reaches the engine', async (api) => {
    assert.deepEqual((await api.generate(path, body({ kv_cache: { window: 32 } }))).options.kvCache, { window: 32 });
    await api.refused(path, body({ kv_cache: { windows: 32 } }), 'REQUEST_INVALID');
  }),
  one('cache_salt', 'reaches the cache', async (api) => {
    assert.equal((await api.generate(path, body({ cache_salt: 'mine' }))).options.cacheSalt, 'mine');
  }),
  one(
    ['conversation', 'prompt', 'max_tool_calls', 'context_management', 'truncation'],
    'refused by name, unless they ask for nothing',
    async (api) => {
      const wrong = {
        conversation: 'c',
        prompt: { id: 'p' },
        max_tool_calls: 3,
        context_management: [{}],
        truncation: 'auto',
      };
      for (const [field, value] of Object.entries(wrong)) await api.refused(path, body({ [field]: value }), 'NOT_SUPPORTED', field);
      await api.ok(path, body({ conversation: null, prompt: null, max_tool_calls: null, truncation: 'disabled' }));
    },
  ),
  one(['include', 'top_logprobs'], 'log probabilities of the text, in the parts of the message', async (api) => {
    const part = async (fields: object) => (await api.ok(path, body(fields))).body.output.at(-1).content[0];
    assert.deepEqual((await part({ include: [] })).logprobs, []);
    const { text, logprobs } = await part({ include: ['message.output_text.logprobs'], top_logprobs: 2 });
    assert.equal(
      logprobs
        .map(({ token }: Json) => token)
        .join('')
        .trim(),
      text.trim(),
    );
    assert.ok(logprobs.every(({ top_logprobs: top }: Json) => top.length === 2));
    await api.refused(path, body({ include: ['file_search_call.results'] }), 'NOT_SUPPORTED', 'include');
  }),
  one('stream_options', 'taken, and changes nothing', async (api) => {
    const plain = await api.frames(path, body({ stream: true, store: false }));
    const options = await api.frames(path, body({ stream: true, store: false, stream_options: { include_obfuscation: false } }));
    assert.deepEqual(
      options.map(({ type }) => type),
      plain.map(({ type }) => type),
    );
  }),
];

/** Fields of the chat completions, which mean here what they mean there. */
function engineCases(): Case[] {
  return [
    one('stop', 'ends the text before the string', async (api) => {
      const whole = textOf((await api.ok(path, body({ temperature: 0 }))).body);
      const stop = whole.slice(6, 9);
      const { body: told } = await api.ok(path, body({ temperature: 0, stop: [stop] }));
      assert.deepEqual([textOf(told).trimEnd(), told.status], [whole.slice(0, whole.indexOf(stop)).trimEnd(), 'completed']);
    }),
    one(['min_tokens', 'ignore_eos', 'stop_token_ids', 'include_stop_str_in_output', 'skip_special_tokens'], 'reach the engine', async (api) => {
      const asked = { min_tokens: 3, ignore_eos: true, stop_token_ids: [9], include_stop_str_in_output: true, skip_special_tokens: false };
      const { params } = await api.generate(path, body(asked));
      assert.deepEqual([params.minTokens, params.ignoreEos, params.stopTokenIds], [3, true, [9]]);
      assert.deepEqual([params.includeStopStringInOutput, params.skipSpecialTokens], [true, false]);
    }),
    one(
      [
        ...['structured_outputs', 'structured_outputs.json', 'structured_outputs.json_object', 'structured_outputs.regex'],
        ...['structured_outputs.choice', 'structured_outputs.grammar', 'structured_outputs.structural_tag'],
        ...['structured_outputs.disable_any_whitespace', 'structured_outputs.disable_fallback'],
      ],
      'the answer is held to it; beside `text.format` it is refused',
      async (api) => {
        const structured = (structured_outputs: object) => ({ structured_outputs, max_output_tokens: 100 });
        assert.match(textOf((await api.ok(path, body(structured({ regex: '[A-Z]{3}-\\d{2}' })))).body), /^[A-Z]{3}-\d{2}$/);
        const held = { json: { type: 'integer' }, jsonObject: true, choice: ['a'], grammar: 'root ::= "a"', structuralTag: { format: {} } };
        for (const [name, value] of Object.entries(held)) {
          const field = name.replace(/[A-Z]/, (letter) => `_${letter.toLowerCase()}`);
          const wrong = body(structured({ [field]: value, regex: 'a', disable_any_whitespace: true, disable_fallback: true }));
          await api.refused(path, wrong, 'GRAMMAR_INVALID'); // each is read, so two are too many
        }
        const both = { ...structured({ regex: 'a' }), text: { format: { type: 'json_object' } } };
        await api.refused(path, body(both), 'REQUEST_INVALID', 'structured_outputs');
      },
    ),
    one('chat_template_kwargs', 'reach the template', async (api) => {
      assert.match(await prompt(api, { chat_template_kwargs: { note: 'brief' } }), /\[note brief\]/);
    }),
    one(['priority', 'target_first_token_ms', 'deadline_ms'], 'reach the scheduler', async (api) => {
      const { options } = await api.generate(path, body({ priority: 3, target_first_token_ms: 500, deadline_ms: 60_000 }));
      assert.deepEqual([options.priority, options.targetFirstTokenMs, options.deadlineMs], [3, 500, 60_000]);
    }),
    one('request_id', 'names the request', async (api) => {
      assert.equal((await api.ok(path, body({ request_id: 'mine-8' }))).headers.get('x-request-id'), 'mine-8');
    }),
    one('(fields of others)', 'what would change the answer and is not built is refused by name', async (api) => {
      await api.refused(path, body({ guided_json: {} }), 'NOT_SUPPORTED', 'guided_json');
    }),
  ];
}

function inputCases(): Case[] {
  return [
    one(
      ['input', 'input[].type', 'input[].role', 'input[].content', 'input[].content[].type', 'input[].content[].text'],
      'text, or messages with text in parts',
      async (api) => {
        const told = await prompt(api, { input: 'Tell me a story.' });
        const content = [{ type: 'input_text', text: 'Tell me a story.' }];
        assert.equal(await prompt(api, { input: [{ type: 'message', role: 'user', content }] }), told);
        assert.equal(await prompt(api, { input: [{ role: 'user', content: 'Tell me a story.' }] }), told);
        await api.refused(path, body({ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }), 'NOT_SUPPORTED', 'input[0].content[0].type');
        await api.refused(path, body({ input: [{ type: 'web_search_call' }] }), 'NOT_SUPPORTED', 'input[0].type');
        await api.refused(path, body({ input: undefined }), 'REQUEST_INVALID', 'input');
      },
    ),
    one(
      ['input[].call_id', 'input[].name', 'input[].arguments', 'input[].output', 'input[].output[].type', 'input[].output[].text'],
      'calls, reasoning and results are rendered as one turn',
      async (api) => {
        const call = { type: 'function_call', call_id: 'c1', name: 'get_weather', arguments: '{"city": "Oslo"}' };
        for (const output of ['sunny', [{ type: 'input_text', text: 'sunny' }]]) {
          const reasoning = { type: 'reasoning', content: [{ type: 'reasoning_text', text: 'I look.' }] };
          const input = [{ role: 'user', content: 'x' }, reasoning, call, { type: 'function_call_output', call_id: 'c1', output }];
          const shown = await prompt(api, { input, tools: [weather] });
          assert.match(
            shown,
            /<think>\nI look\.\n<\/think>[\s\S]*"name": "get_weather", "arguments": \{"city": "Oslo"\}[\s\S]*<tool_response>\nsunny/,
          );
          assert.match(shown, /\[answers c1\]/);
        }
        await api.refused(path, body({ input: [{ ...call, name: undefined }] }), 'REQUEST_INVALID', 'input[0].name');
        await api.refused(path, body({ input: [{ ...call, call_id: undefined }] }), 'REQUEST_INVALID', 'input[0].call_id');
      },
    ),
    one(['input[].type', 'input[].id'], 'a reference stands for the item of a stored response that it names', async (api) => {
      const { id, output } = (await api.ok(path, body({ input: 'My name is Priya.', max_output_tokens: 6 }))).body;
      const [said] = output;
      const given = (await api.ok(`${path}/${id}/input_items`)).body.data[0];
      const meant = [given, said, { role: 'user', content: 'Go on.' }];
      for (const type of ['item_reference', undefined]) {
        const named = [given, said].map((item) => ({ type, id: item.id }));
        assert.equal(await prompt(api, { input: [...named, meant[2]] }), await prompt(api, { input: meant }));
      }
      await api.refused(path, body({ input: [{ type: 'item_reference', id: 'msg_none' }] }), 'RESPONSE_UNKNOWN', 'input[0].id');
      await api.refused(path, body({ input: [{ type: 'item_reference' }] }), 'REQUEST_INVALID', 'input[0].id');
    }),
    one('input[].id', 'given back with the items of a stored response', async (api) => {
      const { id } = (await api.ok(path, body({ input: [{ id: 'item_7', role: 'user', content: 'x' }], max_output_tokens: 1 }))).body;
      assert.equal((await api.ok(`${path}/${id}/input_items`)).body.data[0].id, 'item_7');
    }),
  ];
}

function toolCases(): Case[] {
  return [
    one(
      ['tools', 'tools[].type', 'tools[].name', 'tools[].description', 'tools[].parameters'],
      'shown to the model, and called by it',
      async (api) => {
        const { answer, result } = await api.generate(path, body({ ...asked, tools: [timer, weather] }));
        assert.match(api.engine.tokenizer.decode(result.promptTokenIds), /\[tool Tells the weather\.\][\s\S]*get_weather\(city\)/);
        const [call] = calls(answer.body);
        assert.deepEqual([call.name, JSON.parse(call.arguments)], ['get_weather', { city: 'Oslo' }]);
        await api.refused(path, body({ tools: [{ type: 'web_search' }] }), 'NOT_SUPPORTED', 'tools[0].type');
      },
    ),
    one('tools[].strict', 'calls are held to the schemas of their tools', async (api) => {
      const { options } = await api.generate(path, body({ ...asked, tools: [{ ...weather, strict: true }] }));
      assert.equal(options?.calls?.mode, 'within');
    }),
    one('tool_choice', 'a name holds the answer to a call; `none` hides the tools', async (api) => {
      const { body: told } = await api.ok(path, body({ ...asked, tools: [timer, weather], tool_choice: { type: 'function', name: 'set_timer' } }));
      assert.equal(calls(told)[0].name, 'set_timer');
      assert.doesNotMatch(await prompt(api, { tools: [weather], tool_choice: 'none' }), /get_weather/);
    }),
    one('parallel_tool_calls', 'off, the first of several calls is reported', async (api) => {
      const call = (city: string) => `<tool_call>\n{"name": "get_weather", "arguments": {"city": "${city}"}}\n</tool_call>`;
      const counts = await api.dictating(`${call('Oslo')}\n${call('Rome')}`, async () => [
        calls((await api.ok(path, body({ ...asked, tools: [weather] }))).body).length,
        calls((await api.ok(path, body({ ...asked, tools: [weather], parallel_tool_calls: false }))).body).length,
      ]);
      assert.deepEqual(counts, [2, 1]);
    }),
  ];
}

function storeCases(): Case[] {
  return [
    one('store', 'stored unless it is false', async (api) => {
      const { id } = (await api.ok(path, body({ store: false }))).body;
      await api.refused(`${path}/${id}`, undefined, 'RESPONSE_UNKNOWN');
    }),
    one('previous_response_id', 'goes on behind a stored conversation', async (api) => {
      const { id } = (await api.ok(path, body({ input: 'My name is Priya.', max_output_tokens: 4 }))).body;
      assert.match(await prompt(api, { input: 'Go on.', previous_response_id: id }), /My name is Priya\.[\s\S]*Go on\./);
      await api.refused(path, body({ previous_response_id: 'resp_none' }), 'RESPONSE_UNKNOWN', 'previous_response_id');
    }),
    one('background', 'answers at once as queued, and is there to be asked for; wants `store`', async (api) => {
      const queued = (await api.ok(path, body({ background: true }))).body;
      assert.equal(queued.status, 'queued');
      let told = queued;
      for (let time = 0; time < 2000 && ['queued', 'in_progress'].includes(told.status); time++) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        told = (await api.ok(`${path}/${queued.id}`)).body;
      }
      assert.equal(told.status, 'incomplete');
      assert.equal(told.usage.output_tokens, 24);
      await api.refused(path, body({ background: true, store: false }), 'REQUEST_INVALID', 'store');
    }),
  ];
}

export const inputTokenCases: readonly Case[] = [
  one(
    [
      ...['input', 'model', 'instructions', 'previous_response_id', 'tools', 'tool_choice', 'parallel_tool_calls', 'text', 'reasoning'],
      ...['chat_template_kwargs', 'conversation', 'truncation', 'text.format', 'text.format.type', 'text.verbosity', 'reasoning.effort'],
      ...['reasoning.max_tokens', 'tools[].type', 'tools[].name', 'tools[].description', 'tools[].parameters', 'tools[].strict'],
      ...['type', 'role', 'content', 'id', 'call_id', 'name', 'arguments', 'output'].map((field) => `input[].${field}`),
      ...['content[].type', 'content[].text', 'output[].type', 'output[].text'].map((field) => `input[].${field}`),
    ],
    'as many tokens as the prompt of a response with these fields has; refused where it would be',
    async (api) => {
      const { id } = (await api.ok(path, body({ input: 'My name is Priya.', max_output_tokens: 4 }))).body;
      const call = { type: 'function_call', call_id: 'c1', name: 'get_weather', arguments: '{"city": "Oslo"}' };
      const result = { type: 'function_call_output', call_id: 'c1', output: [{ type: 'input_text', text: 'sunny' }] };
      for (const fields of [
        { input: 'Tell me a story.', model: 'pocket', instructions: 'Be brief.' },
        { input: 'Go on.', previous_response_id: id },
        { input: [{ id: 'a', role: 'user', content: [{ type: 'input_text', text: 'x' }] }, call, result], tools: [{ ...weather, strict: true }] },
        { input: 'x', tools: [weather], tool_choice: 'none', parallel_tool_calls: false, truncation: 'disabled', conversation: null },
        { input: 'x', reasoning: { effort: 'low', max_tokens: 9 }, chat_template_kwargs: { note: 'brief' }, text: { format: { type: 'text' } } },
      ]) {
        const { body: told } = await api.ok(`${path}/input_tokens`, fields);
        const answered = (await api.ok(path, { ...fields, max_output_tokens: 1 })).body;
        assert.deepEqual(told, { object: 'response.input_tokens', input_tokens: answered.usage.input_tokens });
      }
      await api.refused(`${path}/input_tokens`, { input: 'x', model: 'gpt-9' }, 'MODEL_UNKNOWN', 'model');
      await api.refused(`${path}/input_tokens`, { input: 'x', text: { verbosity: 'low' } }, 'NOT_SUPPORTED', 'text.verbosity');
      await api.refused(`${path}/input_tokens`, { input: 'x', truncation: 'auto' }, 'NOT_SUPPORTED', 'truncation');
    },
  ),
];

const stored = async (api: Api, fields: object = {}): Promise<Json> => (await api.ok(path, body({ max_output_tokens: 4, ...fields }))).body;

export const retrieveCases: readonly Case[] = [
  one('{id}', 'the response as it was answered; an unknown one is a 404', async (api) => {
    const response = await stored(api);
    assert.deepEqual((await api.ok(`${path}/${response.id}`)).body, response);
    assert.equal((await api.refused(`${path}/resp_none`, undefined, 'RESPONSE_UNKNOWN')).status, 404);
  }),
  one(['?stream', '?starting_after'], 'the events of one in the background, behind that number', async (api) => {
    const { id } = await stored(api, { background: true });
    const all = await api.frames(`${path}/${id}?stream=true`, undefined);
    assert.equal(all[0].type, 'response.created');
    const rest = await api.frames(`${path}/${id}?stream=true&starting_after=2`, undefined);
    assert.deepEqual(rest, all.slice(3));
  }),
];
export const deleteCases: readonly Case[] = [
  one('{id}', 'forgotten', async (api) => {
    const { id } = await stored(api);
    const gone = await api.send(`${path}/${id}`, undefined, {}, 'DELETE');
    assert.deepEqual(gone.body, { id, object: 'response', deleted: true });
    await api.refused(`${path}/${id}`, undefined, 'RESPONSE_UNKNOWN');
  }),
];
export const cancelCases: readonly Case[] = [
  one('{id}', 'ends one that runs in the background, and no other', async (api) => {
    const { id } = await stored(api, { background: true, max_output_tokens: 900 });
    assert.equal((await api.send(`${path}/${id}/cancel`, undefined, {}, 'POST')).status, 200);
    const { status } = (await api.ok(`${path}/${id}`)).body;
    assert.ok(['cancelled', 'completed'].includes(status), status);
    const { id: other } = await stored(api);
    const refused = await api.send(`${path}/${other}/cancel`, undefined, {}, 'POST');
    assert.equal(refused.status, 400);
  }),
];
export const inputItemCases: readonly Case[] = [
  one(['{id}', '?limit', '?order', '?after'], 'what it was given, in either order, in parts', async (api) => {
    const input = ['one', 'two', 'three'].map((content, at) => ({ id: `item_${at}`, role: 'user', content }));
    const { id } = await stored(api, { input });
    const ids = async (query: string) => (await api.ok(`${path}/${id}/input_items${query}`)).body.data.map((item: Json) => item.id);
    assert.deepEqual(await ids(''), ['item_2', 'item_1', 'item_0']);
    assert.deepEqual(await ids('?order=asc&limit=2'), ['item_0', 'item_1']);
    assert.deepEqual(await ids('?order=asc&after=item_0'), ['item_1', 'item_2']);
  }),
];
