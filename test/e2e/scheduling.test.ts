/** Limits, priorities and what administrators see, through HTTP. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type EngineFixture, nullEngine } from '../fixtures/engine.ts';
import { FakeEngine } from './fake-engine.ts';
import { errorOf, isQuiet, serve, until } from './serving.ts';

/** An engine whose steps take a while, so that requests do wait. */
function slowEngine(options: EngineFixture = {}) {
  return nullEngine({ maxNumSeqs: 1, ...options, backend: { stepMs: () => 10, wait: (ms) => sleep(ms) } });
}

const body = (fields: object) => ({ prompt: [1, 2, 3], max_tokens: 8, ...fields });
/** Runs for a second at least: whatever else a test does happens meanwhile. */
const long = { max_tokens: 100 };

interface Listed {
  id: string;
  status: string;
  tenant: string;
  priority: number;
  waits_for: string | null;
  why: string | null;
}

async function listed(url: string, headers: Record<string, string> = {}): Promise<Listed[]> {
  const response = await fetch(`${url}/v1/requests`, { headers });
  expect(response.status).toBe(200);
  return ((await response.json()) as { data: Listed[] }).data;
}

test('a request that waits too long, or whose deadline passes, gets a 503 that says when to come back', async () => {
  await using serving = await serve(await slowEngine({ maxQueueMs: 500 }));
  const running = serving.post('/v1/completions', body(long));
  await until(() => serving.engine.stats().numRunning === 1, 'the first runs');
  const waited = await serving.post('/v1/completions', body({}));
  expect([waited.status, waited.headers.get('retry-after')]).toEqual([503, '2']);
  expect((await errorOf(waited)).code).toBe('QUEUE_TIMEOUT');
  expect((await running).status).toBe(200);
  const late = await serving.post('/v1/completions', body({ ...long, deadline_ms: 50 }));
  expect([late.status, late.headers.get('retry-after'), (await errorOf(late)).code]).toEqual([503, '2', 'DEADLINE_EXCEEDED']);
  for (const wrong of [{ deadline_ms: -1 }, { target_first_token_ms: 0 }, { priority: 1e9 }, { priority: 0.5 }]) {
    expect((await serving.post('/v1/completions', body(wrong))).status, JSON.stringify(wrong)).toBe(400);
  }
  await until(() => isQuiet(serving), 'quiet');
});

test('a user may have so many open requests; others are served', async () => {
  await using serving = await serve(await slowEngine({ maxTenantSeqs: 1 }));
  const first = serving.post('/v1/completions', body({ ...long, user: 'ann' }));
  await until(() => serving.engine.stats().numRunning === 1, 'the first runs');
  const second = await serving.post('/v1/completions', body({ user: 'ann' }));
  expect([second.status, second.headers.get('retry-after'), (await errorOf(second)).code]).toEqual([429, '1', 'TENANT_LIMIT']);
  expect((await serving.post('/v1/completions', body({ user: 'bob' }))).status).toBe(200);
  expect((await first).status).toBe(200);
  expect((await serving.post('/v1/completions', body({ user: 'ann' }))).status).toBe(200);
});

test('an API key is a tenant whatever user the client names', async () => {
  await using serving = await serve(await slowEngine({ maxTenantSeqs: 1 }), { apiKeys: ['one', 'two'], adminKeys: ['root'] });
  const as = (key: string, user: string, fields = {}) =>
    serving.post('/v1/completions', body({ ...fields, user }), { authorization: `Bearer ${key}` });
  const first = as('one', 'ann', long);
  await until(() => serving.engine.stats().numRunning === 1, 'the first runs');
  expect((await as('one', 'bob')).status).toBe(429);
  const other = as('two', 'ann');
  await until(() => serving.engine.requests()[1]?.waitsFor === 'rows', 'the other waits for a row');
  const [running, waiting] = await listed(serving.url, { authorization: 'Bearer root' });
  expect(running.tenant).toMatch(/^key-[0-9a-f]{16}$/);
  expect(waiting.tenant).not.toBe(running.tenant);
  expect([waiting.status, waiting.waits_for, waiting.why]).toEqual(['waiting', 'rows', 'As many requests run as may (--max-num-seqs).']);
  for (const response of await Promise.all([first, other])) expect(response.status).toBe(200);
  for (const key of ['one', 'none']) {
    expect((await fetch(`${serving.url}/v1/requests`, { headers: { authorization: `Bearer ${key}` } })).status).toBe(401);
  }
  expect((await fetch(`${serving.url}/v1/models`, { headers: { authorization: 'Bearer root' } })).status).toBe(401);
});

test('what administrators see is closed where API keys are wanted and nobody is named administrator', async () => {
  await using serving = await serve(new FakeEngine(), { apiKeys: ['one'] });
  const refused = await fetch(`${serving.url}/v1/requests`, { headers: { authorization: 'Bearer one' } });
  expect([refused.status, (await errorOf(refused)).code]).toEqual([403, 'ADMIN_ONLY']);
});

test('the policy can be switched while requests wait, and a priority then counts', async () => {
  await using serving = await serve(await slowEngine());
  const ended: string[] = [];
  const ask = async (name: string, priority: number, fields = {}) => {
    expect((await serving.post('/v1/completions', body({ ...fields, priority }))).status).toBe(200);
    ended.push(name);
  };
  const all = [ask('first', 0, long)];
  await until(() => serving.engine.stats().numRunning === 1, 'the first runs');
  all.push(ask('second', 5));
  await until(() => serving.engine.stats().numWaiting === 1, 'the second waits');
  all.push(ask('urgent', -5));
  await until(() => serving.engine.stats().numWaiting === 2, 'both wait');
  expect((await serving.post('/v1/scheduling-policy', { policy: 'no-such' })).status).toBe(400);
  expect((await serving.post('/v1/scheduling-policy', { policy: 'priority' })).status).toBe(200);
  expect((await listed(serving.url)).map(({ priority }) => priority)).toEqual([0, -5, 5]);
  await Promise.all(all);
  expect(ended).toEqual(['first', 'urgent', 'second']);
});
