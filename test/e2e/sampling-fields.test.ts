/** Sampling fields beyond OpenAI's, over HTTP on a real engine: each endpoint passes them on, and wrong values are named. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
import { samplingDefaultsOf } from '../../src/engine/open-model.ts';
import { errorOf, type Serving, serve } from './serving.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-sampling-'));
copyFileSync(fileURLToPath(new URL('../golden/qwen3/config.json', import.meta.url)), join(folder, 'config.json'));
writeFileSync(join(folder, 'chat_template.jinja'), "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}");

let serving: Serving;
beforeAll(async () => {
  serving = await serve(await loadEngine({ model: folder, loadFormat: 'dummy', servedModelName: ['any'], backend: 'reference' }));
});
afterAll(async () => {
  await serving[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

const allowed_token_ids = [40, 41, 42];
const endpoints = [
  ['/v1/completions', { prompt: 'Once', max_tokens: 6 }],
  ['/v1/chat/completions', { messages: [{ role: 'user', content: 'hi' }], max_tokens: 6 }],
  ['/v1/responses', { input: 'hi', max_output_tokens: 6 }],
] as const;

test.each(endpoints)('%s takes every field, and refuses wrong values by name', async (path, body) => {
  const { tokenizer } = serving.engine;
  const fields = {
    ...{ typical_p: 0.9, top_n_sigma: 2, xtc_probability: 0.5, xtc_threshold: 0.1, dynatemp_range: 0.5, dynatemp_exponent: 1.5 },
    ...{ dry_multiplier: 0.8, dry_base: 1.75, dry_allowed_length: 2, dry_range: 64, dry_sequence_breakers: ['\n'] },
    ...{ mirostat_mode: 2, mirostat_tau: 4, mirostat_eta: 0.2, bad_words: ['never'], truncate_prompt_tokens: 3 },
  };
  const response = await serving.post(path, { ...body, ...fields, allowed_token_ids });
  const text = JSON.stringify(await response.json());
  expect(response.status, text).toBe(200);
  const letters = new Set(allowed_token_ids.map((id) => tokenizer.decode([id])));
  const answer = JSON.parse(text) as {
    choices?: { text?: string; message?: { content: string } }[];
    output?: { content: { text: string }[] }[];
    usage: object;
  };
  const written = answer.choices?.[0]?.text ?? answer.choices?.[0]?.message?.content ?? answer.output?.[0]?.content[0]?.text ?? '';
  expect(written).toHaveLength(6);
  for (const letter of written) expect(letters).toContain(letter);
  expect(answer.usage).toMatchObject(path === '/v1/responses' ? { input_tokens: 3 } : { prompt_tokens: 3 });
  const wrong = {
    typical_p: 2,
    xtc_probability: -1,
    mirostat_mode: 1,
    dry_base: 0.5,
    allowed_token_ids: [],
    bad_words: [' '],
    truncate_prompt_tokens: 0,
  };
  for (const [field, value] of Object.entries(wrong)) {
    const refused = await serving.post(path, { ...body, [field]: value });
    expect(refused.status).toBe(400);
    expect(await errorOf(refused)).toMatchObject({ code: 'SAMPLING_PARAM_INVALID', param: field });
  }
});

test('best_of answers the n likeliest, and excludes streaming', async () => {
  const body = { prompt: 'Once', max_tokens: 5, seed: 1, n: 1 };
  const response = await serving.post('/v1/completions', { ...body, best_of: 4 });
  expect(await response.json()).toMatchObject({ choices: [{ index: 0, logprobs: null }], usage: { completion_tokens: 20 } });
  for (const [wrong, code] of [
    [{ best_of: 4, stream: true }, 'REQUEST_INVALID'],
    [{ best_of: 2, n: 3 }, 'SAMPLING_PARAM_INVALID'],
  ] as const) {
    expect(await errorOf(await serving.post('/v1/completions', { ...body, ...wrong }))).toMatchObject({ code, param: 'best_of' });
  }
});

test('log probabilities asked for by id stand behind the alternatives', async () => {
  const fields = { max_tokens: 2, temperature: 0, logprob_token_ids: [40, 41] };
  const chat = await serving.post('/v1/chat/completions', {
    ...fields,
    messages: [{ role: 'user', content: 'hi' }],
    logprobs: true,
    top_logprobs: 1,
    return_tokens_as_token_ids: true,
  });
  const { choices } = (await chat.json()) as { choices: { logprobs: { content: { top_logprobs: { token: string }[] }[] } }[] };
  const places = choices[0]?.logprobs.content ?? [];
  expect(places).toHaveLength(2);
  for (const { top_logprobs } of places) expect(top_logprobs.slice(1).map(({ token }) => token)).toEqual(['token_id:40', 'token_id:41']);
});

test('log probabilities of the prompt come in the shape of vLLM, and with an echo in that of the older OpenAI endpoint', async () => {
  const body = { prompt: 'Once upon', max_tokens: 2, temperature: 0 };
  const answer = async (path: string, fields: object) => (await (await serving.post(path, fields)).json()) as never;
  type Record = { [id: string]: { logprob: number; rank: number | null; decoded_token: string } } | null;
  const { choices } = (await answer('/v1/completions', { ...body, prompt_logprobs: 1 })) as { choices: { prompt_logprobs: Record[] }[] };
  const ids = serving.engine.tokenizer.encode('Once upon', { addSpecialTokens: true, parseSpecial: true });
  const places = choices[0]?.prompt_logprobs ?? [];
  expect(places).toHaveLength(ids.length);
  expect(places[0]).toBeNull();
  for (const [i, place] of places.entries())
    if (place !== null) expect(place[String(ids[i])]?.decoded_token).toBe(serving.engine.tokenizer.decode([ids[i] as number]));
  expect(Object.values(places[1] ?? {}).some(({ rank }) => rank === 1)).toBe(true);
  type Echoed = {
    choices: { text: string; logprobs: { tokens: string[]; token_logprobs: (number | null)[]; top_logprobs: unknown[]; text_offset: number[] } }[];
  };
  const echoed = (await answer('/v1/completions', { ...body, echo: true, logprobs: 1 })) as Echoed;
  const { text, logprobs } = echoed.choices[0] as Echoed['choices'][number];
  expect(text.startsWith('Once upon')).toBe(true);
  expect(logprobs.tokens).toHaveLength(ids.length + 2);
  expect([logprobs.token_logprobs[0], logprobs.top_logprobs[0]]).toEqual([null, null]);
  expect(logprobs.token_logprobs.slice(1, ids.length)).toEqual(places.slice(1).map((place, i) => place?.[String(ids[i + 1])]?.logprob));
  expect(logprobs.text_offset.slice(0, 3)).toEqual([0, 1, 2]);
  const chat = { messages: [{ role: 'user', content: 'hi' }], max_tokens: 1, prompt_logprobs: 0 };
  const told = (await answer('/v1/chat/completions', chat)) as { prompt_logprobs: Record[]; usage: { prompt_tokens: number } };
  expect(told.prompt_logprobs).toHaveLength(told.usage.prompt_tokens);
  expect(await errorOf(await serving.post('/v1/chat/completions', { ...chat, stream: true }))).toMatchObject({
    code: 'REQUEST_INVALID',
    param: 'prompt_logprobs',
  });
});

test('an echo with log probabilities streams what it is as a whole, for each choice', async () => {
  const body = { prompt: 'Once upon', max_tokens: 3, seed: 2, n: 2, echo: true, logprobs: 2 };
  interface Piece {
    readonly text: string;
    readonly index: number;
    readonly logprobs: {
      readonly tokens: unknown[];
      readonly token_logprobs: unknown[];
      readonly top_logprobs: unknown[];
      readonly text_offset: number[];
    };
  }
  const { choices } = (await (await serving.post('/v1/completions', body)).json()) as { choices: Piece[] };
  const frames = (await (await serving.post('/v1/completions', { ...body, stream: true })).text())
    .split('\n')
    .filter((line) => /^data: \{/.test(line));
  const pieces = frames.flatMap((line) => (JSON.parse(line.slice(6)) as { choices: Piece[] }).choices);
  for (const { text, index, logprobs } of choices) {
    const own = pieces.filter((piece) => piece.index === index);
    expect(own.map((piece) => piece.text).join('')).toBe(text);
    const given = own.map((piece) => piece.logprobs).filter((one) => one !== null);
    for (const field of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset'] as const) {
      expect(given.flatMap((one) => one[field])).toEqual(logprobs[field]);
    }
  }
});

test('the Responses give the log probabilities that chats give, whole and streamed', async () => {
  const sampling = { temperature: 0, top_logprobs: 2 };
  const chat = await serving.client.chat.completions.create({
    ...sampling,
    model: 'any',
    messages: [{ role: 'user', content: 'hi' }],
    max_tokens: 8,
    logprobs: true,
  });
  const wanted = chat.choices[0]!.logprobs!.content!;
  const request = { ...sampling, model: 'any', input: 'hi', max_output_tokens: 8, include: ['message.output_text.logprobs'] } as const;
  const { output } = await serving.client.responses.create({ ...request, include: [...request.include] });
  const [part] = output[0]?.type === 'message' ? output[0].content : [];
  expect(part).toMatchObject({ type: 'output_text', logprobs: wanted });
  const streamed = [];
  let last: unknown;
  for await (const event of await serving.client.responses.create({ ...request, include: [...request.include], stream: true })) {
    if (event.type === 'response.output_text.delta') streamed.push(...event.logprobs);
    if (event.type === 'response.completed' || event.type === 'response.incomplete') last = event.response.output;
  }
  expect(streamed).toEqual(wanted);
  expect(last).toMatchObject([{ content: [{ logprobs: wanted }] }]);
});

test('the Responses take the sampling of the chats, and defaults come from generation_config.json', async () => {
  const answer = await serving.post('/v1/responses', { input: 'hi', max_output_tokens: 6, logit_bias: { 65: 100 }, top_k: 1, seed: 3 });
  expect(await answer.json()).toMatchObject({ output: [{ content: [{ text: 'AAAAAA' }] }] });
  const refused = await serving.post('/v1/responses', { input: 'hi', min_p: 2 });
  expect(await errorOf(refused)).toMatchObject({ code: 'SAMPLING_PARAM_INVALID', param: 'min_p' });
  const given = {
    do_sample: true,
    temperature: 0.5,
    top_p: 0.9,
    top_k: 7,
    min_p: 0.1,
    typical_p: 0.8,
    repetition_penalty: 1.1,
    max_new_tokens: 5,
    other: 'x',
  };
  expect(samplingDefaultsOf(given)).toEqual({
    ...{ temperature: 0.5, topP: 0.9, topK: 7, minP: 0.1, typicalP: 0.8, repetitionPenalty: 1.1, maxTokens: 5 },
  });
});
