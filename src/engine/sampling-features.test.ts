/** What a request may ask of sampling, through the engine: state that survives preemption, functions of the caller, the best of several. */
import { describe, expect, test } from 'vitest';
import { decoderPlan } from '../../test/fixtures/decoder.ts';
import { type EngineFixture, engineOver } from '../../test/fixtures/engine.ts';
import { randomSource } from '../../test/fixtures/weights.ts';
import { ReferenceBackend } from '../backends/reference/reference-backend.ts';
import type { SamplingParams } from '../sampling/params.ts';
import type { GenerateOptions } from './engine.ts';
import type { LoadedEngine } from './loaded-engine.ts';

const plan = decoderPlan({ vocabSize: 97 });
const source = randomSource(plan);
const load = (options: EngineFixture = {}): Promise<LoadedEngine> => engineOver(new ReferenceBackend(), plan, source, options);
const prompt = { promptTokenIds: [5, 6, 7, 8, 9] };

async function generate(params: SamplingParams, options: GenerateOptions = {}) {
  await using engine = await load();
  const result = await engine.generate(prompt, { maxTokens: 12, seed: 4, ...params }, options);
  expect(engine.stats()).toMatchObject({ numRunning: 0, kvBlocksReferenced: 0 });
  return result;
}

const idsOf = async (params: SamplingParams, options?: GenerateOptions) => (await generate(params, options)).choices[0].tokenIds;

const shaped: SamplingParams[] = [
  { mirostatMode: 2, mirostatTau: 3, mirostatEta: 0.5, n: 2 },
  { dryMultiplier: 2, dryAllowedLength: 1, dryBase: 2 },
  { typicalP: 0.6, xtcProbability: 0.5, xtcThreshold: 0.02 },
  { topNSigma: 1, dynatempRange: 0.5 },
  { badWords: ['ab', 'c'], allowedTokenIds: Array.from({ length: 60 }, (_, i) => i + 30) },
  {},
];

test('shaped requests give the same beside each other, under preemption, and with two steps in flight, as alone', { timeout: 60_000 }, async () => {
  const alone = [];
  for (const params of shaped) alone.push((await generate({ ...params, maxTokens: 30 })).choices);
  for (const options of [{ numBlocks: 24, maxModelLen: 40 }, { maxInFlight: 2 }, { maxNumBatchedTokens: 8 }]) {
    await using engine = await load(options);
    const together = await Promise.all(shaped.map((params) => engine.generate(prompt, { seed: 4, ...params, maxTokens: 30 })));
    expect(together.map(({ choices }) => choices)).toEqual(alone);
    if (options.numBlocks !== undefined) expect(engine.stats().numPreemptions).toBeGreaterThan(0);
  }
});

test('only allowed tokens come, and bad words never', async () => {
  const ids = await idsOf({ allowedTokenIds: [3, 40, 41], maxTokens: 40 });
  expect(new Set(ids)).toEqual(new Set([3, 40, 41]));
  const pair = await idsOf({ allowedTokenIds: [97 - 1, 65, 66], badWords: ['AB'], maxTokens: 40 });
  expect(pair.includes(65) && pair.includes(66)).toBe(true);
  expect(pair.some((id, i) => id === 65 && pair[i + 1] === 66)).toBe(false);
  expect(await idsOf({ allowedTokenIds: [65], badWords: ['B'], maxTokens: 3 })).toEqual([65, 65, 65]);
  await expect(generate({ allowedTokenIds: [65], badWords: ['A'] })).rejects.toMatchObject({ code: 'SAMPLING_PARAM_INVALID' });
});

test('DRY ends a loop that greedy decoding runs into', async () => {
  const bias = { 65: 50, 66: 50 };
  expect(new Set(await idsOf({ temperature: 0, logitBias: bias, maxTokens: 40 })).size).toBeLessThanOrEqual(2);
  const strong = { dryMultiplier: 100, dryBase: 4, dryAllowedLength: 1 };
  expect(new Set(await idsOf({ temperature: 0, logitBias: bias, ...strong, maxTokens: 40 })).size).toBeGreaterThan(2);
});

test('log probabilities asked for by id are reported at each place', async () => {
  const { choices } = await generate({ logprobTokenIds: [1, 90], topLogprobs: 20, maxTokens: 4 });
  for (const { wanted, top } of choices[0].logprobs ?? []) {
    expect(wanted?.map(({ tokenId }) => tokenId)).toEqual([1, 90]);
    for (const { tokenId, logprob } of wanted ?? []) {
      const same = top.find((other) => other.tokenId === tokenId);
      if (same !== undefined) expect(same.logprob).toBe(logprob);
      expect(logprob).toBeLessThan(0);
    }
  }
});

