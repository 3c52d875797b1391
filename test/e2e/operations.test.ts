import OpenAI from 'openai';
import { expect, test } from 'vitest';
import type { Engine } from '../../src/engine/engine.ts';
import { ModelTable } from '../../src/server/model-table.ts';
import { createServer } from '../../src/server/server.ts';
import { FakeEngine } from './fake-engine.ts';
import { errorOf, isQuiet, serve, until } from './serving.ts';

const messages = [{ role: 'user' as const, content: 'hi' }];

test('API keys guard the API; health, version, metrics and the page stay open', async () => {
  await using serving = await serve(new FakeEngine(), { apiKeys: ['first-key', 'second-key'] });
  const { url } = serving;
  for (const path of ['/health', '/version', '/metrics', '/']) expect((await fetch(url + path)).status, path).toBe(200);
  for (const path of ['/v1/models', '/v1/models/fake', '/v1/nothing']) {
    const refused = await fetch(url + path);
    expect([refused.status, refused.headers.get('www-authenticate')], path).toEqual([401, 'Bearer']);
    expect((await errorOf(refused)).code).toBe('AUTH_INVALID');
  }
  for (const path of ['/tokenize', '/detokenize', '/v1/completions']) expect((await serving.post(path, { prompt: 'a' })).status, path).toBe(401);
  for (const authorization of ['Bearer wrong', 'Bearer first-ke', 'Bearer first-keyy', 'Basic first-key', 'first-key', '']) {
    expect((await fetch(`${url}/v1/models`, { headers: { authorization } })).status, authorization).toBe(401);
  }
  for (const key of ['first-key', 'second-key']) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
    expect((await client.chat.completions.create({ model: 'fake', messages, max_tokens: 2 })).usage?.completion_tokens).toBe(2);
  }
  const wrong = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'wrong' });
  await expect(wrong.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
});

test('several engines answer to their own names and aliases, and an unnamed model is refused', async () => {
  const [small, large] = [new FakeEngine({ names: ['small'] }), new FakeEngine({ names: ['large', 'org/large'] })];
  const engines = new Map<string, Engine>([
    ['small', small],
    ['tiny-alias', small],
    ['large', large],
  ]);
  const server = createServer({ engines, options: { port: 0 } });
  const { url } = await server.listen();
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  const ask = (model: string) => client.completions.create({ model, prompt: 'a', max_tokens: 1 });
  for (const model of ['small', 'tiny-alias', 'large', 'org/large']) expect((await ask(model)).model).toBe(model);
  expect([small.seen.length, large.seen.length]).toEqual([2, 2]);
  expect(((await (await fetch(`${url}/v1/models`)).json()) as { data: unknown[] }).data).toHaveLength(4);
  await expect(ask('')).rejects.toMatchObject({ status: 400, param: 'model' });
  await server.close();
});

test('two engines that want one name are refused at start', () => {
  const engines = new Map([
    ['a', new FakeEngine({ names: ['same'] })],
    ['b', new FakeEngine({ names: ['same'] })],
  ]);
  expect(() => createServer({ engines })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});

test('the fingerprint follows what changes the tokens, not how much fits', async () => {
  const fingerprint = (values: object) => {
    const engine = Object.assign(new FakeEngine(), { config: { values, reasons: [] } });
    return new ModelTable(new Map([['fake', engine]])).find('fake').systemFingerprint;
  };
  const base = { backend: 'cpu', isa: 'avx2', dtype: 'auto', blockSize: 32, numBlocks: [100], threads: 2 };
  expect(fingerprint({ ...base, numBlocks: [5000], threads: 8 })).toBe(fingerprint(base));
  expect(fingerprint({ ...base, isa: 'avx512' })).not.toBe(fingerprint(base));
  expect(fingerprint({ ...base, blockSize: 16 })).not.toBe(fingerprint(base));
});

test('health means progress: stuck work is a 503, idleness is not', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 20 }), { stallMs: 1000 });
  const health = async () => {
    const response = await fetch(`${serving.url}/health`);
    return [response.status, ((await response.json()) as { status: string }).status];
  };
  serving.engine.stalledMs = 5000;
  expect(await health()).toEqual([200, 'ok']);
  const stream = await serving.client.completions.create({ model: 'fake', prompt: 'a', max_tokens: 1000, stream: true });
  expect(await health()).toEqual([503, 'stalled']);
  serving.engine.stalledMs = 10;
  expect(await health()).toEqual([200, 'ok']);
  stream.controller.abort();
  await until(() => isQuiet(serving), 'freed');
  await serving.engine.close();
  expect(await health()).toEqual([503, 'closed']);
});

