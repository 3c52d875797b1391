/** Fields that `/v1/chat/completions` and `/v1/completions` share. */
import assert from 'node:assert/strict';
import { type Api, type Case, type Json, one } from './api.ts';
import { openAiSampling, type SamplingEndpoint, samplingCases } from './sampling-fields.ts';

export interface OpenAiEndpoint extends SamplingEndpoint {
  /** Text of a choice, or of a choice in a chunk. */
  textOf(choice: Json): string;
}

const schema = { type: 'object', properties: { n: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['n'], additionalProperties: false };
const json = /^\{"n": ?\d\}$/;
const tag = { type: 'tag', begin: '<a>', content: { type: 'json_schema', json_schema: schema }, end: '</a>' };
const sequence = { type: 'sequence', elements: [{ type: 'const_string', value: 'So: ' }, tag] };
const structures = [{ begin: '<n>', schema, end: '</n>' }];

export function sharedCases(endpoint: OpenAiEndpoint): Case[] {
  return [
    ...samplingCases(endpoint, openAiSampling),
    ...answerCases(endpoint),
    ...stopCases(endpoint),
    ...choiceCases(endpoint),
    ...schedulingCases(endpoint),
    ...structureCases(endpoint),
  ];
}

function answerCases({ path, body, textOf }: OpenAiEndpoint): Case[] {
  const streamed = (fields: object) => body({ stream: true, ...fields });
  return [
    one('model', 'each served name is taken and given back; another is a 404 that lists what there is', async (api) => {
      for (const model of ['pocket', 'org/pocket']) assert.equal((await api.ok(path, body({ model }))).body.model, model);
      assert.equal((await api.refused(path, body({ model: 'gpt-9' }), 'MODEL_UNKNOWN', 'model')).status, 404);
    }),
    one('stream', 'events whose pieces join to the text that comes whole', async (api) => {
      const whole = textOf((await api.ok(path, body({}))).body.choices[0]);
      const frames = await api.frames(path, streamed({}));
      assert.ok(frames.length > 5);
      assert.equal(frames.map((frame) => textOf(frame.choices[0])).join(''), whole);
    }),
    one(['stream_options', 'stream_options.include_usage'], 'usage in a last event without choices; refused without `stream`', async (api) => {
      const frames = await api.frames(path, streamed({ stream_options: { include_usage: true } }));
      assert.deepEqual(frames.at(-1).choices, []);
      assert.equal(frames.at(-1).usage.completion_tokens, 24);
      assert.ok(frames.slice(0, -1).every(({ usage }) => usage === null));
      await api.refused(path, body({ stream_options: { include_usage: true } }), 'REQUEST_INVALID', 'stream_options');
    }),
    one('stream_options.continuous_usage_stats', 'usage on every event, growing', async (api) => {
      const frames = await api.frames(path, streamed({ stream_options: { continuous_usage_stats: true } }));
      const counts = frames.map(({ usage }) => usage.completion_tokens);
      assert.deepEqual(
        counts,
        counts.toSorted((a, b) => a - b),
      );
      assert.equal(counts.at(-1), 24);
    }),
    one('request_id', 'names the answer', async (api) => {
      const { body: told, headers } = await api.ok(path, body({ request_id: 'mine-7' }));
      assert.match(told.id, /-mine-7$/);
      assert.equal(headers.get('x-request-id'), 'mine-7');
    }),
    one('return_token_ids', 'ids of the prompt and of the answer, whole and streamed', async (api) => {
      const { answer, result } = await api.generate(path, body({ return_token_ids: true }));
      const [choice] = answer.body.choices;
      assert.deepEqual(choice.token_ids, result.choices[0]?.tokenIds);
      assert.deepEqual(choice.prompt_token_ids ?? answer.body.prompt_token_ids, [...result.promptTokenIds]);
      const frames = await api.frames(path, streamed({ return_token_ids: true }));
      assert.deepEqual(
        frames.flatMap((frame) => frame.choices[0].token_ids ?? []),
        choice.token_ids,
      );
    }),
  ];
}

function stopCases({ path, body, textOf }: OpenAiEndpoint): Case[] {
  const stopOf = async (api: Api) => {
    const text = textOf((await api.ok(path, body({ temperature: 0 }))).body.choices[0]);
    const stop = text.slice(6, 9);
    return { stop, before: text.slice(0, text.indexOf(stop)) };
  };
  return [
    one('stop', 'ends the text before the string, as one or in a list, and is named', async (api) => {
      const { stop, before } = await stopOf(api);
      for (const given of [stop, ['never \u0001', stop]]) {
        const [choice] = (await api.ok(path, body({ temperature: 0, stop: given }))).body.choices;
        assert.deepEqual([textOf(choice).trimEnd(), choice.finish_reason, choice.stop_reason], [before.trimEnd(), 'stop', stop]);
      }
    }),
    one('include_stop_str_in_output', 'keeps the string', async (api) => {
      const { stop, before } = await stopOf(api);
      const [choice] = (await api.ok(path, body({ temperature: 0, stop, include_stop_str_in_output: true }))).body.choices;
      assert.equal(textOf(choice), before + stop);
    }),
    one('stop_token_ids', 'ends at the token', async (api) => {
      const tokens = await api.tokens(path, body({ temperature: 0 }));
      const id = tokens[4] as number;
      const [choice] = (await api.ok(path, body({ temperature: 0, stop_token_ids: [id], return_token_ids: true }))).body.choices;
      assert.deepEqual([choice.token_ids.at(-1), choice.stop_reason], [id, id]);
      assert.equal(choice.token_ids.length, tokens.indexOf(id) + 1);
    }),
    one(['min_tokens', 'ignore_eos'], 'hold the end token back: for some tokens, or for good', async (api) => {
      const eos = api.engine.tokenizer.eosTokenIds[0] as number;
      const ends = { logit_bias: { [eos]: 100 }, temperature: 0, max_tokens: 9, ignore_eos: false };
      assert.equal((await api.tokens(path, body(ends))).length, 1);
      assert.equal((await api.tokens(path, body({ ...ends, min_tokens: 5 }))).length, 6);
      assert.equal((await api.tokens(path, body({ ...ends, ignore_eos: true }))).length, 9);
    }),
    one('skip_special_tokens', 'off, the spelling of special tokens is part of the text', async (api) => {
      const eos = api.engine.tokenizer.eosTokenIds[0] as number;
      const ends = { logit_bias: { [eos]: 100 }, temperature: 0, max_tokens: 2, ignore_eos: true };
      const spelled = api.engine.tokenizer.decode([eos, eos], { skipSpecialTokens: false });
      assert.equal(textOf((await api.ok(path, body(ends))).body.choices[0]), '');
      assert.equal(textOf((await api.ok(path, body({ ...ends, skip_special_tokens: false }))).body.choices[0]), spelled);
    }),
  ];
}

function choiceCases({ path, body, textOf }: OpenAiEndpoint): Case[] {
  return [
    one('n', 'that many choices, the first as alone; streamed by their index', async (api) => {
      const alone = textOf((await api.ok(path, body({}))).body.choices[0]);
      const { choices } = (await api.ok(path, body({ n: 3 }))).body;
      assert.deepEqual(
        choices.map(({ index }: Json) => index),
        [0, 1, 2],
      );
      assert.equal(textOf(choices[0]), alone);
      const texts = ['', '', ''];
      for (const { choices: some } of await api.frames(path, body({ n: 3, stream: true })))
        for (const each of some) texts[each.index] += textOf(each);
      assert.deepEqual(texts, choices.map(textOf));
    }),
    one('best_of', 'the likeliest of that many is answered, all are counted; refused with `stream`', async (api) => {
      const { body: told } = await api.ok(path, body({ best_of: 3 }));
      assert.deepEqual([told.choices.length, told.usage.completion_tokens], [1, 72]);
      await api.refused(path, body({ best_of: 3, stream: true }), 'REQUEST_INVALID', 'best_of');
    }),
    one(
      'use_beam_search',
      'the `n` likeliest hypotheses, best first, with their scores; refused with `stream` and with what shapes draws',
      async (api) => {
        const search = { use_beam_search: true, temperature: 0, max_tokens: 6, ignore_eos: true };
        const { choices } = (await api.ok(path, body({ ...search, n: 3 }))).body;
        const scores = choices.map((choice: Json) => choice.beam_score);
        assert.deepEqual(
          scores,
          [...scores].sort((a, b) => b - a),
        );
        assert.deepEqual(
          scores,
          choices.map((choice: Json) => Math.fround(choice.cumulative_logprob / 6)),
        );
        assert.equal(new Set(choices.map(textOf)).size, 3);
        await api.refused(path, body({ ...search, stream: true }), 'REQUEST_INVALID', 'use_beam_search');
        await api.refused(path, body({ ...search, temperature: 0.5 }), 'SAMPLING_PARAM_INVALID', 'temperature');
      },
    ),
    one('beam_width', 'more hypotheses than are answered: none is worse than without', async (api) => {
      const search = { use_beam_search: true, temperature: 0, max_tokens: 6, ignore_eos: true };
      const narrow = (await api.ok(path, body(search))).body.choices;
      const wide = (await api.ok(path, body({ ...search, beam_width: 5 }))).body.choices;
      assert.deepEqual([narrow.length, wide.length], [1, 1]);
      assert.ok(wide[0].beam_score >= narrow[0].beam_score);
      await api.refused(path, body({ ...search, n: 3, beam_width: 2 }), 'SAMPLING_PARAM_INVALID', 'beam_width');
    }),
    one('length_penalty', 'scores are sums divided by the length to this power', async (api) => {
      const search = { use_beam_search: true, temperature: 0, max_tokens: 6, ignore_eos: true, length_penalty: 2 };
      const [choice] = (await api.ok(path, body(search))).body.choices;
      assert.equal(choice.beam_score, Math.fround(choice.cumulative_logprob / 36));
    }),
    one('early_stopping', 'given to the engine; `never` and booleans, nothing else', async (api) => {
      const search = { use_beam_search: true, temperature: 0, max_tokens: 4, n: 2 };
      const { params } = await api.generate(path, body({ ...search, early_stopping: 'never' }));
      assert.equal(params.earlyStopping, 'never');
      await api.refused(path, body({ ...search, early_stopping: 'often' }), 'REQUEST_INVALID', 'early_stopping');
    }),
    one(
      'prompt_logprobs',
      'one record a token of the prompt with ranks, null for the first; refused with `stream`, and more than the engine allows',
      async (api) => {
        const { body: told } = await api.ok(path, body({ prompt_logprobs: 2, max_tokens: 1 }));
        const places = told.prompt_logprobs ?? told.choices[0].prompt_logprobs;
        assert.equal(places.length, told.usage.prompt_tokens);
        assert.equal(places[0], null);
        assert.ok(
          places.slice(1).every((place: Json) => Object.keys(place).length >= 2 && Object.values(place).every((each: Json) => each.logprob <= 0)),
        );
        const ranks = (place: Json) => Object.values(place).map((each: Json) => each.rank);
        // the token that is there, wherever it ranks, and the first two
        assert.ok(
          places.slice(1).every((place: Json) => ranks(place).every(Number.isInteger) && [1, 2].every((rank) => ranks(place).includes(rank))),
        );
        assert.ok(places.slice(1).some((place: Json) => ranks(place).some((rank) => rank > 2)));
        await api.refused(path, body({ prompt_logprobs: 2, stream: true }), 'REQUEST_INVALID', 'prompt_logprobs');
        await api.refused(path, body({ prompt_logprobs: -1 }), 'SAMPLING_PARAM_INVALID', 'prompt_logprobs');
      },
    ),
    one('truncate_prompt_tokens', 'only the last tokens of the prompt are kept', async (api) => {
      const whole = (await api.generate(path, body({}))).result.promptTokenIds;
      const cut = (await api.generate(path, body({ truncate_prompt_tokens: 2 }))).result.promptTokenIds;
      assert.deepEqual([...cut], [...whole.slice(-2)]);
    }),
  ];
}

function schedulingCases({ path, body }: OpenAiEndpoint): Case[] {
  return [
    one(['user', 'priority', 'target_first_token_ms'], 'reach the scheduler', async (api) => {
      const { options } = await api.generate(path, body({ user: 'ada', priority: 3, target_first_token_ms: 500 }));
      assert.deepEqual([options.tenant, options.priority, options.targetFirstTokenMs], ['ada', 3, 500]);
    }),
    one('deadline_ms', 'ends a request that is late with a 503', async (api) => {
      const answer = await api.refused(path, body({ deadline_ms: 1, max_tokens: 900, ignore_eos: true }), 'DEADLINE_EXCEEDED');
      assert.equal(answer.status, 503);
    }),
    one(['kv_cache', 'kv_cache.sinks', 'kv_cache.window'], 'reaches the engine, which shares nothing of the request', async (api) => {
      const { options, result } = await api.generate(path, body({ kv_cache: { sinks: 2, window: 32 } }));
      assert.deepEqual(options.kvCache, { sinks: 2, window: 32 });
      assert.equal(result.usage.cachedTokens, 0);
      await api.refused(path, body({ kv_cache: { window: 0 } }), 'REQUEST_INVALID');
    }),
    one(['kv_cache.compress_prompt', 'kv_cache.observation_window', 'kv_cache.kernel'], 'reach the engine; refused beside `window`', async (api) => {
      const asked = { compress_prompt: 40, observation_window: 8, kernel: 5 };
      const { options } = await api.generate(path, body({ kv_cache: asked }));
      assert.deepEqual(options.kvCache, { compressPrompt: 40, observationWindow: 8, kernel: 5 });
      await api.refused(path, body({ kv_cache: { ...asked, window: 32 } }), 'REQUEST_INVALID');
    }),
    one('cache_salt', 'only requests with an equal one share prefixes', async (api) => {
      const cached = async (cache_salt: string | undefined) => {
        const long = 'Once upon a time there was a little girl who liked to read books in the garden behind the house. '.repeat(3);
        const { body: told } = await api.ok(
          path,
          body({ cache_salt, max_tokens: 1, ...(path.includes('chat') ? { messages: [{ role: 'user', content: long }] } : { prompt: long }) }),
        );
        return told.usage.prompt_tokens_details.cached_tokens;
      };
      const [first, again, other] = [await cached('a'), await cached('a'), await cached('b')];
      assert.equal(first, 0);
      assert.ok(again > 16);
      assert.equal(other, 0);
    }),
  ];
}

function structureCases({ path, body, textOf }: OpenAiEndpoint): Case[] {
  const text = async (api: Api, fields: object) => {
    const [choice] = (await api.ok(path, body({ max_tokens: 200, ignore_eos: false, ...fields }))).body.choices;
    return { text: textOf(choice), reason: choice.finish_reason };
  };
  const structured = (structured_outputs: object) => ({ structured_outputs });
  return [
    one(
      ['response_format', 'response_format.type', 'response_format.json_schema'],
      'the answer fulfils the schema, or is any JSON object',
      async (api) => {
        const format = { type: 'json_schema', json_schema: { name: 'n', schema, strict: true } };
        assert.match((await text(api, { response_format: format })).text, json);
        const any = await text(api, { response_format: { type: 'json_object' }, temperature: 0 });
        assert.match(any.text, /^\s*\{/);
        if (any.reason === 'stop') JSON.parse(any.text);
      },
    ),
    one(['response_format.structures', 'response_format.triggers'], 'free text, in which what a trigger opens is held to its schema', async (api) => {
      const given = { response_format: { type: 'structural_tag', structures, triggers: ['<n>'] } };
      const { params } = await api.generate(path, body({ ...given, max_tokens: 8 }));
      assert.ok(params.structuredOutput);
      // Forced to begin one, the model has to finish it.
      const opened = await text(api, { ...given, max_tokens: 60 });
      for (const [, inner] of opened.text.matchAll(/<n>(.*?)<\/n>/gs)) assert.match(inner as string, json);
    }),
    one('response_format.format', "xgrammar's form of a structural tag", async (api) => {
      assert.match((await text(api, { response_format: { type: 'structural_tag', format: sequence } })).text, /^So: <a>\{"n": ?\d\}<\/a>$/);
    }),
    one(['structured_outputs', 'structured_outputs.json'], 'the answer fulfils the schema', async (api) => {
      assert.match((await text(api, structured({ json: schema }))).text, json);
      await api.refused(path, body(structured({ json: schema, regex: 'a' })), 'GRAMMAR_INVALID');
    }),
    one('structured_outputs.json_object', 'the answer is a JSON object', async (api) => {
      assert.match((await text(api, structured({ json_object: true }))).text, /^\s*\{/);
    }),
    one('structured_outputs.regex', 'the answer matches the pattern', async (api) => {
      assert.match((await text(api, structured({ regex: '[A-Z]{3}-\\d{2}' }))).text, /^[A-Z]{3}-\d{2}$/);
    }),
    one('structured_outputs.choice', 'the answer is one of the texts', async (api) => {
      assert.ok(['yes', 'no'].includes((await text(api, structured({ choice: ['yes', 'no'] }))).text));
    }),
    one('structured_outputs.grammar', 'the answer is a word of the grammar', async (api) => {
      assert.match((await text(api, structured({ grammar: 'root ::= "<" [a-z]{2,5} ">"' }))).text, /^<[a-z]{2,5}>$/);
    }),
    one('structured_outputs.structural_tag', 'tagged parts are held to their schemas', async (api) => {
      const structural_tag = JSON.stringify({ type: 'structural_tag', format: sequence });
      assert.match((await text(api, structured({ structural_tag }))).text, /^So: <a>\{"n": ?\d\}<\/a>$/);
    }),
    one(['structured_outputs.disable_any_whitespace', 'structured_outputs.disable_fallback'], 'JSON without any white space', async (api) => {
      const { text: tight } = await text(api, structured({ json: schema, disable_any_whitespace: true, disable_fallback: true }));
      assert.match(tight, /^\{"n":\d\}$/);
    }),
  ];
}