test('the best of several are those with the highest log probability per token, best first', async () => {
  const all = await generate({ n: 6, logprobs: true });
  const mean = ({ logprobs }: (typeof all.choices)[number]) => (logprobs ?? []).reduce((sum, { logprob }) => sum + logprob, 0) / 12;
  const ranked = [...all.choices].sort((a, b) => mean(b) - mean(a));
  const best = await generate({ n: 2, bestOf: 6 });
  expect(best.choices.map(({ tokenIds, index, logprobs }) => ({ tokenIds, index, logprobs }))).toEqual(
    ranked.slice(0, 2).map(({ tokenIds }, index) => ({ tokenIds, index, logprobs: null })),
  );
  expect(best.usage.completionTokens).toBe(72);
  await using engine = await load();
  const streamed: number[][] = [[], []];
  for await (const { index, tokenIds } of engine.generate(prompt, { n: 2, bestOf: 6, maxTokens: 12, seed: 4 })) streamed[index].push(...tokenIds);
  expect(streamed).toEqual(best.choices.map(({ tokenIds }) => tokenIds));
});

test('a prompt is cut to its last tokens', async () => {
  const cut = await generate({ truncatePromptTokens: 3 });
  expect([...cut.promptTokenIds]).toEqual([7, 8, 9]);
  await using engine = await load({ maxModelLen: 4 });
  const fitted = await engine.generate(prompt, { truncatePromptTokens: -1 });
  expect(fitted.promptTokenIds.length + fitted.choices[0].tokenIds.length).toBe(4);
  await expect(generate({ truncatePromptTokens: 0 })).rejects.toMatchObject({ code: 'SAMPLING_PARAM_INVALID' });
});

describe('functions of the caller', () => {
  test('logits processors see the tokens so far and decide, in their order', async () => {
    const seen: number[][] = [];
    const first = (ids: Int32Array, logits: Float32Array) => {
      seen.push([...ids]);
      logits.fill(-Infinity);
      logits[ids.length] = 1;
    };
    const second = (_: Int32Array, logits: Float32Array) => logits.map((x, id) => (x === 1 && id === 7 ? -Infinity : id === 50 ? 0 : x));
    const { tokenIds } = (await generate({ maxTokens: 4, temperature: 0 }, { logitsProcessors: [first, second] })).choices[0];
    expect(tokenIds).toEqual([5, 6, 50, 8]);
    expect(seen).toEqual([0, 1, 2, 3].map((n) => [...prompt.promptTokenIds, ...tokenIds.slice(0, n)]));
  });

  test('a processor that does nothing changes nothing, with a grammar beside it too', async () => {
    const nothing = { logitsProcessors: [() => undefined] };
    expect(await idsOf({}, nothing)).toEqual(await idsOf({}));
    const regex = { structuredOutput: { regex: '[A-C]{4}' } };
    expect(await idsOf(regex, nothing)).toEqual(await idsOf(regex));
  });

  test('one that throws ends its request alone', async () => {
    await using engine = await load();
    const throwing = (ids: Int32Array): undefined => {
      if (ids.length === 8) throw new Error('no more');
    };
    const bad = [
      engine.generate(prompt, { maxTokens: 9 }, { logitsProcessors: [throwing] }),
      engine.generate(prompt, { maxTokens: 9 }, { logitsProcessors: [() => new Float32Array(3)] }),
      engine.generate(prompt, { maxTokens: 9 }, { logitsProcessors: [async () => undefined] as never }),
      engine.generate(prompt, { maxTokens: 9 }, { stopWhen: () => JSON.parse('{') }),
    ];
    const good = engine.generate(prompt, { maxTokens: 12, seed: 4 });
    for (const stream of bad) await expect(stream.then(() => null)).rejects.toMatchObject({ code: 'USER_FUNCTION_FAILED' });
    expect((await good).choices[0].tokenIds).toEqual(await idsOf({}));
    expect(engine.stats()).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
    engine.scheduler.checkInvariants();
  });

  test('stopWhen ends a choice behind the token that it wants', async () => {
    const whole = await generate({ n: 2 });
    const stopWhen = ({ tokenIds, choice }: { tokenIds: readonly number[]; choice: number }) => tokenIds.length === (choice === 0 ? 5 : 99);
    const { choices } = await generate({ n: 2 }, { stopWhen });
    expect(choices.map(({ finishReason }) => finishReason)).toEqual(['stop', 'length']);
    expect(choices.map(({ tokenIds }) => tokenIds)).toEqual([whole.choices[0].tokenIds.slice(0, 5), whole.choices[1].tokenIds]);
  });
});

