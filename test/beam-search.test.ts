/**
 * Beam search through the engine: equal to Hugging Face transformers (test/golden/beams.json, from make_beam_goldens.py), on every backend, alone and beside
 * others, in steps of any size, with and without the prefix cache, and after preemption; blocks are shared, and none is held afterwards.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../src/backends/backend.ts';
import { NullBackend } from '../src/backends/null/null-backend.ts';
import type { LoadedEngine } from '../src/engine/loaded-engine.ts';
import type { GenerationResult } from '../src/engine/request-stream.ts';
import type { SamplingParams } from '../src/sampling/params.ts';
import { createDummySource } from '../src/weights/dummy-source.ts';
import { BUILD_TIMEOUT_MS, testedBackends } from './backends.ts';
import { loadModel } from './drive-backend.ts';
import { decoderPlan } from './fixtures/decoder.ts';
import { type EngineFixture, engineOver } from './fixtures/engine.ts';

interface BeamCase {
  readonly prompt: number[];
  readonly beams: number;
  readonly returned: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: boolean | 'never';
  readonly maxTokens: number;
  readonly minTokens: number;
  readonly ends: number[];
  readonly expected: { readonly ids: number[]; readonly score: number }[];
}

const here = import.meta.dirname;
const shared = process.env.MILLRACE_SHARED ?? path.join(here, '../../shared');
const goldens = JSON.parse(readFileSync(path.join(here, 'golden/beams.json'), 'utf8')) as { models: Record<string, BeamCase[]> };
const folders: Readonly<Record<string, string>> = {
  'llama-llama3': path.join(here, 'golden/llama-llama3'),
  'qwen2-window': path.join(here, 'golden/qwen2-window'),
  pocket: path.join(here, '../pocket/model'),
  stories260K: path.join(shared, 'models/stories260K'),
};

const searchOf = (given: BeamCase): SamplingParams => ({
  useBeamSearch: true,
  beamWidth: given.beams,
  n: given.returned,
  lengthPenalty: given.lengthPenalty,
  earlyStopping: given.earlyStopping,
  maxTokens: given.maxTokens,
  minTokens: given.minTokens,
  stopTokenIds: given.ends,
  ignoreEos: true,
});

const idsOf = ({ choices }: GenerationResult) => choices.map(({ tokenIds }) => [...tokenIds]);

describe.each(testedBackends)('on the $label backend', ({ create }) => {
  let backend: Backend | null = null;
  beforeAll(async () => {
    backend = await create();
  }, BUILD_TIMEOUT_MS);
  afterAll(() => backend?.close());

  test.for(Object.keys(goldens.models))('%s gives the hypotheses and scores of transformers', async (name, context) => {
    if (!existsSync(folders[name])) return context.skip(`../shared/models/${name} is absent`);
    const ready = backend ?? context.skip('this backend cannot run here');
    // the reference takes its time: a part of the cases says enough of it
    const cases = goldens.models[name].filter((_, i) => ready.info.name !== 'reference' || i % 4 === 0);
    const { source, plan } = loadModel(folders[name]);
    const engine = await engineOver({ ...withoutClose(ready) }, plan(undefined, 256), source, {
      blockSize: 16,
      numBlocks: 64,
      maxModelLen: 256,
      maxNumSeqs: 16,
    });
    for (const given of cases) {
      const result = await engine.generate({ promptTokenIds: given.prompt }, searchOf(given));
      expect(idsOf(result), JSON.stringify({ ...given, expected: 0 })).toEqual(given.expected.map(({ ids }) => ids));
      for (const [i, { beam, finishReason, tokenIds }] of result.choices.entries()) {
        const { score } = given.expected[i];
        expect(Math.abs((beam?.score ?? NaN) - score)).toBeLessThan(2e-5 * (1 + Math.abs(score)));
        const sum = score * tokenIds.length ** given.lengthPenalty;
        expect(Math.abs((beam?.cumulativeLogprob ?? NaN) - sum)).toBeLessThan(2e-5 * (1 + Math.abs(sum)));
        expect(finishReason).toBe(given.ends.includes(tokenIds[tokenIds.length - 1]) ? 'stop' : 'length');
      }
      engine.scheduler.checkInvariants();
      expect(engine.scheduler.kv.numReferenced).toBe(0);
    }
    await engine.close();
    source.close();
  });

  test('a search has the same scores to the bit beside others, in small steps, without the prefix cache and after preemption', async (context) => {
    const ready = withoutClose(backend ?? context.skip('this backend cannot run here'));
    const params = { ...search, maxTokens: 12 };
    const small = decoderPlan({ vocabSize: 97, window: 20 });
    const open = (options: EngineFixture) =>
      engineOver(ready, small, createDummySource(small), { blockSize: 4, maxNumSeqs: 8, maxModelLen: 96, ...options });
    const alone = await searchIn(await open({ numBlocks: 200 }), undefined, params);
    let preemptions = 0;
    for (const options of [
      { numBlocks: 200, maxNumBatchedTokens: 5 },
      { numBlocks: 57 },
      { numBlocks: 57, enablePrefixCaching: false, maxInFlight: 2 },
    ]) {
      const { choices, numPreemptions } = await searchIn(await open(options), crowdOf(5, 40), params);
      expect(choices, JSON.stringify(options)).toEqual(alone.choices);
      preemptions += numPreemptions;
    }
    expect(preemptions).toBeGreaterThan(0);
  });
});

const plan = decoderPlan({ vocabSize: 97 });
const nullEngine = (options: EngineFixture = {}): Promise<LoadedEngine> =>
  engineOver(new NullBackend(), plan, null, { blockSize: 4, maxNumSeqs: 16, ...options });
const prompt = Array.from({ length: 41 }, (_, i) => (i * i * 7 + i * 31 + 5) % 97);
const search: SamplingParams = { useBeamSearch: true, beamWidth: 4, n: 4, maxTokens: 24, earlyStopping: 'never', stopTokenIds: [3, 50, 80] };

/** Runs one search in an engine while `crowd` generates beside it. */
async function searchIn(engine: LoadedEngine, crowd: (engine: LoadedEngine) => PromiseLike<unknown>[] = () => [], params = search) {
  const beside = crowd(engine);
  const result = await engine.generate({ promptTokenIds: prompt }, params);
  await Promise.all(beside);
  engine.scheduler.checkInvariants();
  expect(engine.scheduler.kv.numReferenced).toBe(0);
  expect(engine.numOpenStreams).toBe(0);
  const { numPreemptions } = engine.stats();
  await engine.close();
  return { choices: result.choices, numPreemptions };
}

