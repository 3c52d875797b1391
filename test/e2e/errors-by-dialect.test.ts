/**
 * What goes wrong most (a bad field, two constraints, a bad schema, a wrong key, an unknown model, a prompt that is too long, more tokens than fit, a full
 * queue, a broken engine, a server that drains) at every endpoint that generates: the same status and code, in the shape of its API.
 */
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { errorTable } from '../../src/base/errors.ts';
import { loadEngine } from '../../src/engine/load.ts';
import type { ServerOptions } from '../../src/server/options.ts';
import { FakeEngine, type FakeEngineOptions } from './fake-engine.ts';
import { type Serving, serve, until } from './serving.ts';

interface Dialect {
  readonly path: string;
  /** A request for some tokens. */
  readonly body: (fields: Readonly<Record<string, unknown>>) => object;
  /** The request with that text as its prompt. */
  readonly saying: (text: string) => object;
  readonly tooHot: object;
  /** Two ways of holding the output where the API has them, and a schema that cannot be held. */
  readonly constraints?: { readonly two?: object; readonly bad: object };
  readonly most: (tokens: number) => object;
  /** What an error looks like. */
  readonly shape: (code: string, type: string) => object;
}

const pocket = fileURLToPath(new URL('../../pocket/model', import.meta.url));
const user = (content: string) => [{ role: 'user', content }];
const openAiShape = (code: string, type: string) => ({ error: { message: expect.any(String), type, code } });
const badSchema = { type: 'array', items: { type: 'string' }, uniqueItems: true };

const dialects: readonly Dialect[] = [
  {
    path: '/v1/chat/completions',
    body: (fields) => ({ messages: user('hi'), max_tokens: 4, ...fields }),
    saying: (text) => ({ messages: user(text) }),
    tooHot: { temperature: -1 },
    constraints: {
      two: { structured_outputs: { regex: 'a', choice: ['a'] } },
      bad: { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: badSchema } } },
    },
    most: (max_tokens) => ({ max_tokens }),
    shape: openAiShape,
  },
  {
    path: '/v1/completions',
    body: (fields) => ({ prompt: 'hi', max_tokens: 4, ...fields }),
    saying: (prompt) => ({ prompt }),
    tooHot: { temperature: -1 },
    constraints: { two: { structured_outputs: { regex: 'a', json_object: true } }, bad: { structured_outputs: { json: badSchema } } },
    most: (max_tokens) => ({ max_tokens }),
    shape: openAiShape,
  },
  {
    path: '/v1/responses',
    body: (fields) => ({ input: 'hi', max_output_tokens: 4, ...fields }),
    saying: (input) => ({ input }),
    tooHot: { temperature: -1 },
    constraints: { bad: { text: { format: { type: 'json_schema', name: 'x', schema: badSchema } } } },
    most: (max_output_tokens) => ({ max_output_tokens }),
    shape: openAiShape,
  },
  {
    path: '/v1/messages',
    body: (fields) => ({ messages: user('hi'), max_tokens: 4, ...fields }),
    saying: (text) => ({ messages: user(text) }),
    tooHot: { temperature: -1 },
    most: (max_tokens) => ({ max_tokens }),
    shape: (code) => ({ type: 'error', error: { type: expect.any(String), message: expect.any(String), code } }),
  },
  {
    path: '/api/chat',
    body: (fields) => ({ messages: user('hi'), stream: false, options: { num_predict: 4 }, ...fields }),
    saying: (text) => ({ messages: user(text) }),
    tooHot: { options: { temperature: -1 } },
    constraints: { bad: { format: badSchema } },
    most: (num_predict) => ({ options: { num_predict } }),
    shape: (code) => ({ error: expect.any(String), code }),
  },
  {
    path: '/api/generate',
    body: (fields) => ({ prompt: 'hi', stream: false, options: { num_predict: 4 }, ...fields }),
    saying: (prompt) => ({ prompt }),
    tooHot: { options: { temperature: -1 } },
    constraints: { bad: { format: badSchema } },
    most: (num_predict) => ({ options: { num_predict } }),
    shape: (code) => ({ error: expect.any(String), code }),
  },
];