describe('log probabilities of the prompt', () => {
  const promptTokenIds = Array.from({ length: 75 }, (_, i) => (i * i * 7 + 3) % 97);

  test('are those that each place gives alone, whatever chunks, company, cached prefixes and preemption make of it', {
    timeout: 60_000,
  }, async () => {
    await using alone = await load();
    const expected = [null];
    for (let length = 1; length < promptTokenIds.length; length += 1) {
      const tokenId = promptTokenIds[length];
      const params = { maxTokens: 1, temperature: 0, topLogprobs: 3, logprobTokenIds: [tokenId] };
      let rank = 0;
      const logitsProcessors = [
        (_: Int32Array, logits: Float32Array) => {
          rank =
            1 + Array.from(logits.keys()).filter((id) => logits[id] > logits[tokenId] || (logits[id] === logits[tokenId] && id < tokenId)).length;
        },
      ];
      const { choices } = await alone.generate({ promptTokenIds: promptTokenIds.slice(0, length) }, params, { logitsProcessors });
      const { top, wanted } = choices[0].logprobs?.[0] ?? { top: [] };
      expected.push({ ...wanted?.[0], top, rank } as never);
    }
    const params = { maxTokens: 40, seed: 4, promptLogprobs: 3 };
    for (const options of [
      { maxNumBatchedTokens: 64 },
      { maxNumBatchedTokens: 7 },
      { maxInFlight: 2, maxNumSeqs: 2 },
      { numBlocks: 40, maxModelLen: 116 },
    ]) {
      await using engine = await load(options);
      const first = await engine.generate({ promptTokenIds }, { maxTokens: 40, seed: 4 });
      const others = [{ maxTokens: 40 }, { maxTokens: 40, structuredOutput: { regex: '[A-C]{30}' } }, { mirostatMode: 2, maxTokens: 40 }, params];
      const [one, two, , , , again] = await Promise.all(
        [params, { ...params, n: 2 }, ...others].map((given) => engine.generate({ promptTokenIds }, given)),
      );
      for (const result of [one, two, again]) {
        expect(result.promptLogprobs).toEqual(expected);
        expect(result.choices[0].tokenIds).toEqual(first.choices[0].tokenIds);
      }
      expect(one.usage.cachedTokens).toBe(0);
      if (options.numBlocks !== undefined) expect(engine.stats().numPreemptions).toBeGreaterThan(0);
      engine.scheduler.checkInvariants();
      expect(engine.stats()).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
    }
  });

  test('list the whole vocabulary, or more than samplers list, where the engine allows it, and the same numbers', async () => {
    await using some = await load();
    const few = (await some.generate({ promptTokenIds }, { promptLogprobs: 20, maxTokens: 1 })).promptLogprobs ?? [];
    for (const promptLogprobs of [-1, 21]) {
      await expect(some.generate({ promptTokenIds }, { promptLogprobs, maxTokens: 1 })).rejects.toMatchObject({
        code: 'SAMPLING_PARAM_INVALID',
        param: 'prompt_logprobs',
      });
    }
    await using all = await load({ maxPromptLogprobs: -1 });
    for (const [promptLogprobs, length] of [
      [-1, all.model.vocabSize],
      [50, 50],
    ] as const) {
      const { promptLogprobs: places = [] } = await all.generate({ promptTokenIds }, { promptLogprobs, maxTokens: 1 });
      expect(places.length).toBe(promptTokenIds.length);
      for (const [i, place] of places.entries()) {
        if (place === null) continue;
        expect(place.top.length).toBe(length);
        expect({ ...place, top: place.top.slice(0, 20) }).toEqual(few[i]);
        expect(place.top.findIndex(({ tokenId }) => tokenId === place.tokenId)).toBe((place.rank ?? 0) <= length ? (place.rank ?? 0) - 1 : -1);
        if (promptLogprobs === -1) expect(place.top.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 4);
      }
    }
  });

  test('of one token are nothing, and are not there unless asked for', async () => {
    await using engine = await load();
    expect((await engine.generate({ promptTokenIds: [5] }, { promptLogprobs: 0, maxTokens: 1 })).promptLogprobs).toEqual([null]);
    expect((await engine.generate(prompt, { maxTokens: 1 })).promptLogprobs).toBeUndefined();
  });
});
