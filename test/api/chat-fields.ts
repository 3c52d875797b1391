/** Fields of `/v1/chat/completions` alone. */
import assert from 'node:assert/strict';
import { type Api, type Case, type Json, one } from './api.ts';
import { type OpenAiEndpoint, sharedCases } from './openai-fields.ts';

const path = '/v1/chat/completions';
const user = { role: 'user', content: 'Tell me a story.' };
const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Tells the weather.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};
const timer = {
  type: 'function',
  function: { name: 'set_timer', parameters: { type: 'object', properties: { minutes: { type: 'integer' } }, required: ['minutes'] } },
};
const asked = { messages: [{ role: 'user', content: 'What is the weather in Oslo?' }], temperature: 0, max_tokens: 64, ignore_eos: false };

const endpoint: OpenAiEndpoint = {
  path,
  body: (fields) => ({ messages: [user], temperature: 1.5, max_tokens: 24, ignore_eos: true, ...fields }),
  textOf: (choice) => choice?.message?.content ?? choice?.delta?.content ?? '',
};
const { body, textOf } = endpoint;
const prompt = (api: Api, fields: object) => api.prompt(path, body({ max_tokens: 1, ...fields }));

export const chatCases: readonly Case[] = [
  ...sharedCases(endpoint),
  ...messageCases(),
  ...toolCases(),
  one('max_completion_tokens', 'as `max_tokens`, and stronger', async (api) => {
    assert.equal((await api.tokens(path, body({ max_tokens: 9, max_completion_tokens: 4 }))).length, 4);
  }),
  one(['logprobs', 'top_logprobs'], 'log probabilities with bytes that join to the text, and the alternatives asked for', async (api) => {
    const [choice] = (await api.ok(path, body({ logprobs: true, top_logprobs: 3, max_tokens: 6 }))).body.choices;
    assert.equal(choice.logprobs.content.length, 6);
    assert.ok(choice.logprobs.content.every((place: Json) => place.logprob <= 0 && place.top_logprobs.length === 3));
    assert.equal(
      Buffer.from(choice.logprobs.content.flatMap(({ bytes }: Json) => bytes))
        .toString()
        .trim(),
      textOf(choice).trim(),
    );
    await api.refused(path, body({ top_logprobs: 3 }), 'REQUEST_INVALID', 'top_logprobs');
  }),
  one(['logprob_token_ids', 'return_tokens_as_token_ids'], 'the tokens asked for stand behind the alternatives, spelled as ids', async (api) => {
    const fields = { logprobs: true, top_logprobs: 1, logprob_token_ids: [300, 301], return_tokens_as_token_ids: true, max_tokens: 2 };
    const [choice] = (await api.ok(path, body(fields))).body.choices;
    for (const { top_logprobs: top } of choice.logprobs.content)
      assert.deepEqual(
        top.slice(1).map(({ token }: Json) => token),
        ['token_id:300', 'token_id:301'],
      );
  }),
  one('add_generation_prompt', "off, the assistant's turn is not opened", async (api) => {
    assert.match(await prompt(api, {}), /<\|im_start\|>assistant\n$/);
    assert.doesNotMatch(await prompt(api, { add_generation_prompt: false }), /assistant/);
  }),
  one('continue_final_message', 'the prompt ends with the last message as it stands', async (api) => {
    const messages = [user, { role: 'assistant', content: 'Once there was' }];
    assert.match(await prompt(api, { messages, continue_final_message: true }), /Once there was$/);
    await api.refused(
      path,
      body({ messages, continue_final_message: true, add_generation_prompt: true }),
      'REQUEST_INVALID',
      'continue_final_message',
    );
  }),
  one('chat_template_kwargs', 'reach the template', async (api) => {
    assert.match(await prompt(api, { chat_template_kwargs: { note: 'brief' } }), /\[note brief\]/);
    assert.match(await prompt(api, { chat_template_kwargs: { enable_thinking: true } }), /<think>\n$/);
  }),
  one(
    'reasoning_effort',
    'reaches a template that knows it, and opens thoughts where they are on request; `none` switches thinking off',
    async (api) => {
      assert.match(await prompt(api, { reasoning_effort: 'low' }), /\[effort low\]/);
      assert.match(await prompt(api, { reasoning_effort: 'low' }), /<think>\n$/);
      const thinking = { chat_template_kwargs: { enable_thinking: true } };
      assert.match(await prompt(api, thinking), /<think>\n$/);
      assert.doesNotMatch(await prompt(api, { reasoning_effort: 'none' }), /<think>/);
    },
  ),
  one('documents', 'reach a template that takes them', async (api) => {
    assert.match(await prompt(api, { documents: [{ text: 'Rimu lives in Zetebu.' }] }), /\[doc\] Rimu lives in Zetebu\./);
  }),
  one('include_reasoning', 'reasoning apart from the answer under both names; off, it is left out', async (api) => {
    const thinking = {
      messages: [{ role: 'user', content: 'Rimu lives in Zetebu. Where does Rimu live?' }],
      ...{ chat_template_kwargs: { enable_thinking: true }, temperature: 0, max_tokens: 120, ignore_eos: false },
    };
    const { message } = (await api.ok(path, body(thinking))).body.choices[0];
    assert.ok(message.reasoning.length > 0);
    assert.equal(message.reasoning_content, message.reasoning);
    const without = (await api.ok(path, body({ ...thinking, include_reasoning: false }))).body.choices[0].message;
    assert.deepEqual([without.reasoning, without.reasoning_content, without.content], [undefined, undefined, message.content]);
  }),
];

