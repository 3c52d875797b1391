/** `/api/chat` and `/api/generate`, in Ollama's words. */
import assert from 'node:assert/strict';
import { type Api, type Case, type Json, one } from './api.ts';
import { type SamplingEndpoint, samplingCases } from './sampling-fields.ts';

const user = { role: 'user', content: 'Tell me a story.' };
const functionOf = (name: string, properties: object, description = '') => ({
  type: 'function',
  function: { name, description, parameters: { type: 'object', properties, required: Object.keys(properties) } },
});
const weather = functionOf('get_weather', { city: { type: 'string' } }, 'Tells the weather.');
const timer = functionOf('set_timer', { minutes: { type: 'integer' } });

const names = { max_tokens: 'num_predict', repetition_penalty: 'repeat_penalty', mirostat_mode: 'mirostat' };
const sampled = [
  ...['max_tokens', 'temperature', 'top_p', 'top_k', 'min_p', 'repetition_penalty', 'presence_penalty', 'frequency_penalty', 'seed', 'typical_p'],
  ...['mirostat_mode', 'mirostat_tau', 'mirostat_eta'],
];
const optionsOf = (fields: object) => ({ num_predict: 24, temperature: 1.5, ...fields });
const chat: SamplingEndpoint = {
  path: '/api/chat',
  body: (fields) => ({ messages: [user], stream: false, options: optionsOf(fields) }),
  names,
  prefix: 'options.',
};
const generate: SamplingEndpoint = {
  path: '/api/generate',
  body: (fields) => ({ prompt: 'Once upon a time', raw: true, stream: false, options: optionsOf(fields) }),
  names,
  prefix: 'options.',
};