describe.each(dialects.map((dialect) => [dialect.path, dialect] as const))('%s', (path, { body, saying, tooHot, constraints, most, shape }) => {
  const opened: Serving<FakeEngine>[] = [];
  afterEach(async () => {
    for (const serving of opened.splice(0)) await serving[Symbol.asyncDispose]();
  });
  async function open(engine: FakeEngineOptions = {}, options: ServerOptions = {}): Promise<Serving<FakeEngine>> {
    const serving = await serve(new FakeEngine({ stepMs: 0, maxModelLen: 256, ...engine }), options);
    opened.push(serving);
    return serving;
  }
  async function refused(response: Response, code: keyof typeof errorTable, type: string): Promise<string> {
    const text = await response.text();
    expect([response.status, response.headers.get('content-type')], text).toEqual([errorTable[code].status, 'application/json; charset=utf-8']);
    expect(JSON.parse(text)).toMatchObject(shape(code, type));
    expect(response.headers.get('x-request-id')).toBeTruthy();
    // Neither paths nor stacks.
    expect(text).not.toMatch(/\/(?:src|work|home|tmp)\/|\n {4}at /);
    return text;
  }

  test('bad fields are a 400', async () => {
    const { post } = await open();
    await refused(await post(path, '{"broken'), 'REQUEST_INVALID', 'invalid_request_error');
    await refused(await post(path, []), 'REQUEST_INVALID', 'invalid_request_error');
    await refused(await post(path, body({ model: 5 })), 'REQUEST_INVALID', 'invalid_request_error');
    await refused(await post(path, body(tooHot as Record<string, unknown>)), 'SAMPLING_PARAM_INVALID', 'invalid_request_error');
    for (const wrong of [{ prompt: 5, messages: 5, input: 5 }])
      await refused(await post(path, body(wrong)), 'REQUEST_INVALID', 'invalid_request_error');
  });

  test.runIf(constraints !== undefined)('two constraints, and a schema that cannot be held, are a 400', async () => {
    // Grammars are compiled by a real engine.
    await using serving = await serve(await loadEngine({ model: pocket }));
    const { post } = serving;
    const { two, bad } = constraints as NonNullable<Dialect['constraints']>;
    if (two !== undefined) await refused(await post(path, body(two as Record<string, unknown>)), 'GRAMMAR_INVALID', 'invalid_request_error');
    await refused(await post(path, body(bad as Record<string, unknown>)), 'GRAMMAR_UNSUPPORTED', 'invalid_request_error');
  });

  test('a wrong key, or none, is a 401', async () => {
    const { post } = await open({}, { apiKeys: ['secret'] });
    for (const headers of [{}, { authorization: 'Bearer wrong' }]) {
      await refused(await post(path, body({}), headers as Record<string, string>), 'AUTH_INVALID', 'authentication_error');
    }
    expect((await post(path, body({}), { authorization: 'Bearer secret' })).status).toBe(200);
  });

  test('an unknown model is a 404 that lists those that there are', async () => {
    const { post } = await open();
    expect(await refused(await post(path, body({ model: 'gpt-9' })), 'MODEL_UNKNOWN', 'not_found_error')).toContain('fake');
  });

  test('a prompt that is too long is a 400 with both counts; more tokens than fit are cut', async () => {
    const { post } = await open();
    const told = await refused(
      await post(path, body(saying('x'.repeat(400)) as Record<string, unknown>)),
      'PROMPT_TOO_LONG',
      'invalid_request_error',
    );
    expect(told).toMatch(/4\d\d/);
    expect(told).toContain('256');
    expect((await post(path, body(most(100_000) as Record<string, unknown>))).status).toBe(200);
  });

  test('a full queue is a 429 that says when to come back; a server that drains is a 503', async () => {
    const serving = await open({ queueLimit: 0 }, { drainMs: 200 });
    const full = await serving.post(path, body({}));
    expect(full.headers.get('retry-after')).toBe('1');
    await refused(full, 'QUEUE_FULL', 'rate_limit_error');
    await serving.engine.close();
    const closed = await serving.post(path, body({}));
    expect(closed.headers.get('retry-after')).toBe('5');
    await refused(closed, 'ENGINE_CLOSED', 'unavailable_error');
  });

  test('an engine that breaks is a 500, and its memory is free', async () => {
    const serving = await open({ failAfter: 2 });
    await refused(await serving.post(path, body({})), 'BACKEND_STEP_FAILED', 'server_error');
    await until(() => serving.engine.running === 0, 'the end');
  });
});
