/** What jump-forward leaves out of the steps changes nothing of what a client sees. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decoderPlan } from '../../test/fixtures/decoder.ts';
import { type EngineFixture, engineOver } from '../../test/fixtures/engine.ts';
import { loadTokenizer } from '../../test/fixtures/tokenizers.ts';
import { NullBackend } from '../backends/null/null-backend.ts';
import type { SamplingParams } from '../sampling/params.ts';
import type { LoadedEngine } from './loaded-engine.ts';

const tokenizer = await loadTokenizer('byte-level');

function load(options: EngineFixture): Promise<LoadedEngine> {
  const plan = decoderPlan({ vocabSize: tokenizer.vocabSize });
  return engineOver(new NullBackend(), plan, null, { tokenizer, eosTokenIds: tokenizer.eosTokenIds, ...options });
}

async function generateAll(asked: readonly SamplingParams[], options: EngineFixture) {
  const engine = await load(options);
  const results = await Promise.all(asked.map((params, i) => engine.generate({ promptTokenIds: [i, 9, 8] }, params)));
  engine.scheduler.checkInvariants();
  const stats = engine.stats();
  expect(stats).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
  await engine.close();
  return { choices: results.map(({ choices, usage }) => ({ choices, usage: { ...usage, cachedTokens: 0 } })), stats };
}

const name = fc.constantFrom('id', 'name', 'the story of the little bird', 'Überschrift', 'a"b\\c', 'user_name', '');
const leaf = fc.oneof(
  fc.constantFrom<object>({ type: 'boolean' }, { type: 'null' }, { type: 'integer', minimum: 0, maximum: 30 }, { type: 'string', maxLength: 6 }),
  fc.array(name, { minLength: 1, maxLength: 3 }).map((values) => ({ enum: values })),
  fc.constantFrom<object>(
    { const: 'once upon a time there was a little girl' },
    { const: '字'.repeat(3) },
    { type: 'string', pattern: '^ab[0-9]{2}' },
  ),
);
const schemas = fc.letrec<{ schema: object }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3 },
    leaf,
    fc
      .dictionary(name, tie('schema'), { minKeys: 1, maxKeys: 4 })
      .map((properties) => ({ type: 'object', properties, required: Object.keys(properties), additionalProperties: false })),
    fc.record({ type: fc.constant('array'), items: tie('schema'), minItems: fc.nat(2), maxItems: fc.constant(3) }),
  ),
})).schema;

const asked = fc.record({
  schema: schemas,
  compact: fc.boolean(),
  params: fc.record({
    maxTokens: fc.constantFrom(5, 40, 90),
    seed: fc.nat(5),
    n: fc.constantFrom(1, 1, 1, 3),
    stop: fc.constantFrom([], [], ['little'], ['e"']),
    presencePenalty: fc.constantFrom(0, 0, 1),
    logprobs: fc.constantFrom(false, false, true),
  }),
});

describe('jump-forward', () => {
  test('random schemas give the same tokens, texts, log probabilities, usage and reasons with and without', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(asked, { minLength: 1, maxLength: 6 }),
        fc.constantFrom(36, 400),
        fc.constantFrom(1, 2),
        fc.constantFrom(7, 64),
        async (drawn, numBlocks, maxInFlight, maxNumBatchedTokens) => {
          const all = drawn.map(({ schema, compact, params }) => ({ ...params, structuredOutput: { json: schema, disableAnyWhitespace: compact } }));
          const options = { numBlocks, maxModelLen: 100, maxNumSeqs: 6, maxInFlight, maxNumBatchedTokens };
          const off = await generateAll(all, { ...options, jumpForward: false });
          const on = await generateAll(all, { ...options, jumpForward: true });
          expect(on.choices).toEqual(off.choices);
          expect(off.stats.jumpForwardTokens).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('a text that is forced whole takes two steps, and its deltas arrive in order', async () => {
    const text = 'once upon a time there was a little girl';
    const structuredOutput = { choice: [text] };
    for (const jumpForward of [true, false]) {
      await using engine = await load({ jumpForward });
      let streamed = '';
      let numTokens = 0;
      for await (const delta of engine.generate({ promptTokenIds: [1] }, { maxTokens: 60, structuredOutput })) {
        streamed += delta.text;
        numTokens += delta.tokenIds.length;
      }
      expect(streamed).toBe(text);
      expect(engine.stats()).toMatchObject({ numSteps: jumpForward ? 1 : numTokens, jumpForwardTokens: jumpForward ? numTokens - 1 : 0 });
    }
  });

  test('forced text is the tokens that the tokenizer makes of it, and its last one stays free where a longer one could follow', async () => {
    await using engine = await load({});
    const whole = 'once upon a time there was a little girl';
    const { choices } = await engine.generate({ promptTokenIds: [1] }, { structuredOutput: { choice: [whole] }, maxTokens: 60 });
    expect(choices[0].tokenIds).toEqual([...tokenizer.encode(whole, { addSpecialTokens: false, parseSpecial: false })]);
  });

  test('a stop string inside forced text ends it there', async () => {
    await using engine = await load({});
    const { choices } = await engine.generate(
      { promptTokenIds: [1] },
      { structuredOutput: { choice: ['once upon a time'] }, stop: ['upon'], maxTokens: 60 },
    );
    expect(choices[0]).toMatchObject({ text: 'once ', finishReason: 'stop', stopReason: 'upon' });
    engine.scheduler.checkInvariants();
  });
});
