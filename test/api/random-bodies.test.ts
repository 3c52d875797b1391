/**
 * Bodies that nobody would send, over every endpoint, on the pocket model: fields of the endpoint with values that fit, nearly fit, or have nothing to do with
 * them, alone and several at once. Each is answered or refused with a code of the table; nothing is a fault of ours, nothing hangs, nothing stays behind.
 * MILLRACE_FUZZ_SECONDS goes on for longer.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ErrorCode, errorTable } from '../../src/base/errors.ts';
import { routes } from '../../src/server/routes/index.ts';
import { until } from '../e2e/serving.ts';
import { Api, type Json } from './api.ts';

/** So many bodies, or as many as fit into so many seconds. */
const REQUESTS = 60;
const SECONDS = Number(process.env.MILLRACE_FUZZ_SECONDS ?? 0);
const ANSWER_MS = 60_000;

let api: Api;
beforeAll(async () => {
  api = await Api.open({ maxModelLen: 96, backend: 'reference' });
});
afterAll(() => api?.[Symbol.asyncDispose]());

const user = { role: 'user', content: 'Tell me a story.' };
const tool = { type: 'function', function: { name: 'get_weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } } };
const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false };

/** What an endpoint answers well, to begin with. */
const good: Readonly<Record<string, Json>> = {
  '/v1/chat/completions': { messages: [user], max_tokens: 4 },
  '/v1/completions': { prompt: 'Once', max_tokens: 4 },
  '/v1/responses': { input: 'Tell me a story.', max_output_tokens: 4 },
  '/v1/responses/input_tokens': { input: 'Tell me a story.' },
  '/v1/messages': { messages: [user], max_tokens: 4 },
  '/v1/messages/count_tokens': { messages: [user] },
  '/api/chat': { messages: [user], stream: false, options: { num_predict: 4 } },
  '/api/generate': { prompt: 'Once', stream: false, options: { num_predict: 4 } },
  '/api/show': { model: 'pocket' },
  '/tokenize': { prompt: 'Once' },
  '/detokenize': { tokens: [1, 2] },
  '/v1/scheduling-policy': { policy: 'fcfs' },
};

/** Values that mean something somewhere. */
const odd = fc.oneof(
  fc.constantFrom<Json>(
    ...[
      0,
      1,
      -1,
      2,
      0.5,
      1e308,
      -1e308,
      2 ** 31,
      2 ** 53,
      5e-324,
      true,
      false,
      null,
      '',
      ' ',
      'auto',
      'none',
      'required',
      'json',
      'pocket',
      '\u0000',
      '\ud800',
    ],
    ...[[], {}, [[]], [null], [1, 2], ['a', 'b'], [user], [tool], { type: 'text' }, { type: 'json_schema', json_schema: { name: 'n', schema } }],
    ...[
      { regex: '(a|b)*c' },
      { json: schema },
      { grammar: 'root ::= "a" root | "b"' },
      { choice: ['a'] },
      { type: 'function', function: { name: 'get_weather' } },
    ],
    ...[{ 5: 100 }, { window: 16, sinks: 4 }, { compress_prompt: 4 }, { effort: 'low' }, { num_predict: 3, temperature: 0 }, { include_usage: true }],
    ...[{ $ref: '#' }, { format: { type: 'json_object' } }, { enable_thinking: true }, 'x'.repeat(5000), { type: 'enabled', budget_tokens: 3 }],
  ),
  fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<Json>,
  fc.string({ maxLength: 12 }),
  fc.integer({ min: -5, max: 300 }),
);

/** Values of the type that a field has, in range or a little beside it. */
function fitting(field: Json): fc.Arbitrary<Json> {
  if (field.anyOf !== undefined) return fc.oneof(...field.anyOf.map(fitting));
  if (field.const !== undefined) return fc.constant(field.const);
  switch (field.type) {
    case 'boolean':
      return fc.boolean();
    case 'integer':
      return fc.integer({ min: -1, max: 12 });
    case 'number':
      return fc.constantFrom(0, 0.5, 1, 2, -1);
    case 'string':
      return fc.constantFrom('pocket', 'auto', 'none', 'low', 'json', 'text', 'a', ' the', 'user', 'function');
    case 'array':
      return fc.array(fitting(field.items ?? {}), { maxLength: 2 });
    case 'object':
      return fc.record(Object.fromEntries(Object.entries(field.properties ?? {}).map(([name, each]) => [name, fitting(each)])), { requiredKeys: [] });
    default:
      return odd;
  }
}

const posts = routes.filter(({ method, body }) => method === 'POST' && body !== null);
const bodies = fc.constantFrom(...posts).chain((route) => {
  const base = good[route.paths[0]];
  const given = Object.entries((route.body as Json).properties);
  const field = fc
    .constantFrom(...given)
    .chain(([name, shape]) => fc.tuple(fc.constant(name), fc.oneof({ weight: 8, arbitrary: fitting(shape) }, { weight: 1, arbitrary: odd })));
  const fields = fc.oneof(fc.array(field, { minLength: 1, maxLength: 2 }), fc.array(field, { minLength: 2, maxLength: 6 }));
  const body = fields.map((changed) => ({ ...base, ...Object.fromEntries(changed) }));
  return fc.record({ path: fc.constant(route.paths[0]), body: fc.oneof({ weight: 20, arbitrary: body }, { weight: 1, arbitrary: odd }) });
});
const lookups = fc.record({
  path: fc
    .tuple(
      fc.constantFrom(...routes.filter(({ method, paths }) => method === 'GET' && /[:*]/.test(paths[0])).map(({ paths }) => paths[0])),
      fc.oneof(fc.string({ maxLength: 12 }), fc.constantFrom('resp_x', '..', '%', 'a/b')),
      fc.constantFrom('', '?stream=true', '?limit=-1', '?limit=x&order=asc', '?starting_after=9999999999', '?after=%00'),
    )
    .map(([at, id, query]) => `${at.replace(/:\w+|\*/, encodeURIComponent(id.replaceAll(/[\ud800-\udfff]/g, '')) || 'x')}${query}`),
  body: fc.constant(undefined),
});

test('every endpoint has a body to begin with', () => {
  expect(Object.keys(good).sort()).toEqual(posts.map(({ paths }) => paths[0]).sort());
});

test('is answered, or refused with a code of the table, in time', { timeout: (SECONDS + 300) * 1000 }, async () => {
  const seed = Number(process.env.MILLRACE_FUZZ_SEED ?? 8);
  const endMs = Date.now() + SECONDS * 1000;
  let count = 0;
  let refusedCount = 0;
  for (const one of fc.sample(fc.oneof({ weight: 12, arbitrary: bodies }, { weight: 1, arbitrary: lookups }), {
    seed,
    numRuns: SECONDS > 0 ? SECONDS * 200 : REQUESTS,
  })) {
    if (SECONDS > 0 && Date.now() > endMs) break;
    const text = one.body === undefined ? undefined : JSON.stringify(one.body);
    const what = `${one.path} ${text?.slice(0, 2000) ?? ''}`;
    const response = await fetch(api.url + one.path, {
      method: text === undefined ? 'GET' : 'POST',
      ...(text === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: text }),
      signal: AbortSignal.timeout(ANSWER_MS),
    }).catch((cause: unknown) => assert.fail(`no answer: ${what}: ${String(cause)}`));
    const told = await response.text().catch((cause: unknown) => assert.fail(`no end: ${what}: ${String(cause)}`));
    const codes = [...told.matchAll(/"code":"([A-Z_]+)"/g)].map(([, code]) => code as ErrorCode);
    for (const code of codes) assert.ok(errorTable[code] === undefined || !isOurs(code), `${code}: ${what}: ${told.slice(0, 500)}`);
    if (response.status !== 200) {
      refusedCount++;
      const known = codes.some((code) => errorTable[code]?.status === response.status) || /"type":"\w+_error"/.test(told);
      assert.ok(response.status < 500 || codes.some((code) => deadlines.has(code)), `${response.status}: ${what}: ${told.slice(0, 500)}`);
      assert.ok(known, `a refusal without a code: ${what}: ${told.slice(0, 500)}`);
    }
    count++;
  }
  await api.send('/v1/scheduling-policy', { policy: 'fcfs' });
  await until(() => {
    const { numRunning, numWaiting, kvBlocksReferenced } = api.engine.stats();
    return numRunning + numWaiting + kvBlocksReferenced === 0;
  }, 'nothing to be left running');
  if (process.env.MILLRACE_FUZZ_SECONDS !== undefined) console.log(`${count} requests, ${refusedCount} refused, seed ${seed}`);
  // neither all refused nor all answered: both ways were tried
  expect([refusedCount > 0, refusedCount < count]).toEqual([true, true]);
  expect((await api.ok('/health')).body.status).toBe('ok');
});

/** A request may name a deadline that nobody could keep. */
const deadlines: ReadonlySet<string> = new Set(['DEADLINE_EXCEEDED', 'QUEUE_TIMEOUT', 'OUTPUT_INCOMPLETE']);
const isOurs = (code: ErrorCode) => errorTable[code].status >= 500 && !deadlines.has(code);
