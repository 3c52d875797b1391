/** Fields of `/v1/completions` alone. */
import assert from 'node:assert/strict';
import { type Case, one } from './api.ts';
import { type OpenAiEndpoint, sharedCases } from './openai-fields.ts';

const path = '/v1/completions';
const prompt = 'Once upon a time';
const endpoint: OpenAiEndpoint = {
  path,
  body: (fields) => ({ prompt, temperature: 1.5, max_tokens: 24, ignore_eos: true, ...fields }),
  textOf: (choice) => choice?.text ?? '',
};
const { body } = endpoint;

export const completionCases: readonly Case[] = [
  ...sharedCases(endpoint),
  one('prompt', 'text, texts, ids or lists of ids, all answered alike', async (api) => {
    const ids = [...api.engine.tokenizer.encode(prompt, { addSpecialTokens: true, parseSpecial: true })];
    const [{ text }] = (await api.ok(path, body({ temperature: 0 }))).body.choices;
    for (const [given, count] of [
      [[prompt, prompt], 2],
      [ids, 1],
      [[ids, ids], 2],
    ] as const) {
      const { choices } = (await api.ok(path, body({ temperature: 0, prompt: given }))).body;
      assert.deepEqual(
        choices.map((choice: { text: string }) => choice.text),
        new Array(count).fill(text),
      );
    }
    await api.refused(path, body({ prompt: [] }), 'PROMPT_EMPTY', 'prompt');
    await api.refused(path, body({ prompt: undefined }), 'REQUEST_INVALID', 'prompt');
  }),
  one('logprobs', 'four lists of one length, with the alternatives asked for', async (api) => {
    const { logprobs } = (await api.ok(path, body({ logprobs: 3, max_tokens: 6 }))).body.choices[0];
    const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs;
    assert.deepEqual([tokens.length, token_logprobs.length, top_logprobs.length, text_offset.length], [6, 6, 6, 6]);
    assert.ok(token_logprobs.every((each: number) => each <= 0));
    assert.ok(top_logprobs.every((each: object) => Object.keys(each).length >= 3));
  }),
  one(['logprob_token_ids', 'return_tokens_as_token_ids'], 'the tokens asked for stand among the alternatives, spelled as ids', async (api) => {
    const fields = { logprobs: 1, logprob_token_ids: [300, 301], return_tokens_as_token_ids: true, max_tokens: 2 };
    const { tokens, top_logprobs } = (await api.ok(path, body(fields))).body.choices[0].logprobs;
    assert.ok(tokens.every((token: string) => /^token_id:\d+$/.test(token)));
    for (const top of top_logprobs) assert.ok('token_id:300' in top && 'token_id:301' in top);
  }),
  one('echo', 'the text begins with the prompt; with `logprobs`, so do they', async (api) => {
    const alone = (await api.ok(path, body({}))).body.choices[0].text;
    const echoed = (await api.ok(path, body({ echo: true, logprobs: 0 }))).body;
    assert.equal(echoed.choices[0].text, prompt + alone);
    assert.equal(echoed.choices[0].logprobs.tokens.length, echoed.usage.prompt_tokens + 24);
  }),
  one('add_special_tokens', 'off, the prompt is its own tokens only', async (api) => {
    const { result } = await api.generate(path, body({ add_special_tokens: false }));
    assert.deepEqual([...result.promptTokenIds], [...api.engine.tokenizer.encode(prompt, { addSpecialTokens: false, parseSpecial: true })]);
  }),
  one('suffix', 'refused unless it is empty', async (api) => {
    await api.ok(path, body({ suffix: '' }));
    await api.refused(path, body({ suffix: 'The end.' }), 'NOT_SUPPORTED', 'suffix');
  }),
];
