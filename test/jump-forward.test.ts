/** Jump-forward on a real model, on every backend: the same output, in fewer steps, streamed or whole, alone and in company. */
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../src/engine/load.ts';
import type { LoadedEngine } from '../src/engine/loaded-engine.ts';
import type { SamplingParams } from '../src/sampling/params.ts';

const model = path.join(import.meta.dirname, '..', 'pocket', 'model');
const schema = {
  type: 'object',
  properties: {
    favourite_animal: { enum: ['cat', 'dog', 'bird'] },
    number_of_legs: { type: 'integer', minimum: 0, maximum: 8 },
    lives_in_water: { type: 'boolean' },
    name: { type: 'string', maxLength: 12 },
  },
  required: ['favourite_animal', 'number_of_legs', 'lives_in_water', 'name'],
  additionalProperties: false,
};
const structuredOutput = { json: schema, disableAnyWhitespace: true };
const asked: readonly SamplingParams[] = [
  { structuredOutput },
  { structuredOutput, temperature: 0 },
  { structuredOutput, n: 3, stop: ['legs"'], includeStopStringInOutput: true },
  { structuredOutput, logprobs: true, topLogprobs: 3 },
  { structuredOutput, repetitionPenalty: 1.3, maxTokens: 30 },
  {},
];

async function outputs(engine: LoadedEngine): Promise<unknown[]> {
  const streams = asked.map((params, i) => engine.generate({ prompt: 'Tell me of an animal.' }, { maxTokens: 80, seed: i, ...params }));
  return Promise.all(streams.map(async (stream) => ({ choices: (await stream).choices, usage: { ...stream.usage, cachedTokens: 0 } })));
}

describe.each(['reference', 'auto'] as const)('jump-forward on the backend %s', (backend) => {
  let off: LoadedEngine;
  let on: LoadedEngine;
  beforeAll(async () => {
    const options = { model, backend, dtype: 'float32', kvCacheDtype: 'float32', maxModelLen: 256 } as const;
    off = await loadEngine({ ...options, jumpForward: false });
    on = await loadEngine(options);
  });
  afterAll(() => Promise.all([off?.close(), on?.close()]));

  test('gives every bit that there is without it, in fewer steps', async () => {
    expect(await outputs(on)).toEqual(await outputs(off));
    expect(on.stats().jumpForwardTokens).toBeGreaterThan(30);
    expect(off.stats().jumpForwardTokens).toBe(0);
    const steps = [off, on].map((engine) => engine.stats().numSteps);
    const one = { maxTokens: 80, seed: 9, structuredOutput };
    await Promise.all([off, on].map((engine) => engine.generate({ prompt: 'Tell me.' }, one)));
    expect(on.stats().numSteps - steps[1]).toBeLessThan(0.7 * (off.stats().numSteps - steps[0]));
  });

  test('streams the same text', async () => {
    const params = { maxTokens: 80, seed: 4, structuredOutput };
    const texts = [off, on].map(async (engine) => {
      let text = '';
      for await (const delta of engine.generate({ prompt: 'Tell me.' }, params)) text += delta.text;
      return text;
    });
    const [without, having] = await Promise.all(texts);
    expect(having).toBe(without);
    expect(JSON.parse(having)).toHaveProperty('lives_in_water');
  });
});
