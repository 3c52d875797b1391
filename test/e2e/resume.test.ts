/** Streams that a client takes up again after its connection broke. */
import { expect, test } from 'vitest';
import { FakeEngine } from './fake-engine.ts';
import { errorOf, isQuiet, serve, until } from './serving.ts';

const script = 'One two three four five six seven eight nine ten.';
const engine = (stepMs = 2) => new FakeEngine({ script, scriptEnds: true, stepMs });
const user = { role: 'user', content: 'Count.' };
const chat = '/v1/chat/completions';
const kept = { 'x-stream-resume': '1' };

interface Frame {
  id: string;
  data: string;
}

function framesOf(text: string): Frame[] {
  const blocks = text.split('\n\n').filter((block) => block.includes('data: '));
  return blocks.map((block) => ({ id: /^id: (.*)$/m.exec(block)?.[1] ?? '', data: /^data: (.*)$/m.exec(block)?.[1] ?? '' }));
}

/** Reads frames until there are `count`, then breaks the connection. */
async function readSome(response: Response, count: number): Promise<Frame[]> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  while (framesOf(text).length < count) text += (await reader.read()).value ?? '';
  await reader.cancel();
  return framesOf(text.slice(0, text.lastIndexOf('\n\n') + 2)).slice(0, count);
}

const contentOf = (frames: readonly Frame[]) =>
  frames
    .map(({ data }) => (data.startsWith('{') ? (JSON.parse(data).choices?.[0]?.delta?.content ?? JSON.parse(data).choices?.[0]?.text ?? '') : ''))
    .join('');

test.each([
  [chat, { messages: [user] }],
  ['/v1/completions', { prompt: 'Count.', max_tokens: 100 }],
])('a stream of %s goes on behind the last event that the client has, generated once', async (path, body) => {
  await using serving = await serve(engine());
  const response = await serving.post(path, { ...body, stream: true }, kept);
  const first = await readSome(response, 7);
  const id = first.at(-1)!.id;
  expect(id).toMatch(/^stream_[0-9a-f]{32}-6$/);
  expect(response.headers.get('x-stream-id')).toBe(id.slice(0, -2));
  const again = await serving.post(path, { ...body, stream: true }, { 'last-event-id': id });
  const rest = framesOf(await again.text());
  expect(contentOf([...first, ...rest])).toBe(script);
  expect(rest[0]!.id).toMatch(/-7$/);
  expect(rest.at(-1)!.data).toBe('[DONE]');
  // and a third time, as a browser's EventSource would, after the end
  const whole = framesOf(await (await fetch(`${serving.url}/v1/streams/${id.slice(0, -2)}`)).text());
  expect(contentOf(whole)).toBe(script);
  expect(serving.engine.seen).toHaveLength(1);
});

test('a client that does not come back in time ends the generation', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 5 }), { resumeWindowMs: 50 });
  const first = await readSome(await serving.post(chat, { messages: [user], stream: true }, kept), 3);
  expect(serving.engine.running).toBe(1);
  await until(() => serving.engine.running === 0, 'the generation to end');
  await until(() => isQuiet(serving), 'the server to be quiet');
  const late = await serving.post(chat, { messages: [user], stream: true }, { 'last-event-id': first.at(-1)!.id });
  expect([late.status, (await errorOf(late)).code]).toEqual([404, 'STREAM_UNKNOWN']);
});

test('without the header a stream has no event ids and ends with its connection', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 5 }));
  const frames = await readSome(await serving.post(chat, { messages: [user], stream: true }), 3);
  expect(frames.map(({ id }) => id)).toEqual(['', '', '']);
  await until(() => serving.engine.running === 0, 'the generation to end');
});

test('events that were dropped are missed with an error, not in silence', async () => {
  await using serving = await serve(engine(0), { limits: { keptStreamBytes: 2000 } });
  const response = await serving.post(chat, { messages: [user], stream: true }, kept);
  await response.text();
  const id = response.headers.get('x-stream-id');
  const early = await serving.post(chat, { messages: [user], stream: true }, { 'last-event-id': `${id}-1` });
  expect([early.status, (await errorOf(early)).code]).toEqual([410, 'STREAM_POSITION_LOST']);
  const future = await serving.post(chat, { messages: [user], stream: true }, { 'last-event-id': `${id}-4000` });
  expect(future.status).toBe(410);
});

test('a stream is known to its owner only, and a refused request keeps none', async () => {
  await using serving = await serve(engine(), { apiKeys: ['one', 'two'], limits: { keptStreams: 1 } });
  const one = { authorization: 'Bearer one' };
  for (let time = 0; time < 3; time++) {
    const refused = await serving.post(chat, { messages: [user], stream: true, temperature: -1 }, { ...one, ...kept });
    expect([refused.status, (await errorOf(refused)).code]).toEqual([400, 'SAMPLING_PARAM_INVALID']);
  }
  const first = await readSome(await serving.post(chat, { messages: [user], stream: true }, { ...one, ...kept }), 2);
  const id = first.at(-1)!.id;
  const stranger = await serving.post(chat, { messages: [user], stream: true }, { authorization: 'Bearer two', 'last-event-id': id });
  expect([stranger.status, (await errorOf(stranger)).code]).toEqual([404, 'STREAM_UNKNOWN']);
  const second = await serving.post(chat, { messages: [user], stream: true }, { ...one, ...kept });
  expect([second.status, (await errorOf(second)).code]).toEqual([429, 'QUEUE_FULL']);
  const rest = framesOf(await (await serving.post(chat, { messages: [user], stream: true }, { ...one, 'last-event-id': id })).text());
  expect(contentOf([...first, ...rest])).toBe(script);
});

test('Anthropic streams are taken up too', async () => {
  await using serving = await serve(engine());
  const body = { model: 'fake', messages: [user], max_tokens: 100, stream: true };
  const first = await readSome(await serving.post('/v1/messages', body, kept), 5);
  const rest = framesOf(await (await serving.post('/v1/messages', body, { 'last-event-id': first.at(-1)!.id })).text());
  const texts = [...first, ...rest].map(({ data }) => JSON.parse(data).delta?.text ?? '');
  expect(texts.join('')).toBe(script);
});