test('a full queue is a 429 that says when to come back, also for streams', async () => {
  await using serving = await serve(new FakeEngine({ queueLimit: 1, stepMs: 20 }));
  const first = await serving.client.completions.create({ model: 'fake', prompt: 'a', max_tokens: 1000, stream: true });
  for (const stream of [false, true]) {
    const refused = await serving.post('/v1/chat/completions', { messages, stream });
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1']);
    expect(refused.headers.get('content-type')).toContain('application/json');
    expect(await errorOf(refused)).toMatchObject({ code: 'QUEUE_FULL', type: 'rate_limit_error' });
  }
  first.controller.abort();
});

test('when one of several prompts is refused the others are freed', async () => {
  await using serving = await serve(new FakeEngine({ queueLimit: 2 }));
  const refused = await serving.post('/v1/completions', { prompt: ['a', 'b', 'c'], max_tokens: 1000, stream: true });
  expect(refused.status).toBe(429);
  await until(() => isQuiet(serving), 'freed');
});

test('a failure before the first byte is a 500, after it an error frame and [DONE]', async () => {
  await using serving = await serve(new FakeEngine({ failAfter: 3 }));
  const whole = await serving.post('/v1/chat/completions', { messages });
  expect([whole.status, (await errorOf(whole)).code]).toEqual([500, 'BACKEND_STEP_FAILED']);
  const streamed = await serving.post('/v1/chat/completions', { messages, stream: true });
  expect(streamed.status).toBe(200);
  const frames = (await streamed.text()).trim().split('\n\n');
  expect(frames.at(-1)).toBe('data: [DONE]');
  expect(JSON.parse(frames.at(-2)!.slice(6))).toMatchObject({ error: { code: 'BACKEND_STEP_FAILED', type: 'server_error' } });
  const stream = await serving.client.chat.completions.create({ model: 'fake', messages, stream: true });
  const read = async () => {
    for await (const _ of stream);
  };
  await expect(read()).rejects.toBeInstanceOf(OpenAI.APIError);
});

test('request ids are echoed, unique in the engine, and unsafe ones replaced', async () => {
  await using serving = await serve(new FakeEngine());
  const ask = (headers: Record<string, string>, fields = {}) => serving.post('/v1/chat/completions', { messages, max_tokens: 1, ...fields }, headers);
  for (const fields of [{}, { stream: true }]) {
    const named = await ask({ 'x-request-id': 'mine-1' }, fields);
    expect(named.headers.get('x-request-id')).toBe('mine-1');
    expect(await named.text()).toContain('"id":"chatcmpl-mine-1"');
  }
  expect((await ask({}, { request_id: 'body-id' })).headers.get('x-request-id')).toBe('body-id');
  expect((await ask({ 'x-request-id': 'x'.repeat(200) })).headers.get('x-request-id')).toMatch(/^[0-9a-f]{32}$/);
  const ids = serving.engine.seen.map(({ options }) => options.requestId);
  expect(new Set(ids).size).toBe(ids.length);
});

test('a silent stream is kept open by comments, which the client does not see', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 150 }), { pingIntervalMs: 40 });
  const response = await serving.post('/v1/chat/completions', { messages, max_tokens: 2, stream: true });
  const text = await response.text();
  expect(text.split('\n\n').filter((frame) => frame === ': ping').length).toBeGreaterThanOrEqual(2);
  let content = '';
  for await (const chunk of await serving.client.chat.completions.create({ model: 'fake', messages, max_tokens: 2, stream: true })) {
    content += chunk.choices[0]!.delta.content ?? '';
  }
  expect(content).toHaveLength(2);
});

