import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nullEngine } from '../../test/fixtures/engine.ts';
import { expectedToken } from '../backends/null/null-backend.ts';
import type { MillraceError } from '../base/errors.ts';
import type { FinishedRequest } from './engine.ts';
import type { LoadedEngine } from './loaded-engine.ts';

const VOCABULARY = 97;

/** What a right engine generates after a prompt on the null backend. */
function expected(prompt: readonly number[], count: number, seed = 0, choice = 0): number[] {
  const context = [...prompt];
  for (let i = 0; i < count; i++) context.push(expectedToken(context, VOCABULARY, [seed, 0], choice));
  return context.slice(prompt.length);
}

async function codeOf(promise: PromiseLike<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return (error as MillraceError).code;
  }
  return 'fulfilled';
}

function expectNothingHeld(engine: LoadedEngine): void {
  expect(engine.stats()).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
  expect(engine.numOpenStreams).toBe(0);
  engine.scheduler.checkInvariants();
}

describe('generation', () => {
  test('a request gives the tokens of its own context whatever runs beside it', async () => {
    await using engine = await nullEngine({ maxNumBatchedTokens: 9 });
    const prompts = Array.from({ length: 20 }, (_, i) => Array.from({ length: 1 + ((i * 7) % 23) }, (_, j) => (i * j + j) % VOCABULARY));
    const results = await Promise.all(prompts.map((promptTokenIds) => engine.generate({ promptTokenIds }, { maxTokens: 11, seed: 0 })));
    results.forEach((result, i) => {
      expect(result.choices[0].tokenIds).toEqual(expected(prompts[i], 11));
      expect(result.choices[0].finishReason).toBe('length');
      expect(result.usage).toMatchObject({ promptTokens: prompts[i].length, completionTokens: 11 });
    });
    expectNothingHeld(engine);
  });

  test('tokens that are told apart from text are named with their places and left out of the text', async () => {
    await using engine = await nullEngine();
    const promptTokenIds = [5, 6, 7];
    const ids = expected(promptTokenIds, 12);
    const markerTokenIds = new Set([ids[0], ids[4], ids[5], ids[11]]);
    const markers: { at: number; tokenId: number }[] = [];
    let text = '';
    for (const id of ids) {
      if (markerTokenIds.has(id)) markers.push({ at: text.length, tokenId: id });
      else text += engine.tokenizer.decode([id]);
    }
    const params = { maxTokens: 12, seed: 0, stop: ['no such text'] };
    const { choices } = await engine.generate({ promptTokenIds }, params, { markerTokenIds });
    expect(choices[0]).toMatchObject({ text, markers, tokenIds: ids });
    let streamed = '';
    const seen: unknown[] = [];
    for await (const delta of engine.generate({ promptTokenIds }, params, { markerTokenIds })) {
      for (const { at, tokenId } of delta.markers ?? []) seen.push({ at: streamed.length + at, tokenId });
      streamed += delta.text;
    }
    expect([streamed, seen]).toEqual([text, markers]);
    expect((await engine.generate({ promptTokenIds }, params)).choices[0]).not.toHaveProperty('markers');
  });

  test('n choices share the prompt and draw differently', async () => {
    await using engine = await nullEngine({ maxNumBatchedTokens: 8 });
    const prompt = Array.from({ length: 18 }, (_, i) => i);
    const { choices, usage } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 5, seed: 3, n: 4 });
    expect(choices.map((choice) => choice.tokenIds)).toEqual([0, 1, 2, 3].map((c) => expected(prompt, 5, 3, c)));
    expect(usage.completionTokens).toBe(20);
    expectNothingHeld(engine);
  });

  test('preemption in a tiny pool changes no token', async () => {
    await using engine = await nullEngine({ numBlocks: 12, maxModelLen: 40 });
    const prompts = Array.from({ length: 6 }, (_, i) => Array.from({ length: 5 + i }, (_, j) => (i * 31 + j) % VOCABULARY));
    const results = await Promise.all(prompts.map((promptTokenIds) => engine.generate({ promptTokenIds }, { maxTokens: 20, seed: 0 })));
    results.forEach((result, i) => {
      expect(result.choices[0].tokenIds).toEqual(expected(prompts[i], 20));
    });
    expect(engine.stats().numPreemptions).toBeGreaterThan(0);
    expectNothingHeld(engine);
  });

  test('deltas joined are the text of the result', async () => {
    await using engine = await nullEngine();
    const stream = engine.generate({ prompt: 'Hello' }, { maxTokens: 9, seed: 0 });
    let text = '';
    const ids: number[] = [];
    let finishReason: string | null = null;
    for await (const delta of stream) {
      text += delta.text;
      ids.push(...delta.tokenIds);
      finishReason = delta.finishReason ?? finishReason;
    }
    const result = await stream;
    expect(text).toBe(result.choices[0].text);
    expect(ids).toEqual(result.choices[0].tokenIds);
    expect(finishReason).toBe('length');
    expect(result.timings.firstTokenMs).not.toBeNull();
  });

  test('a seed that is not given is drawn, reported and can be given again', async () => {
    await using engine = await nullEngine();
    const first = engine.generate({ prompt: 'Hello' }, { maxTokens: 9 });
    const { seed } = await first.admitted;
    expect(Number.isSafeInteger(seed)).toBe(true);
    const again = await engine.generate({ prompt: 'Hello' }, { maxTokens: 9, seed });
    expect(again.choices[0].tokenIds).toEqual((await first).choices[0].tokenIds);
  });

  test('max_tokens beyond the context is clamped and says so at admission', async () => {
    await using engine = await nullEngine({ maxModelLen: 20 });
    const stream = engine.generate({ promptTokenIds: [1, 2, 3, 4, 5] }, { maxTokens: 100_000, seed: 0 });
    expect((await stream.admitted).maxTokens).toBe(15);
    const { choices } = await stream;
    expect([choices[0].tokenIds.length, choices[0].finishReason]).toEqual([15, 'length']);
  });
});

