/** The API as a function: in Hono, in a server of Node, and bare. */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { Hono } from 'hono';
import OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createFetchHandler, type FetchHandler } from '../../src/fetch/index.ts';
import { FakeEngine } from './fake-engine.ts';
import { until } from './serving.ts';

const script = 'One two three.';
const user = { role: 'user' as const, content: 'Count.' };
let engine: FakeEngine;
let handler: FetchHandler;

beforeEach(async () => {
  engine = new FakeEngine({ script, scriptEnds: true, stepMs: 1 });
  handler = await createFetchHandler(new Map([['fake', engine]]), { drainMs: 1000 });
});
afterEach(async () => {
  await handler.close();
  await engine.close();
});

const clientOf = (fetch: (request: Request) => Response | Promise<Response>, baseURL = 'http://somewhere.example/v1') =>
  new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0, fetch: async (url, init) => fetch(new Request(url as string, init as RequestInit)) });

async function speak(client: OpenAI): Promise<string[]> {
  const whole = await client.chat.completions.create({ model: 'fake', messages: [user] });
  let streamed = '';
  let numChunks = 0;
  for await (const chunk of await client.chat.completions.create({ model: 'fake', messages: [user], stream: true })) {
    streamed += chunk.choices[0]?.delta.content ?? '';
    numChunks++;
  }
  expect(numChunks).toBeGreaterThan(5);
  return [whole.choices[0]!.message.content ?? '', streamed];
}

test('the official client speaks to the function itself', async () => {
  expect(await speak(clientOf(handler.fetch))).toEqual([script, script]);
});

test('mounted in Hono below a path, beside other routes', async () => {
  const mounted = await createFetchHandler(new Map([['fake', engine]]), { basePath: '/llm' });
  const app = new Hono();
  app.get('/hello', (context) => context.text('hello'));
  app.all('/llm/*', (context) => mounted.fetch(context.req.raw));
  expect(await speak(clientOf((request) => app.fetch(request), 'http://hono.example/llm/v1'))).toEqual([script, script]);
  expect(await (await app.request('/hello')).text()).toBe('hello');
  expect((await app.request('/llm/health')).status).toBe(200);
  await mounted.close();
});

/** Routes of a framework, with what a client of OpenAI needs to reach them; a listening one has a URL of its own. */
interface Mounted {
  readonly client: OpenAI;
  readonly fetch: (request: Request) => Response | Promise<Response>;
  readonly base: string;
  close(): Promise<void>;
}