test('browsers of other origins are let in only when listed', async () => {
  await using closed = await serve(new FakeEngine());
  const preflight = { method: 'OPTIONS', headers: { origin: 'https://a.example', 'access-control-request-method': 'POST' } };
  const refused = await fetch(`${closed.url}/v1/chat/completions`, preflight);
  expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([405, null]);
  await using open = await serve(new FakeEngine(), { allowedOrigins: ['https://a.example'], apiKeys: ['key'] });
  const allowed = await fetch(`${open.url}/v1/chat/completions`, preflight);
  expect([allowed.status, allowed.headers.get('access-control-allow-origin')]).toEqual([204, 'https://a.example']);
  const headers = { origin: 'https://a.example', authorization: 'Bearer key' };
  const streamed = await open.post('/v1/chat/completions', { messages, max_tokens: 1, stream: true }, headers);
  expect(streamed.headers.get('access-control-allow-origin')).toBe('https://a.example');
  await streamed.text();
  const other = await open.post('/v1/chat/completions', { messages, max_tokens: 1 }, { ...headers, origin: 'https://b.example' });
  expect(other.headers.get('access-control-allow-origin')).toBe(null);
});

test('metrics follow the requests under the names that vLLM boards ask for', async () => {
  await using serving = await serve(new FakeEngine());
  await serving.client.completions.create({ model: 'fake', prompt: 'abcd', max_tokens: 6, stop: [] });
  const text = await (await fetch(`${serving.url}/metrics`)).text();
  const value = (series: string) =>
    Number(
      text
        .split('\n')
        .find((line) => line.startsWith(series))
        ?.split(' ')
        .at(-1),
    );
  const labels = '{model_name="fake",engine="0"';
  expect(value(`vllm:prompt_tokens_total${labels}`)).toBe(5);
  expect(value(`vllm:generation_tokens_total${labels}`)).toBe(6);
  expect(value(`vllm:request_success_total${labels},finished_reason="length"`)).toBe(1);
  expect(value(`vllm:request_success_total${labels},finished_reason="abort"`)).toBe(0);
  expect(value(`vllm:time_to_first_token_seconds_count${labels}`)).toBe(1);
  expect(value(`vllm:inter_token_latency_seconds_count${labels}`)).toBe(5);
  expect(value(`vllm:num_requests_running${labels}`)).toBe(0);
  expect(value('vllm:iteration_tokens_total_bucket{le="8"')).toBe(value('vllm:iteration_tokens_total_bucket{le="1"') + 1);
  expect(value('vllm:iteration_tokens_total_bucket{le="+Inf"')).toBe(value(`vllm:iteration_tokens_total_count${labels}`));
  expect(value(`vllm:iteration_tokens_total_sum${labels}`)).toBe(value(`millrace:steps_total${labels}`) + 45);
  expect(text).toMatch(/^# TYPE vllm:iteration_tokens_total histogram$/m);
  expect(text).toMatch(/^vllm:cache_config_info\{model_name="fake",engine="0",block_size="[^"]*",.*num_gpu_blocks="100".*\} 1$/m);
  expect(value('http_requests_total{method="POST",handler="/v1/completions",status="200"')).toBe(1);
});

test('closing lets running requests finish, refuses new ones, and frees the port', async () => {
  const serving = await serve(new FakeEngine({ stepMs: 10 }), { drainMs: 5000 });
  const running = serving.client.completions.create({ model: 'fake', prompt: 'a', max_tokens: 30 });
  await until(() => serving.engine.running === 1, 'it runs');
  const closing = serving.server.close();
  expect((await fetch(`${serving.url}/health`)).status).toBe(503);
  const refused = await serving.post('/v1/completions', { prompt: 'a' });
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5']);
  expect((await running).usage?.completion_tokens).toBe(30);
  await closing;
  await expect(fetch(`${serving.url}/health`)).rejects.toThrow();
});

test('closing aborts what does not finish in time, with an error frame in the stream', async () => {
  const serving = await serve(new FakeEngine({ stepMs: 10 }), { drainMs: 50 });
  const response = await serving.post('/v1/completions', { prompt: 'a', max_tokens: 4000, stream: true });
  const [text] = await Promise.all([response.text(), serving.server.close()]);
  expect(text).toContain('"code":"ENGINE_CLOSED"');
  expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
  expect(serving.engine.running).toBe(0);
});

test('a taken port is PORT_IN_USE', async () => {
  await using serving = await serve(new FakeEngine());
  const second = createServer({ engines: new Map([['fake', new FakeEngine()]]), options: { port: serving.port } });
  await expect(second.listen()).rejects.toMatchObject({ code: 'PORT_IN_USE' });
  await second.close();
});