describe('stopping', () => {
  const prompt = [1, 2, 3];
  const [, second, third] = expected(prompt, 3);

  test('an end token ends the text and is counted but not shown', async () => {
    await using engine = await nullEngine({ eosTokenIds: [third] });
    const { choices, usage } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 50, seed: 0 });
    expect(choices[0]).toMatchObject({ finishReason: 'stop', stopReason: null, tokenIds: expected(prompt, 3) });
    expect([choices[0].text.length, usage.completionTokens]).toEqual([2, 3]);
  });

  test('ignore_eos goes on', async () => {
    await using engine = await nullEngine({ eosTokenIds: [third] });
    const { choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 10, seed: 0, ignoreEos: true });
    expect(choices[0].tokenIds).toHaveLength(10);
  });

  test('min_tokens forbids end tokens and stop ids until it is reached', async () => {
    await using engine = await nullEngine({ eosTokenIds: [second] });
    const { choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 6, minTokens: 5, seed: 0, stopTokenIds: [third] });
    expect(choices[0].tokenIds.length).toBeGreaterThanOrEqual(5);
    expect(choices[0].tokenIds.slice(0, 5)).not.toContain(second);
    expect(choices[0].tokenIds.slice(0, 5)).not.toContain(third);
  });

  test('a stop id says which one it was', async () => {
    await using engine = await nullEngine();
    const { choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 50, seed: 0, stopTokenIds: [third] });
    expect(choices[0]).toMatchObject({ finishReason: 'stop', stopReason: third });
  });

  test('a stop string over two tokens ends the text before it', async () => {
    await using engine = await nullEngine();
    const stop = String.fromCharCode(second, third);
    const { choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 50, seed: 0, stop: [stop] });
    expect(choices[0]).toMatchObject({ finishReason: 'stop', stopReason: stop });
    expect(choices[0].text).toBe(String.fromCharCode(expected(prompt, 1)[0]));
  });

  test('a request whose parameters forbid every token fails alone', async () => {
    await using engine = await nullEngine();
    const everything = Object.fromEntries(Array.from({ length: VOCABULARY }, (_, id) => [id, 0]));
    const stuck = engine.generate({ prompt: 'x' }, { minTokens: 5, maxTokens: 9, stopTokenIds: Object.keys(everything).map(Number) });
    const fine = engine.generate({ prompt: 'y' }, { maxTokens: 3 });
    expect(await codeOf(stuck)).toBe('SAMPLING_PARAM_INVALID');
    expect((await fine).choices[0].tokenIds).toHaveLength(3);
    expectNothingHeld(engine);
  });
});

