import { expect, expectTypeOf, test } from 'vitest';
import { nullEngine } from '../../test/fixtures/engine.ts';
import { type GenerationDelta, type GenerationResult, LLM, type RequestStream } from '../index.ts';

test('one prompt gives a stream, many give all results in their order', async () => {
  await using llm = new LLM(await nullEngine({ seed: 5 }));
  const one = await llm.generate('abc', { maxTokens: 4 });
  const many = await llm.generate(['abc', [1, 2, 3], 'x'], { maxTokens: 4 });
  expect(one.choices[0].tokenIds).toHaveLength(4);
  expect(many.map((result) => result.usage.promptTokens)).toEqual([3, 3, 1]);
  expect((await llm.generate([5, 6], { maxTokens: 1 })).usage.promptTokens).toBe(2);
  expect(await llm.generate([], {})).toEqual([]);
});

test('one bad prompt among many rejects them all and leaves nothing running', async () => {
  const engine = await nullEngine();
  await using llm = new LLM(engine);
  await expect(llm.generate(['abc', '', 'def'], { maxTokens: 100 })).rejects.toMatchObject({ code: 'PROMPT_EMPTY' });
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(engine.stats()).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
});

test('a beam search gives as many continuations as beams, best first, or the best n of them', async () => {
  await using llm = new LLM(await nullEngine());
  const { choices } = await llm.beamSearch('abc', { maxTokens: 5 });
  expect(choices.map(({ tokenIds }) => tokenIds.length)).toEqual([5, 5, 5, 5]);
  const scores = choices.map(({ beam }) => beam?.score ?? NaN);
  expect(scores).toEqual([...scores].sort((a, b) => b - a));
  const best = await llm.beamSearch('abc', { maxTokens: 5, beamWidth: 4, n: 1 });
  expect(best.choices).toEqual([choices[0]]);
});

test('leaving the scope closes the engine', async () => {
  const engine = await nullEngine();
  {
    await using llm = new LLM(engine);
    await llm.generate('abc', { maxTokens: 2 });
  }
  await expect(engine.generate({ prompt: 'abc' })).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
});

test('a configured seed makes the drawn seeds repeat', async () => {
  const seeds: number[][] = [];
  for (let i = 0; i < 2; i++) {
    await using engine = await nullEngine({ seed: 42 });
    const admissions = [engine.generate({ prompt: 'a' }), engine.generate({ prompt: 'b' })].map((stream) => stream.admitted);
    seeds.push((await Promise.all(admissions)).map((admission) => admission.seed));
  }
  expect(seeds[0]).toEqual(seeds[1]);
  expect(seeds[0][0]).not.toBe(seeds[0][1]);
});

test('the types say what can be awaited and what can be iterated', () => {
  expectTypeOf<ReturnType<LLM['chat']>>().toEqualTypeOf<RequestStream>();
  expectTypeOf<Awaited<RequestStream>>().toEqualTypeOf<GenerationResult>();
  expectTypeOf<RequestStream>().toExtend<AsyncIterable<GenerationDelta>>();
  expectTypeOf<LLM>().toExtend<AsyncDisposable>();
  const overloads = (llm: LLM) => [llm.generate('one'), llm.generate([1, 2]), llm.generate(['many', 'of them'])] as const;
  expectTypeOf<ReturnType<typeof overloads>>().toEqualTypeOf<readonly [RequestStream, RequestStream, Promise<GenerationResult[]>]>();
});
