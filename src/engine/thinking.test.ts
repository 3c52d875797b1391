/** Reasoning with a bound, and before outputs that are held: every format, whole and as it streams, with and without jump-forward. */
import { describe, expect, test } from 'vitest';
import { decoderPlan } from '../../test/fixtures/decoder.ts';
import { type EngineFixture, engineOver } from '../../test/fixtures/engine.ts';
import { assemble } from '../../test/fixtures/output-events.ts';
import { TaggedTokenizer } from '../../test/fixtures/tagged-tokenizer.ts';
import { NullBackend } from '../backends/null/null-backend.ts';
import { OutputParser, outputFormats } from '../chat/output-parser.ts';
import { beginsInReasoning, reasoningFormatNamed, tagsOf } from '../chat/reasoning.ts';
import { ChatTemplate } from '../chat/template.ts';
import type { SamplingParams } from '../sampling/params.ts';
import type { LoadedEngine } from './loaded-engine.ts';

const schema = {
  type: 'object',
  properties: { mood: { enum: ['good', 'bad'] }, count: { type: 'integer', minimum: 0, maximum: 9 } },
  required: ['mood', 'count'],
  additionalProperties: false,
};

interface Family {
  readonly format: string;
  /** Tags are one token each, or text. */
  readonly isToken: boolean;
  readonly isOpen: boolean;
}

const families: Family[] = [
  ...['think', 'mistral', 'seed'].flatMap((format) =>
    [true, false].flatMap((isToken) => [true, false].map((isOpen): Family => ({ format, isToken, isOpen }))),
  ),
  { format: 'harmony', isToken: true, isOpen: false },
  { format: 'harmony', isToken: true, isOpen: true },
];

async function load({ format, isToken, isOpen }: Family, options: EngineFixture = {}): Promise<LoadedEngine> {
  const reasoning = reasoningFormatNamed(format)!;
  const tokenizer = new TaggedTokenizer(isToken ? tagsOf(reasoning) : []);
  const opening = isOpen ? reasoning.open : '';
  return engineOver(new NullBackend(), decoderPlan({ vocabSize: tokenizer.vocabSize }), null, {
    tokenizer,
    eosTokenIds: tokenizer.eosTokenIds,
    chatTemplate: ChatTemplate.compile(`{% for m in messages %}{{ m.content }}{% endfor %}:${opening}`, {}),
    outputFormats: { toolCalls: null, reasoning: format },
    numBlocks: 256,
    ...options,
  });
}

const input = { messages: [{ role: 'user', content: 'Hi' }] };

/** Reads an output whole, and as its deltas come, which must not matter. */
async function generate(engine: LoadedEngine, params: SamplingParams) {
  const reasoning = reasoningFormatNamed(engine.model.outputFormats!.reasoning)!;
  const formats = outputFormats(engine.tokenizer, reasoning, null);
  const options = { markerTokenIds: new Set(formats.markers.keys()) };
  const result = await engine.generate(input, params, options);
  const tail = engine.tokenizer.decode(result.promptTokenIds, { skipSpecialTokens: false });
  const parser = () => new OutputParser(formats, { beginsInReasoning: beginsInReasoning(reasoning, tail) });
  return Promise.all(
    result.choices.map(async (choice) => {
      const one = parser();
      const whole = assemble([...one.push(choice.text, choice.markers ?? []), ...one.end()]);
      const other = parser();
      const events = [];
      for await (const delta of engine.generate(input, { ...params, n: 1 }, options)) events.push(...other.push(delta.text, delta.markers ?? []));
      if (choice.index === 0) expect(assemble([...events, ...other.end()])).toEqual(whole);
      return { ...choice, ...whole, state: one.reasoningState };
    }),
  );
}