describe('refusals', () => {
  test('bad input rejects the stream and its admission with a code, and holds nothing', async () => {
    await using engine = await nullEngine({ maxModelLen: 16, maxQueue: 2 });
    expect(await codeOf(engine.generate({ promptTokenIds: [] }).admitted)).toBe('PROMPT_EMPTY');
    expect(await codeOf(engine.generate({ prompt: '' }))).toBe('PROMPT_EMPTY');
    expect(await codeOf(engine.generate({ promptTokenIds: [5, VOCABULARY] }))).toBe('PROMPT_TOKEN_UNKNOWN');
    expect(await codeOf(engine.generate({ promptTokenIds: [1.5] }))).toBe('PROMPT_TOKEN_UNKNOWN');
    expect(await codeOf(engine.generate({ prompt: 'far too long a prompt for this' }))).toBe('PROMPT_TOO_LONG');
    expect(await codeOf(engine.generate({ prompt: 'x' }, { temperature: -1 }))).toBe('SAMPLING_PARAM_INVALID');
    expect(await codeOf(engine.generate({ prompt: 'x' }, { stop: 'END' as never }))).toBe('SAMPLING_PARAM_INVALID');
    expect(await codeOf(engine.generate({ prompt: 'x' }, { n: 3 }))).toBe('QUEUE_FULL');
    expect(await codeOf(engine.generate({ messages: [{ role: 'user', content: 'hi' }] }))).toBe('CHAT_TEMPLATE_MISSING');
    expectNothingHeld(engine);
  });

  test('a stream that nobody awaits may fail without an unhandled rejection', async () => {
    await using engine = await nullEngine();
    const unhandled: unknown[] = [];
    const listen = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', listen);
    engine.generate({ promptTokenIds: [] });
    engine.generate({ prompt: 'x' }).abort();
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off('unhandledRejection', listen);
    expect(unhandled).toEqual([]);
  });
});

describe('leaving', () => {
  test('breaking out of the loop aborts the request and frees its blocks', async () => {
    await using engine = await nullEngine();
    const finished: FinishedRequest[] = [];
    engine.onFinished((event) => finished.push(event));
    for await (const delta of engine.generate({ prompt: 'Hello' }, { maxTokens: 200 })) {
      if (delta.tokenIds.length > 0) break;
    }
    expectNothingHeld(engine);
    expect(finished.map((event) => event.finishReason)).toEqual(['abort']);
  });

  test('a signal aborts at any time: before, while the prompt is prepared, while running, after the end', async () => {
    await using engine = await nullEngine();
    expect(await codeOf(engine.generate({ prompt: 'a' }, {}, { signal: AbortSignal.abort() }))).toBe('REQUEST_ABORTED');
    const early = new AbortController();
    const stream = engine.generate({ prompt: 'b' }, { maxTokens: 200 }, { signal: early.signal });
    early.abort();
    expect(await codeOf(stream)).toBe('REQUEST_ABORTED');
    const running = new AbortController();
    const other = engine.generate({ prompt: 'c' }, { maxTokens: 200 }, { signal: running.signal });
    await other.admitted;
    await new Promise((resolve) => setImmediate(resolve));
    running.abort();
    expect(await codeOf(other)).toBe('REQUEST_ABORTED');
    const late = new AbortController();
    const done = await engine.generate({ prompt: 'd' }, { maxTokens: 2 }, { signal: late.signal });
    late.abort();
    expect(done.choices[0].tokenIds).toHaveLength(2);
    expectNothingHeld(engine);
  });

  test('a slow reader gets everything in few merged deltas', async () => {
    await using engine = await nullEngine();
    const stream = engine.generate({ prompt: 'Hello' }, { maxTokens: 60, seed: 0 });
    let deltas = 0;
    let tokens = 0;
    for await (const delta of stream) {
      deltas++;
      tokens += delta.tokenIds.length;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    expect(tokens).toBe(60);
    expect(deltas).toBeLessThan(20);
  });

  test('leaving a waiting reader ends it', async () => {
    await using engine = await nullEngine({ backend: { stepMs: () => 10, wait: (ms) => new Promise((resolve) => setTimeout(resolve, ms)) } });
    const iterator = engine.generate({ prompt: 'Hello' }, { maxTokens: 100 })[Symbol.asyncIterator]();
    const pending = iterator.next();
    await iterator.return?.();
    expect((await pending).done).toBe(true);
    await new Promise((resolve) => setImmediate(resolve));
    expectNothingHeld(engine);
  });

  test('closing ends all streams with a code and is idempotent', async () => {
    const engine = await nullEngine({ maxNumSeqs: 2 });
    const streams = ['a', 'b', 'c'].map((prompt) => engine.generate({ prompt }, { maxTokens: 200 }));
    await Promise.all(streams.map((stream) => stream.admitted));
    await Promise.all([engine.close(), engine.close()]);
    expect(await Promise.all(streams.map(codeOf))).toEqual(['ENGINE_CLOSED', 'ENGINE_CLOSED', 'ENGINE_CLOSED']);
    expect(await codeOf(engine.generate({ prompt: 'd' }))).toBe('ENGINE_CLOSED');
    expectNothingHeld(engine);
  });
});

describe('failing steps', () => {
  test('a step that fails takes its rows with it, and the next request is served right', async () => {
    let failures = 1;
    await using engine = await nullEngine({
      backend: {
        token: () => {
          if (failures-- > 0) throw new Error('the kernel tripped');
          return undefined;
        },
      },
    });
    const [a, b] = [engine.generate({ prompt: 'ab' }), engine.generate({ prompt: 'abc' })];
    expect([await codeOf(a), await codeOf(b)]).toEqual(['BACKEND_STEP_FAILED', 'BACKEND_STEP_FAILED']);
    const prompt = [97, 98, 99, 1].map((id) => id % VOCABULARY);
    const { choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 8, seed: 0 });
    expect(choices[0].tokenIds).toEqual(expected(prompt, 8));
    expectNothingHeld(engine);
  });
});

