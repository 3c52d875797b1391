/** Sampling fields beyond OpenAI's, over HTTP on a real engine: each endpoint passes them on, and wrong values are named. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
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
