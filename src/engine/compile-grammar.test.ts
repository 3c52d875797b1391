import { expect, test } from 'vitest';
import { nullEngine } from '../../test/fixtures/engine.ts';
import type { MillraceError } from '../base/errors.ts';
import { compileStructuredOutput } from '../sampling/grammar/structured-output.ts';
import { GrammarCompiler } from './compile-grammar.ts';

/** Too large for the thread that serves. */
const large = { choice: Array.from({ length: 400 }, (_, i) => `A${i}`.padEnd(8, 'B')) };
const largeAndBad = { json: { uniqueItems: true, enum: large.choice } };
const codeOf = (promise: PromiseLike<unknown>) => Promise.resolve(promise).then(String, (error: MillraceError) => error.code);

test('a large schema is compiled while others are served, says why it waits, and is compiled once', async () => {
  await using engine = await nullEngine({ eosTokenIds: [7] });
  const params = { maxTokens: 4, structuredOutput: large };
  const waiting = [1, 2].map((id) => engine.generate({ promptTokenIds: [id] }, params, { requestId: `r${id}`, tenant: 't' }));
  const bad = codeOf(engine.generate({ promptTokenIds: [3] }, { ...params, structuredOutput: largeAndBad }));
  const left = engine.generate({ promptTokenIds: [4] }, params);
  const leaving = codeOf(left);
  await engine.generate({ promptTokenIds: [5] }, { maxTokens: 30 });
  expect(engine.requests()).toContainEqual(expect.objectContaining({ id: 'r1', tenant: 't', waitsFor: 'grammar', promptTokens: 1 }));
  left.abort();
  expect(await leaving).toBe('REQUEST_ABORTED');
  const results = await Promise.all(waiting);
  for (const { choices } of results) expect(choices[0].tokenIds).toHaveLength(4);
  expect(await bad).toBe('GRAMMAR_UNSUPPORTED');
  expect(engine.requests()).toEqual([]);
  // known by now
  await engine.generate({ promptTokenIds: [6] }, params);
  expect(engine.stats()).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
});

test('an engine that is closed while it compiles ends at once', async () => {
  const engine = await nullEngine({ eosTokenIds: [7] });
  const code = codeOf(engine.generate({ promptTokenIds: [1] }, { structuredOutput: large }));
  await engine.generate({ promptTokenIds: [5] }, { maxTokens: 3 });
  await engine.close();
  expect(await code).toBe('ENGINE_CLOSED');
  await expect.poll(() => engine.numOpenStreams).toBe(0);
});

test('a short schema whose pattern takes long to compile goes to the worker too', async () => {
  const compiler = new GrammarCompiler();
  const json = { type: 'string', pattern: '^(a|b)*a(a|b){10}$' };
  const grammar = await compiler.compile({ json }, JSON.stringify(json).length);
  expect(grammar).toEqual(compileStructuredOutput({ json }));
  compiler.close();
});