const frameworks: Readonly<Record<string, (mounted: FetchHandler) => Promise<Mounted>>> = {
  Hono: async (mounted) => {
    const app = new Hono();
    app.all('/llm/*', (context) => mounted.fetch(context.req.raw));
    const reach = (request: Request) => app.fetch(request);
    return { client: clientOf(reach, 'http://hono.example/llm/v1'), fetch: reach, base: 'http://hono.example/llm', close: async () => {} };
  },
  Express: async (mounted) => {
    const app = express();
    app.use('/llm', (request, response) => mounted.node(request, response));
    // Parsers of bodies come behind: they would read what the handler is to read.
    app.use(express.json());
    app.get('/hello', (_request, response) => void response.send('hello'));
    const server = app.listen(0);
    await once(server, 'listening');
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/llm`;
    const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: 'none', maxRetries: 0 });
    return { client, fetch, base, close: async () => void server.close() };
  },
  'Next.js': async (mounted) => {
    // app/llm/[...path]/route.ts exports a function for each method; Next.js calls it with the request and the parameters of the path.
    type Handler = (request: Request, context: { params: Promise<{ path: string[] }> }) => Promise<Response>;
    const route: Readonly<Record<string, Handler>> = { GET: mounted.fetch, POST: mounted.fetch, DELETE: mounted.fetch };
    const reach = async (request: Request) => {
      const path = new URL(request.url).pathname.split('/').slice(2);
      return route[request.method]?.(request, { params: Promise.resolve({ path }) }) ?? new Response(null, { status: 405 });
    };
    return { client: clientOf(reach, 'http://next.example/llm/v1'), fetch: reach, base: 'http://next.example/llm', close: async () => {} };
  },
};

describe.each(Object.entries(frameworks))('mounted in %s', (name, mount) => {
  let endless: FakeEngine;
  let both: FetchHandler;
  let mounted: Mounted;
  beforeEach(async () => {
    endless = new FakeEngine({ names: ['endless'], stepMs: 5, maxModelLen: 100_000 });
    const engines = new Map([
      ['fake', engine],
      ['endless', endless],
    ]);
    // Express cuts its own prefix off.
    both = await createFetchHandler(engines, { drainMs: 1000, ...(name === 'Express' ? {} : { basePath: '/llm' }) });
    mounted = await mount(both);
  });
  afterEach(async () => {
    await mounted.close();
    await both.close();
    await endless.close();
  });

  test('answers and streams', async () => {
    expect(await speak(mounted.client)).toEqual([script, script]);
    expect((await mounted.fetch(new Request(`${mounted.base}/health`))).status).toBe(200);
  });

  test('refuses in the shape of the API', async () => {
    const wrong = { model: 'fake', messages: [user], temperature: -1 };
    await expect(mounted.client.chat.completions.create(wrong)).rejects.toMatchObject({
      status: 400,
      code: 'SAMPLING_PARAM_INVALID',
      param: 'temperature',
    });
    await expect(mounted.client.chat.completions.create({ model: 'other', messages: [user] })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const broken = { method: 'POST', body: '{"messages": [', headers: { 'content-type': 'application/json' } };
    const response = await mounted.fetch(new Request(`${mounted.base}/v1/chat/completions`, broken));
    expect([response.status, ((await response.json()) as { error: { code: string } }).error.code]).toEqual([400, 'REQUEST_INVALID']);
  });

  test.each([true, false])('ends the generation of a client that leaves (stream: %s)', async (stream) => {
    const leaving = new AbortController();
    const request = { model: 'endless', messages: [user], max_tokens: 50_000 };
    const asked = mounted.client.chat.completions.create({ ...request, stream } as never, { signal: leaving.signal }) as unknown as Promise<
      AsyncIterable<unknown>
    >;
    asked.catch(() => {});
    if (stream) await (await asked)[Symbol.asyncIterator]().next();
    await until(() => endless.running === 1, 'the generation to run');
    leaving.abort();
    await until(() => endless.running === 0, 'the generation to end');
  });
});

test('mounted in a server of Node', async () => {
  const server = http.createServer((request, response) => handler.node(request, response)).listen(0);
  const { port } = server.address() as AddressInfo;
  const client = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: 'none', maxRetries: 0 });
  expect(await speak(client)).toEqual([script, script]);
  server.close();
});

test('refusals are answers in the shape of the API', async () => {
  const request = new Request('http://x/v1/chat/completions', {
    method: 'POST',
    body: '{"messages":[]}',
    headers: { 'content-type': 'application/json' },
  });
  const response = await handler.fetch(request);
  expect([response.status, response.headers.get('content-type')]).toEqual([400, 'application/json; charset=utf-8']);
  expect(await response.json()).toMatchObject({ error: { code: 'REQUEST_INVALID', param: 'messages' } });
  expect((await handler.fetch(new Request('http://x/nothing'))).status).toBe(404);
  await expect(clientOf(handler.fetch).chat.completions.create({ model: 'other', messages: [user] })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
});

describe('a client that leaves', () => {
  const ask = (stream: boolean, signal?: AbortSignal) =>
    new Request('http://x/v1/chat/completions', {
      method: 'POST',
      body: JSON.stringify({ messages: [user], stream, max_tokens: 50_000 }),
      headers: { 'content-type': 'application/json' },
      ...(signal === undefined ? {} : { signal }),
    });
  beforeEach(async () => {
    engine = new FakeEngine({ stepMs: 5, maxModelLen: 100_000 });
    handler = await createFetchHandler(new Map([['fake', engine]]), { drainMs: 1000 });
  });

  test('by cancelling the body ends the generation', async () => {
    const response = await handler.fetch(ask(true));
    const reader = response.body!.getReader();
    await reader.read();
    expect(engine.running).toBe(1);
    await reader.cancel();
    await until(() => engine.running === 0, 'the generation to end');
  });

  test.each([true, false])('by its signal ends the generation (stream: %s)', async (stream) => {
    const leaving = new AbortController();
    const answered = handler.fetch(ask(stream, leaving.signal));
    if (stream) await (await answered).body!.getReader().read();
    await until(() => engine.running === 1, 'the generation to run');
    leaving.abort();
    await until(() => engine.running === 0, 'the generation to end');
    if (!stream) expect((await answered).status).toBe(499);
  });
});

test('a reader that is slow is waited for', async () => {
  const fast = new FakeEngine({ stepMs: 0, maxModelLen: 1_000_000, charactersPerToken: 1000 });
  const mounted = await createFetchHandler(new Map([['fake', fast]]), { drainMs: 100 });
  const body = JSON.stringify({ prompt: 'x', stream: true, max_tokens: 500_000 });
  const response = await mounted.fetch(
    new Request('http://x/v1/completions', { method: 'POST', body, headers: { 'content-type': 'application/json' } }),
  );
  const reader = response.body!.getReader();
  await reader.read();
  await new Promise((resolve) => setTimeout(resolve, 300));
  const { generation } = fast.counters;
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(fast.counters.generation).toBe(generation);
  expect(fast.running).toBe(1);
  await reader.cancel();
  await until(() => fast.running === 0, 'the generation to end');
  await mounted.close();
  await fast.close();
});