describe.each(families)('reasoning in $format, tags as tokens: $isToken, opened by the prompt: $isOpen', (family) => {
  test('with a budget ends there, and the held answer follows, the same with and without jump-forward and with two steps in flight', async () => {
    await using engine = await load(family);
    await using slow = await load(family, { jumpForward: false });
    await using eager = await load(family, { maxInFlight: 2 });
    for (const thinkingTokenBudget of [0, 1, 2, 7]) {
      const params = { structuredOutput: { json: schema }, thinkingTokenBudget, maxTokens: 200, n: 3, seed: 3 + thinkingTokenBudget };
      const choices = await generate(engine, params);
      for (const { content, reasoning, finishReason } of choices) {
        expect(finishReason).toBe('stop');
        expect(JSON.parse(content)).toEqual({ mood: expect.stringMatching(/^(good|bad)$/), count: expect.any(Number) });
        // a token of these vocabularies is a byte
        expect(Buffer.byteLength(reasoning)).toBeLessThanOrEqual(4 * thinkingTokenBudget);
      }
      expect(await generate(slow, params)).toEqual(choices);
      expect(await generate(eager, params)).toEqual(choices);
    }
    for (const one of [engine, slow, eager]) expect(one.stats()).toMatchObject({ numRunning: 0, kvBlocksReferenced: 0 });
  });

  test('with a budget ends there when nothing else is held', async () => {
    await using engine = await load(family);
    const isChannel = family.format === 'harmony';
    for (const thinkingTokenBudget of [0, 3]) {
      const choices = await generate(engine, { thinkingTokenBudget, maxTokens: 60, n: 4, seed: 5, ignoreEos: true });
      for (const { state, tokenIds } of choices) {
        if (family.isOpen) expect(state).toBe('closed');
        if (thinkingTokenBudget === 0 && family.isToken && !family.isOpen) expect(state).not.toBe('open');
        if (isChannel && thinkingTokenBudget === 0 && !family.isOpen) expect(tokenIds[0]).toBe(engine.tokenizer.tokenId('<|channel|>'));
      }
    }
  });

  test('is held to nothing without a budget, and what comes behind it is', async () => {
    await using engine = await load(family);
    const [choice] = await generate(engine, { structuredOutput: { json: schema }, maxTokens: 400, seed: 11 });
    if (choice!.finishReason === 'stop') expect(JSON.parse(choice!.content)).toMatchObject({ mood: expect.any(String) });
    else expect(choice!.state).not.toBe('none');
  });
});

test('tokens of reasoning are counted, not bytes of it: the budget is what comes between the tags', async () => {
  await using engine = await load({ format: 'think', isToken: true, isOpen: true });
  const { tokenizer } = engine;
  const close = tokenizer.tokenId('</think>')!;
  for (const thinkingTokenBudget of [0, 1, 5, 20]) {
    const { choices } = await engine.generate(input, { thinkingTokenBudget, maxTokens: 40, n: 6, seed: 1, ignoreEos: true });
    for (const { tokenIds } of choices) expect(tokenIds.indexOf(close)).toBeLessThanOrEqual(thinkingTokenBudget);
    expect(choices.some(({ tokenIds }) => tokenIds.indexOf(close) === thinkingTokenBudget)).toBe(true);
  }
});

test('a model that does not reason, or a plain prompt, needs no tag for a budget to hold', async () => {
  await using engine = await load({ format: 'think', isToken: true, isOpen: false });
  const prompt = { promptTokenIds: [1, 2, 3] };
  const free = await engine.generate(prompt, { maxTokens: 20, seed: 2 });
  const bounded = await engine.generate(prompt, { maxTokens: 20, seed: 2, thinkingTokenBudget: 1000 });
  expect(bounded.choices).toEqual(free.choices);
});

test('a budget is refused where the vocabulary lacks the tokens of the format', async () => {
  await using engine = await load({ format: 'harmony', isToken: false, isOpen: false });
  await expect(engine.generate(input, { thinkingTokenBudget: 3 })).rejects.toMatchObject({ code: 'NOT_SUPPORTED', param: 'thinking_token_budget' });
  await expect(engine.generate(input, { thinkingTokenBudget: -1 })).rejects.toMatchObject({ code: 'SAMPLING_PARAM_INVALID' });
});
