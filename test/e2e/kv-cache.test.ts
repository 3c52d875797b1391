/** The prefix cache and its tiers through HTTP: what separates callers, and what outlives the server. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
import { errorOf, type Serving, serve } from './serving.ts';

const model = fileURLToPath(new URL('../golden/qwen3', import.meta.url));
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-kv-'));
const chatTemplate = path.join(scratch, 'template.jinja');
fs.writeFileSync(chatTemplate, '{% for message in messages %}{{ message.content }}{% endfor %}');
afterAll(() => fs.rmSync(scratch, { recursive: true }));

const load = (more: object = {}) =>
  loadEngine({
    model,
    loadFormat: 'dummy',
    backend: 'reference',
    chatTemplate,
    seed: 1,
    maxNumSeqs: 4,
    kvCacheMemoryBytes: 8 * 1024 * 1024,
    blockSize: 16,
    ...more,
  });
const text = 'A beginning that is long enough to fill some blocks of the cache, and then some more of them. '.repeat(2);

interface Answer {
  choices: { text?: string; message?: { content: string } }[];
  usage: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens: number };
    input_tokens_details?: { cached_tokens: number };
  };
}

async function ask(serving: Serving, more: object = {}, where = '/v1/completions'): Promise<{ cached: number; prompt: number; text: string }> {
  const chat = { messages: [{ role: 'user', content: text }] };
  const input = where === '/v1/completions' ? { prompt: text } : where === '/v1/responses' ? { input: text } : chat;
  const length = where === '/v1/responses' ? { max_output_tokens: 8 } : { max_tokens: 8, seed: 7 };
  const response = await serving.post(where, { ...input, ...length, temperature: 0, ...more });
  const answer = (await response.json()) as Answer;
  expect(response.status, JSON.stringify(answer)).toBe(200);
  const { usage } = answer;
  const cached = (usage.prompt_tokens_details ?? usage.input_tokens_details)?.cached_tokens ?? 0;
  return {
    cached,
    prompt: usage.prompt_tokens,
    text: JSON.stringify(answer.choices ?? (answer as unknown as { output: unknown }).output).replace(/"id":"[^"]*"/g, ''),
  };
}

test.each(['/v1/completions', '/v1/chat/completions', '/v1/responses'])('cache_salt keeps callers apart at %s', async (where) => {
  await using serving = await serve(await load());
  const salts = [{}, { cache_salt: 'a' }, { cache_salt: 'b' }];
  const first = [];
  for (const salt of salts) first.push(await ask(serving, salt, where));
  expect(first.map(({ cached }) => cached)).toEqual([0, 0, 0]);
  for (const salt of salts) {
    const again = await ask(serving, salt, where);
    expect(again.cached).toBeGreaterThan(50);
    expect(again.text).toBe(first[0].text);
  }
});

test('kv_cache: an output goes on past the context behind a window, a long prompt is compressed, and what cannot be is refused by name', async () => {
  await using serving = await serve(await load({ maxModelLen: 128 }));
  const send = (fields: object) => serving.post('/v1/completions', { prompt: 'Once upon a time', temperature: 0, ignore_eos: true, ...fields });
  const endless = (await (await send({ max_tokens: 300, kv_cache: { sinks: 4, window: 64 } })).json()) as Answer;
  expect(endless.usage.completion_tokens).toBe(300);
  const long = 'The mill stood by the river and sang. '.repeat(3);
  const compressed = (await (
    await send({ prompt: long, max_tokens: 4, kv_cache: { compress_prompt: 40, observation_window: 8, kernel: null } })
  ).json()) as Answer;
  expect(compressed.usage.prompt_tokens).toBeGreaterThan(40);
  expect(compressed.usage.completion_tokens).toBe(4);
  expect(compressed.usage.prompt_tokens_details?.cached_tokens).toBe(0);
  for (const kv_cache of [{ window: 1e6 }, { window: 64, compress_prompt: 64 }, { windows: 64 }, { window: 'all' }, 5]) {
    const response = await send({ kv_cache });
    expect(response.status).toBe(400);
    expect((await errorOf(response)).param).toMatch(/^kv_cache/);
  }
});

test('a salt that is empty, too long or no text is refused', async () => {
  await using serving = await serve(await load());
  for (const cache_salt of ['', 'x'.repeat(1025), 5]) {
    const response = await serving.post('/v1/completions', { prompt: 'a', cache_salt });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code: 'REQUEST_INVALID', param: 'cache_salt' });
  }
});

test('a restarted server answers a prompt from disk: the tokens are counted as cached, the answer is the same to the bit, and metrics tell', async () => {
  const kvDiskDir = path.join(scratch, 'blocks');
  const params = { logprobs: 3, seed: 7, temperature: 0.8 };
  const once = async (more: object = {}) => {
    await using serving = await serve(await load({ kvDiskDir, kvDiskGb: 0.01, ...more }));
    const answer = await ask(serving, params);
    const metrics = await (await fetch(`${serving.url}/metrics`)).text();
    const hits = Number(/millrace:kv_tier_loaded_blocks_total\{[^}]*\} (\d+)/.exec(metrics)?.[1]);
    return { ...answer, hits };
  };
  const computed = await once();
  expect([computed.cached, computed.hits]).toEqual([0, 0]);
  const restarted = await once();
  const wholeBlocks = Math.floor((computed.prompt - 1) / 16);
  expect([restarted.cached, restarted.hits]).toEqual([16 * wholeBlocks, wholeBlocks]);
  expect(restarted.text).toBe(computed.text);
  // another layout of the same model must not read them
  expect((await once({ kvCacheDtype: 'float16' })).hits).toBe(0);
  // every file damaged in its middle
  for (const entry of fs.readdirSync(kvDiskDir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const bytes = fs.readFileSync(file);
    bytes[bytes.length >> 1] ^= 1;
    fs.writeFileSync(file, bytes);
  }
  const damaged = await once();
  expect([damaged.cached, damaged.hits]).toEqual([0, 0]);
  expect(damaged.text).toBe(computed.text);
  expect((await once()).hits).toBe(wholeBlocks);
});

test('a directory that cannot be used, and tiers without a prefix cache, are refused at start', async () => {
  await expect(load({ kvDiskDir: path.join(model, 'config.json', 'below') })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  await expect(load({ kvHostGb: 1, enablePrefixCaching: false })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});
