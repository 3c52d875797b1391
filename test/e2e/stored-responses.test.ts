/** Responses that are stored, continued, and run in the background, through the official client. */
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { type ResponseBody, ResponseStore } from '../../src/server/responses/store.ts';
import { FakeEngine } from './fake-engine.ts';
import { errorOf, serve, until } from './serving.ts';

const request = { model: 'fake', input: 'How is it?' };
const short = () => new FakeEngine({ script: 'Fine.', scriptEnds: true, stepMs: 0 });
const endless = () => new FakeEngine({ stepMs: 5 });

test('a response is stored, retrieved, continued and deleted', async () => {
  await using serving = await serve(short());
  const { responses } = serving.client;
  const first = await responses.create({ ...request, instructions: 'Be brief.' });
  expect(await responses.retrieve(first.id)).toMatchObject({ id: first.id, status: 'completed', output: first.output, usage: first.usage });
  const second = await responses.create({ ...request, input: [{ role: 'user', content: 'And now?' }], previous_response_id: first.id });
  expect(second.previous_response_id).toBe(first.id);
  const { input } = serving.engine.seen.at(-1)!;
  // The conversation goes on; the instructions of the earlier request do not.
  expect('messages' in input && input.messages).toMatchObject([
    { role: 'user', content: 'How is it?' },
    { role: 'assistant', content: 'Fine.' },
    { role: 'user', content: 'And now?' },
  ]);
  const stream = responses.stream({ ...request, previous_response_id: second.id });
  const third = await stream.finalResponse();
  expect((await responses.retrieve(third.id)).output).toHaveLength(1);
  const page = await responses.inputItems.list(third.id, { order: 'asc', limit: 3 });
  expect([page.data.length, page.has_more]).toEqual([3, true]);
  const all: unknown[] = [];
  for await (const item of responses.inputItems.list(third.id, { limit: 2 })) all.push(item.type);
  expect(all).toEqual(['message', 'message', 'message', 'message', 'message']);
  await responses.delete(first.id);
  await expect(responses.retrieve(first.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  // what was built on it has all it needs
  expect(await responses.create({ ...request, previous_response_id: second.id })).toMatchObject({ status: 'completed' });
});

test('what is not stored, unknown, or of somebody else, is a 404 that says so', async () => {
  await using serving = await serve(short(), { apiKeys: ['one', 'two'] });
  const unstored = await serving.client.responses.create({ ...request, store: false });
  const stored = await serving.client.responses.create(request);
  const get = (id: string, key: string) => fetch(`${serving.url}/v1/responses/${id}`, { headers: { authorization: `Bearer ${key}` } });
  expect((await get(stored.id, 'one')).status).toBe(200);
  const refused = [await get(unstored.id, 'one'), await get('resp_nothing', 'one'), await get(stored.id, 'two')];
  for (const response of refused) {
    expect(response.status).toBe(404);
    expect(await errorOf(response)).toMatchObject({ code: 'RESPONSE_UNKNOWN', type: 'not_found_error', param: null });
  }
  const body = { ...request, previous_response_id: stored.id };
  const other = await serving.post('/v1/responses', body, { authorization: 'Bearer two' });
  expect(await errorOf(other)).toMatchObject({ code: 'RESPONSE_UNKNOWN', param: 'previous_response_id' });
});

test('a wrong item of a continuing request is named by its place in that request', async () => {
  await using serving = await serve(short());
  const { id } = await serving.client.responses.create(request);
  const response = await serving.post('/v1/responses', { ...request, input: [{ type: 'function_call' }], previous_response_id: id });
  expect(await errorOf(response)).toMatchObject({ code: 'REQUEST_INVALID', param: 'input[0].name' });
});

describe('in the background', () => {
  test('a response is queued at once and found complete later', async () => {
    await using serving = await serve(short());
    const queued = await serving.client.responses.create({ ...request, background: true });
    expect(queued).toMatchObject({ status: 'queued', background: true, output: [], usage: null });
    await expect.poll(async () => (await serving.client.responses.retrieve(queued.id)).status).toBe('completed');
    const now = await serving.client.responses.retrieve(queued.id);
    expect(now.output).toMatchObject([{ type: 'message', content: [{ text: 'Fine.' }], status: 'completed' }]);
    expect(now.usage!.output_tokens).toBeGreaterThan(0);
  });

  test('a bad request is refused, not queued', async () => {
    await using serving = await serve(short());
    const response = await serving.post('/v1/responses', { ...request, background: true, temperature: -1 });
    expect([response.status, (await errorOf(response)).code]).toEqual([400, 'SAMPLING_PARAM_INVALID']);
  });

  test('it runs on when the client of its stream leaves, and the stream is taken up behind any event', async () => {
    await using serving = await serve(new FakeEngine({ script: 'A long answer, letter by letter.', scriptEnds: true, stepMs: 2 }));
    const seen: OpenAI.Responses.ResponseStreamEvent[] = [];
    for await (const event of await serving.client.responses.create({ ...request, background: true, stream: true })) {
      seen.push(event);
      if (seen.length === 6) break;
    }
    expect(seen.slice(0, 3).map(({ type }) => type)).toEqual(['response.created', 'response.queued', 'response.in_progress']);
    const { id } = (seen[0] as OpenAI.Responses.ResponseCreatedEvent).response;
    for await (const event of await serving.client.responses.retrieve(id, { stream: true, starting_after: seen.length - 1 })) seen.push(event);
    expect(seen.map(({ sequence_number }) => sequence_number)).toEqual(seen.map((_, at) => at));
    expect(seen.at(-1)).toMatchObject({ type: 'response.completed', response: { status: 'completed' } });
    const text = seen.flatMap((event) => (event.type === 'response.output_text.delta' ? [event.delta] : []));
    expect(text.join('')).toBe('A long answer, letter by letter.');
  });

  test('it is cancelled by its owner, which ends the generation', async () => {
    await using serving = await serve(endless());
    const { id } = await serving.client.responses.create({ ...request, background: true });
    await until(() => serving.engine.running === 1, 'the generation to run');
    expect(await serving.client.responses.cancel(id)).toMatchObject({ id, status: 'cancelled' });
    await until(() => serving.engine.running === 0, 'the generation to end');
    expect(await serving.client.responses.retrieve(id)).toMatchObject({ status: 'cancelled', error: null });
    expect(await serving.client.responses.cancel(id)).toMatchObject({ status: 'cancelled' });
    const response = await serving.post('/v1/responses', { ...request, previous_response_id: id });
    expect(await errorOf(response)).toMatchObject({ code: 'REQUEST_INVALID', param: 'previous_response_id' });
  });

  test('only what runs in the background can be cancelled', async () => {
    await using serving = await serve(short());
    const { id } = await serving.client.responses.create(request);
    await expect(serving.client.responses.cancel(id)).rejects.toBeInstanceOf(OpenAI.BadRequestError);
  });

  test('one that is deleted while it runs ends, and one that fails says why', async () => {
    await using serving = await serve(endless());
    const { id } = await serving.client.responses.create({ ...request, background: true });
    await serving.client.responses.delete(id);
    await until(() => serving.engine.running === 0, 'the generation to end');
    await using failing = await serve(new FakeEngine({ stepMs: 0, failAfter: 3 }));
    const failed = await failing.client.responses.create({ ...request, background: true });
    await expect.poll(async () => (await failing.client.responses.retrieve(failed.id)).status).toBe('failed');
    expect((await failing.client.responses.retrieve(failed.id)).error?.message).toMatch(/./);
  });

  test('a server that closes ends them', async () => {
    const engine = endless();
    const serving = await serve(engine, { drainMs: 50 });
    await serving.client.responses.create({ ...request, background: true });
    await until(() => engine.running === 1, 'the generation to run');
    await serving.server.close();
    await until(() => engine.running === 0, 'the generation to end');
    await engine.close();
  });
});

describe('the store', () => {
  const stored = (id: string, status: ResponseBody['status'] = 'completed', text = '') => ({
    id,
    tenant: '',
    isBackground: false,
    input: [],
    before: [],
    body: { id, status, output: [{ text }] },
  });

  test('keeps so many, the oldest that have ended go first', () => {
    const store = new ResponseStore({ count: 2, bytes: 10_000, ttlMs: 1000 });
    store.add(stored('open', 'in_progress'));
    store.add(stored('a'));
    store.add(stored('b'));
    expect(() => store.find('a', '')).toThrow(/not stored/);
    expect(store.find('open', '').id).toBe('open');
    store.delete('b');
    store.add(stored('open too', 'queued'));
    expect(() => store.add(stored('c'))).toThrow(/Too many/);
  });

  test('keeps so many bytes, also as responses grow, and counts none when it is empty', () => {
    const store = new ResponseStore({ count: 10, bytes: 1000, ttlMs: 1000 });
    store.add(stored('a'));
    store.add(stored('b', 'in_progress'));
    store.update('b', stored('b', 'completed', 'x'.repeat(900)).body);
    expect(() => store.find('a', '')).toThrow(/not stored/);
    expect(store.find('b', '').body.status).toBe('completed');
    store.add(stored('c', 'completed', 'x'.repeat(2000)));
    expect([store.count, store.bytes]).toEqual([0, 0]);
  });

  test('keeps them for so long behind their end', () => {
    let now = 0;
    const store = new ResponseStore({ count: 10, bytes: 1000, ttlMs: 100 }, () => now);
    store.add(stored('a', 'in_progress'));
    now = 500;
    store.update('a', stored('a').body);
    now = 599;
    expect(store.find('a', '').id).toBe('a');
    now = 600;
    expect(() => store.find('a', '')).toThrow(/not stored/);
    expect(store.bytes).toBe(0);
  });
});