function sharedCases({ path, body, ...rest }: SamplingEndpoint, textOf: (told: Json) => string): Case[] {
  const endpoint = { path, body, ...rest };
  const given = (fields: object, options: object = {}) => ({ ...body(options), ...fields });
  return [
    ...samplingCases(endpoint, sampled),
    one('model', 'each served name is taken, with or without `:latest`; another is a 404', async (api) => {
      for (const model of ['pocket', 'pocket:latest', 'org/pocket']) assert.equal((await api.ok(path, given({ model }))).body.model, model);
      assert.equal((await api.refused(path, given({ model: 'other' }), 'MODEL_UNKNOWN')).status, 404);
    }),
    one('stream', 'lines whose pieces join to the text that comes whole, the last of which is done; the default', async (api) => {
      const whole = (await api.ok(path, given({}))).body;
      assert.deepEqual([whole.done, whole.done_reason, whole.eval_count], [true, 'length', 24]);
      assert.ok(whole.total_duration >= whole.eval_duration && whole.prompt_eval_count > 0);
      for (const stream of [true, undefined]) {
        const lines = await api.frames(path, given({ stream }));
        assert.ok(lines.length > 5);
        assert.equal(lines.map(textOf).join(''), textOf(whole));
        assert.deepEqual(lines.map(({ done }) => done).filter(Boolean), [true]);
      }
    }),
    one('format', '`json`, or a schema that the answer fulfils', async (api) => {
      const schema = { type: 'object', properties: { n: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['n'], additionalProperties: false };
      assert.match(textOf((await api.ok(path, given({ format: schema }, { num_predict: 100 }))).body), /^\{"n": ?\d\}$/);
      assert.match(textOf((await api.ok(path, given({ format: 'json' }))).body), /^\s*\{/);
      await api.refused(path, given({ format: 'yaml' }), 'REQUEST_INVALID');
    }),
    one(['options', 'options.stop'], 'ends the text before the string, as one or in a list', async (api) => {
      const text = textOf((await api.ok(path, given({}, { temperature: 0 }))).body);
      const stop = text.slice(6, 9);
      for (const each of [stop, ['never \u0001', stop]]) {
        const told = (await api.ok(path, given({}, { temperature: 0, stop: each }))).body;
        assert.deepEqual([textOf(told).trimEnd(), told.done_reason], [text.slice(0, text.indexOf(stop)).trimEnd(), 'stop']);
      }
      await api.refused(path, given({ options: { mirostat: 1 } }), 'NOT_SUPPORTED');
    }),
    one('keep_alive', 'taken, and changes nothing: models stay', async (api) => {
      const text = textOf((await api.ok(path, given({}))).body);
      assert.equal(textOf((await api.ok(path, given({ keep_alive: 0 }))).body), text);
    }),
  ];
}

const prompt = (api: Api, { path, body }: SamplingEndpoint, fields: object) => api.prompt(path, { ...body({ num_predict: 1 }), ...fields });

function thinkCase(endpoint: SamplingEndpoint, fields: object): Case {
  return one('think', 'opens the reasoning of a template that knows it; a text is its effort', async (api) => {
    assert.match(await prompt(api, endpoint, { ...fields, think: true }), /<think>\n$/);
    assert.doesNotMatch(await prompt(api, endpoint, { ...fields, think: false }), /<think>/);
    assert.match(await prompt(api, endpoint, { ...fields, think: 'low' }), /\[effort low\][\s\S]*<think>\n$/);
  });
}

export const ollamaChatCases: readonly Case[] = [
  ...sharedCases(chat, (told) => told.message.content),
  thinkCase(chat, {}),
  one(
    ['messages', 'messages[].role', 'messages[].content', 'messages[].images'],
    'rendered in their order; none loads only; images are refused',
    async (api) => {
      const messages = [{ role: 'system', content: 'Be brief.' }, user];
      assert.match(await prompt(api, chat, { messages }), /system\nBe brief\.<\|im_end\|>\n<\|im_start\|>user\nTell me a story\./);
      assert.equal((await api.ok('/api/chat', { stream: false })).body.done_reason, 'load');
      await api.refused('/api/chat', { messages: [{ ...user, images: ['AA=='] }] }, 'NOT_SUPPORTED');
      await api.refused('/api/chat', { messages: 'x' }, 'REQUEST_INVALID');
    },
  ),
  one(
    [
      ...['messages[].thinking', 'messages[].tool_calls', 'messages[].tool_calls[].function', 'messages[].tool_calls[].function.name'],
      ...['messages[].tool_calls[].function.arguments', 'messages[].tool_name', 'messages[].tool_call_id'],
    ],
    'thoughts, calls and results are rendered; results without an id answer the calls in order',
    async (api) => {
      const call = { function: { name: 'get_weather', arguments: { city: 'Oslo' } } };
      const messages = [
        user,
        { role: 'assistant', thinking: 'I look.', tool_calls: [call] },
        { role: 'tool', content: 'sunny', tool_name: 'get_weather' },
      ];
      const shown = await prompt(api, chat, { messages, tools: [weather] });
      assert.match(shown, /<think>\nI look\.\n<\/think>[\s\S]*"name": "get_weather", "arguments": \{"city": "Oslo"\}[\s\S]*<tool_response>\nsunny/);
      assert.match(shown, /\[name get_weather\]\n\[answers call00000\]/);
      const named = [...messages.slice(0, 2), { role: 'tool', content: 'sunny', tool_call_id: 'mine' }];
      assert.match(await prompt(api, chat, { messages: named }), /\[answers mine\]/);
    },
  ),
  one(
    ['tools', 'tools[].type', 'tools[].function', 'tools[].function.name', 'tools[].function.description', 'tools[].function.parameters'],
    'shown to the model, and called by it with arguments as an object',
    async (api) => {
      const messages = [{ role: 'user', content: 'What is the weather in Oslo?' }];
      const { answer, result } = await api.generate('/api/chat', { messages, stream: false, tools: [timer, weather], options: { temperature: 0 } });
      assert.match(api.engine.tokenizer.decode(result.promptTokenIds), /\[tool Tells the weather\.\]/);
      assert.deepEqual(answer.body.message.tool_calls, [{ function: { name: 'get_weather', arguments: { city: 'Oslo' } } }]);
      await api.refused('/api/chat', { messages, tools: [{ type: 'code' }] }, 'REQUEST_INVALID');
    },
  ),
];

export const ollamaGenerateCases: readonly Case[] = [
  ...sharedCases(generate, (told) => told.response),
  thinkCase(generate, { raw: false }),
  one(['prompt', 'raw'], 'continued as it is when raw, else answered as a conversation of one message; none loads only', async (api) => {
    assert.equal((await prompt(api, generate, {})).replace(/^<[^>]*>/, ''), 'Once upon a time');
    assert.match(await prompt(api, generate, { raw: false }), /<\|im_start\|>user\nOnce upon a time<\|im_end\|>/);
    assert.equal((await api.ok('/api/generate', { prompt: '', stream: false })).body.done_reason, 'load');
  }),
  one('system', 'the system prompt', async (api) => {
    assert.match(await prompt(api, generate, { raw: false, system: 'Be brief.' }), /system\nBe brief\./);
  }),
  one(['images', 'suffix', 'template', 'context'], 'refused unless they are empty', async (api) => {
    const wrong = { images: ['AA=='], suffix: 'x', template: '{{ .Prompt }}', context: [1, 2] };
    for (const [field, value] of Object.entries(wrong)) await api.refused('/api/generate', { prompt: 'x', [field]: value }, 'NOT_SUPPORTED');
    await api.ok('/api/generate', { ...generate.body({}), images: [], suffix: '', template: '', context: [] });
  }),
];