function messageCases(): Case[] {
  return [
    one(['messages', 'messages[].role', 'messages[].content'], 'rendered in their order; none, or one without a role, is refused', async (api) => {
      const messages = [{ role: 'system', content: 'Be brief.' }, user];
      assert.match(await prompt(api, { messages }), /system\nBe brief\.<\|im_end\|>\n<\|im_start\|>user\nTell me a story\./);
      await api.refused(path, body({ messages: [] }), 'REQUEST_INVALID', 'messages');
      await api.refused(path, body({ messages: [{ content: 'x' }] }), 'REQUEST_INVALID', 'messages[0].role');
    }),
    one(['messages[].content[].type', 'messages[].content[].text'], 'texts in parts read as one; another type is refused', async (api) => {
      const content = [
        { type: 'text', text: 'Tell me ' },
        { type: 'text', text: 'a story.' },
      ];
      assert.match(await prompt(api, { messages: [{ role: 'user', content }] }), /Tell me\s+a story\./);
      const image = [{ type: 'image_url', image_url: { url: 'data:,' } }];
      await api.refused(path, body({ messages: [{ role: 'user', content: image }] }), 'NOT_SUPPORTED', 'messages[0].content[0].type');
    }),
    one('messages[].name', 'reaches a template that shows it', async (api) => {
      assert.match(await prompt(api, { messages: [{ ...user, name: 'ada' }] }), /\[name ada\]/);
    }),
    one('messages[].function_call', 'refused by name, unless there is none', async (api) => {
      const call = { role: 'assistant', content: null, function_call: { name: 'get_weather', arguments: '{}' } };
      await api.refused(path, body({ messages: [user, call] }), 'NOT_SUPPORTED', 'messages[1].function_call');
      await api.ok(path, body({ messages: [user, { role: 'assistant', content: 'x', function_call: null }, user] }));
    }),
    one(['messages[].tool_calls', 'messages[].tool_call_id'], 'calls and their results are rendered', async (api) => {
      const call = { id: 'c1', type: 'function', function: { name: 'get_weather', arguments: '{"city": "Oslo"}' } };
      const messages = [user, { role: 'assistant', content: null, tool_calls: [call] }, { role: 'tool', tool_call_id: 'c1', content: 'sunny' }];
      const shown = await prompt(api, { messages, tools: [weather] });
      assert.match(shown, /"name": "get_weather", "arguments": \{"city": "Oslo"\}/);
      assert.match(shown, /\[answers c1\][\s\S]*<tool_response>\nsunny/);
    }),
    one(['messages[].reasoning_content', 'messages[].reasoning'], 'earlier reasoning reaches the template under either name', async (api) => {
      for (const field of ['reasoning_content', 'reasoning']) {
        const messages = [user, { role: 'assistant', content: 'Yes.', [field]: 'I ponder.' }, user];
        assert.match(await prompt(api, { messages }), /<think>\nI ponder\.\n<\/think>/);
      }
    }),
  ];
}