test('stats tell progress: the counters grow, and an idle engine is not late', async () => {
  await using engine = await nullEngine();
  await engine.generate({ prompt: 'abcdefgh' }, { maxTokens: 5 });
  await engine.generate({ prompt: 'abcdefgh' }, { maxTokens: 5 });
  const stats = engine.stats();
  expect(stats).toMatchObject({ promptTokens: 16, generationTokens: 10, sinceProgressMs: 0, prefixCacheHitTokens: 7 });
  expect(stats.numSteps).toBe(10);
  // a prompt of 8, then the one token of it that the cache does not give, and after each four tokens one by one
  const { bounds, counts, sum } = stats.stepTokens;
  expect(Object.fromEntries(bounds.map((bound, i) => [bound, counts[i]]))).toMatchObject({ 1: 9, 8: 1, 16: 0 });
  expect(sum).toBe(17);
  expect(stats.lastStepHostMs).toBeGreaterThan(0);
});

test('random arrivals, aborts and preemptions give every survivor its own tokens, with and without a window', async () => {
  const request = fc.record({
    prompt: fc.array(fc.nat(2), { minLength: 1, maxLength: 30 }),
    maxTokens: fc.integer({ min: 1, max: 12 }),
    n: fc.integer({ min: 1, max: 3 }),
    leave: fc.boolean(),
    delay: fc.nat(4),
  });
  for (const window of [0, 6]) {
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 14 }), async (requests) => {
        await using engine = await nullEngine({ numBlocks: 13, maxModelLen: 44, maxNumSeqs: 5, maxNumBatchedTokens: 11, window });
        await Promise.all(
          requests.map(async ({ prompt, maxTokens, n, leave, delay }) => {
            for (let i = 0; i < delay; i++) await new Promise((resolve) => setImmediate(resolve));
            const stream = engine.generate({ promptTokenIds: prompt }, { maxTokens, n, seed: 0 });
            if (leave) {
              for await (const delta of stream) if (delta.tokenIds.length > 0) break;
              return;
            }
            const { choices } = await stream;
            expect(choices.map((choice) => choice.tokenIds)).toEqual(choices.map((_, c) => expected(prompt, maxTokens, 0, c)));
          }),
        );
        expectNothingHeld(engine);
      }),
      { numRuns: 40 },
    );
  }
});