const crowdOf = (count: number, maxTokens: number) => (engine: LoadedEngine) =>
  Array.from({ length: count }, (_, i) =>
    engine.generate({ promptTokenIds: [...prompt.slice(0, 9 + i), i] }, { maxTokens, seed: i, n: 1 + (i % 2) }),
  );

describe('on a backend without arithmetic, whose answers tell what each row has read', () => {
  test('the hypotheses do not depend on who runs beside, the size of steps, the prefix cache, two steps in flight, or preemption', async () => {
    const alone = await searchIn(await nullEngine({ numBlocks: 200 }));
    expect(new Set(alone.choices.map(({ tokenIds }) => tokenIds.join())).size).toBe(4);
    const scenarios: EngineFixture[] = [
      { numBlocks: 200, maxNumBatchedTokens: 3 },
      { numBlocks: 200, enablePrefixCaching: false },
      { numBlocks: 200, maxInFlight: 2 },
      { numBlocks: 46 },
      { numBlocks: 46, enablePrefixCaching: false },
      // not a block more than it needs when it is alone
      { numBlocks: 38 },
      { numBlocks: 38, enablePrefixCaching: false },
      { numBlocks: 46, maxInFlight: 2, maxNumBatchedTokens: 5 },
    ];
    let preemptions = 0;
    for (const options of scenarios) {
      const { choices, numPreemptions } = await searchIn(await nullEngine({ maxModelLen: 128, ...options }), crowdOf(6, 30));
      expect(choices, JSON.stringify(options)).toEqual(alone.choices);
      preemptions += numPreemptions;
    }
    expect(preemptions).toBeGreaterThan(10);
  });

  test.each([
    ['a beam search', search],
    ['n', { n: 4, maxTokens: 24, temperature: 1, seed: 1 }],
    ['best_of', { bestOf: 4, maxTokens: 24, temperature: 1, seed: 1 }],
  ])('%s shares the blocks of its prompt: four of them hold a quarter of what four requests would', async (_, params) => {
    const long = [...prompt, ...prompt, ...prompt, ...prompt];
    let most = 0;
    const engine = await nullEngine({
      numBlocks: 400,
      maxNumBatchedTokens: 256,
      maxModelLen: 256,
      enablePrefixCaching: false,
      captureLogits: () => {
        most = Math.max(most, engine.scheduler.kv.numReferenced);
        engine.scheduler.checkInvariants();
      },
    });
    await engine.generate({ promptTokenIds: long }, { ...params, ignoreEos: true });
    // whole blocks of the prompt once, and for each its own: the output, the cut block of the prompt, one to copy from
    const own = Math.ceil(24 / 4) + 2;
    expect(most).toBeLessThanOrEqual(Math.floor(long.length / 4) + 4 * own);
    expect(most).toBeGreaterThan(Math.floor(long.length / 4) + 4);
    expect(engine.scheduler.kv.numReferenced).toBe(0);
    await engine.close();
  });

  test('a search that is aborted, or whose step fails, frees all blocks of all beams within a step', async () => {
    for (let stop = 1; stop < 12; stop++) {
      let steps = 0;
      const abort = new AbortController();
      const engine = await nullEngine({
        numBlocks: 100,
        captureLogits: () => {
          if (++steps === stop) abort.abort();
        },
      });
      const kept = engine.generate({ promptTokenIds: [1, 2, 3] }, { maxTokens: 20, temperature: 0 });
      await expect(engine.generate({ promptTokenIds: prompt }, search, { signal: abort.signal })).rejects.toMatchObject({ code: 'REQUEST_ABORTED' });
      engine.scheduler.checkInvariants();
      expect(engine.requests().length).toBeLessThanOrEqual(1);
      expect(engine.scheduler.kv.numReferenced).toBeLessThanOrEqual(Math.ceil(24 / 4));
      await kept;
      expect(engine.scheduler.kv.numReferenced).toBe(0);
      await engine.close();
    }
  });

  test('log probabilities of a hypothesis add up to its sum, each the first or an alternative of its place', async () => {
    const engine = await nullEngine({ numBlocks: 100 });
    const { choices, usage } = await engine.generate({ promptTokenIds: prompt }, { ...search, topLogprobs: 6 });
    for (const { tokenIds, logprobs, beam } of choices) {
      expect(logprobs?.map(({ tokenId }) => tokenId)).toEqual(tokenIds);
      const sum = logprobs?.reduce((all, { logprob }) => Math.fround(all + logprob), 0);
      expect(sum).toBe(beam?.cumulativeLogprob);
      for (const { tokenId, logprob, top } of logprobs ?? []) expect(top).toContainEqual({ tokenId, logprob });
    }
    expect(choices.map(({ beam }) => beam?.score)).toEqual(choices.map(({ beam }) => beam?.score ?? 0).sort((a, b) => b - a));
    expect(usage.completionTokens).toBe(choices.reduce((all, { tokenIds }) => all + tokenIds.length, 0));
    await engine.close();
  });

  test('what a search has no room for is refused with the name of the field', async () => {
    const engine = await nullEngine({ maxNumSeqs: 4, numBlocks: 40 });
    const refused: [SamplingParams, string][] = [
      [{ temperature: 0.7 }, 'temperature'],
      [{ repetitionPenalty: 1.1 }, 'repetition_penalty'],
      [{ logitBias: { 3: 1 } }, 'logit_bias'],
      [{ stop: ['x'] }, 'stop'],
      [{ structuredOutput: { regex: 'a+' } }, 'structured_output'],
      [{ promptLogprobs: 1 }, 'prompt_logprobs'],
      [{ thinkingTokenBudget: 5 }, 'thinking_token_budget'],
      [{ beamWidth: 1, n: 2 }, 'beam_width'],
      [{ beamWidth: 5 }, 'beam_width'],
      [{ beamWidth: 3, bestOf: 4 }, 'best_of'],
      [{ beamWidth: 96, stopTokenIds: [1, 2] }, 'beam_width'],
      [{ earlyStopping: 'often' as 'never' }, 'early_stopping'],
      [{ lengthPenalty: NaN }, 'length_penalty'],
    ];
    for (const [params, param] of refused) {
      const wanted = { useBeamSearch: true, maxTokens: 4, ...params };
      await expect(engine.generate({ promptTokenIds: [1, 2] }, wanted), param).rejects.toMatchObject({ code: 'SAMPLING_PARAM_INVALID', param });
    }
    const stopWhen = () => true;
    const prompted = { promptTokenIds: [1, 2] };
    await expect(engine.generate(prompted, { useBeamSearch: true }, { stopWhen })).rejects.toMatchObject({ param: 'stopWhen' });
    // 4 beams of 120 tokens: 30 blocks each
    await expect(engine.generate(prompted, { useBeamSearch: true, beamWidth: 4, maxTokens: 118 })).rejects.toMatchObject({
      code: 'KV_OUT_OF_BLOCKS',
    });
    expect(engine.numOpenStreams).toBe(0);
    await engine.close();
  });

  test('iterated, a search gives each hypothesis in one delta, at the end; of the width, n are given', async () => {
    const engine = await nullEngine({ numBlocks: 100 });
    const deltas = [];
    for await (const delta of engine.generate({ promptTokenIds: prompt }, { ...search, n: 2 })) deltas.push(delta);
    expect(deltas.map(({ index, finishReason }) => [index, finishReason !== null])).toEqual([
      [0, true],
      [1, true],
    ]);
    await engine.close();
  });
});

/** The same backend for several engines: closing one leaves it open. */
function withoutClose(backend: Backend): Backend {
  return {
    info: backend.info,
    compile: (...args) => backend.compile(...args),
    describe: (...args) => backend.describe(...args),
    createCache: (...args) => backend.createCache(...args),
    execute: (...args) => backend.execute(...args),
    readBlocks: (...args) => backend.readBlocks(...args),
    writeBlocks: (...args) => backend.writeBlocks(...args),
    close: async () => {},
  };
}