function toolCases(): Case[] {
  const call = (answer: Json) => answer.body.choices[0].message.tool_calls?.[0]?.function;
  return [
    one(
      ['tools', 'tools[].type', 'tools[].function', 'tools[].function.name', 'tools[].function.parameters'],
      'shown to the model, and called by it',
      async (api) => {
        const answer = await api.ok(path, body({ ...asked, tools: [timer, weather] }));
        assert.equal(answer.body.choices[0].finish_reason, 'tool_calls');
        assert.deepEqual([call(answer).name, JSON.parse(call(answer).arguments)], ['get_weather', { city: 'Oslo' }]);
        await api.refused(path, body({ ...asked, tools: [{ type: 'code' }] }), 'REQUEST_INVALID');
        await api.refused(path, body({ ...asked, tools: [{ type: 'function', function: { name: '' } }] }), 'REQUEST_INVALID');
      },
    ),
    one('tools[].function.strict', 'calls are held to the schemas of their tools', async (api) => {
      const strict = { ...weather, function: { ...weather.function, strict: true } };
      const { options } = await api.generate(path, body({ ...asked, tools: [strict] }));
      assert.deepEqual([options?.calls?.mode, options?.calls?.tools.map(({ name }) => name)], ['within', ['get_weather']]);
      assert.equal((await api.generate(path, body({ ...asked, tools: [weather] }))).options?.calls, undefined);
    }),
    one('tools[].function.description', 'reaches a template that shows it', async (api) => {
      assert.match(await prompt(api, { tools: [weather] }), /\[tool Tells the weather\.\]/);
    }),
    one('tool_choice', '`none` hides the tools, `required` and a name hold the answer to a call', async (api) => {
      const tools = [timer, weather];
      assert.doesNotMatch(await prompt(api, { ...asked, tools, tool_choice: 'none' }), /get_weather/);
      const required = await api.ok(path, body({ ...asked, tools, tool_choice: 'required' }));
      assert.equal(required.body.choices[0].message.tool_calls.length, 1);
      const named = await api.ok(path, body({ ...asked, tools, tool_choice: { type: 'function', function: { name: 'set_timer' } } }));
      assert.equal(call(named).name, 'set_timer');
      assert.ok(Number.isInteger(JSON.parse(call(named).arguments).minutes));
      await api.refused(
        path,
        body({ ...asked, tools, tool_choice: { type: 'function', function: { name: 'x' } } }),
        'REQUEST_INVALID',
        'tool_choice',
      );
    }),
    one('parallel_tool_calls', 'off, the first of several calls is reported', async (api) => {
      const call = (city: string) => `<tool_call>\n{"name": "get_weather", "arguments": {"city": "${city}"}}\n</tool_call>`;
      const fields = { ...asked, tools: [weather] };
      const cities = (answer: Json) => answer.body.choices[0].message.tool_calls.map((each: Json) => JSON.parse(each.function.arguments).city);
      const [many, single] = await api.dictating(`${call('Oslo')}\n${call('Rome')}`, async () => [
        await api.ok(path, body(fields)),
        await api.ok(path, body({ ...fields, parallel_tool_calls: false })),
      ]);
      assert.deepEqual([cities(many), cities(single)], [['Oslo', 'Rome'], ['Oslo']]);
    }),
  ];
}
