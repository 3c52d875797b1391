/** Each field of each endpoint on the pocket model, through the socket: what docs/conformance.md lists. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Api } from './api.ts';
import { conformance, gaps } from './index.ts';

let api: Api;
beforeAll(async () => {
  api = await Api.open();
});
afterAll(() => api?.[Symbol.asyncDispose]());

test('every field of every endpoint has a case', () => {
  expect(gaps()).toEqual([]);
});

describe.each(Object.entries(conformance))('%s', (_endpoint, cases) => {
  test.each(cases.map((each) => [each.fields.join(', '), each.shows, each] as const))('%s: %s', async (_fields, _shows, { run }) => {
    await run(api);
  });
});

test('nothing is left running', () => {
  const { numRunning, numWaiting, kvBlocksReferenced } = api.engine.stats();
  expect([numRunning, numWaiting, kvBlocksReferenced]).toEqual([0, 0, 0]);
});
