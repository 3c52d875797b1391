/** Features that a request may combine, each with what holds of an answer that has it, whatever else the request asks for. */
import assert from 'node:assert/strict';
import type { LoadOptions } from '../../src/engine/config.ts';
import type { Api, OnAdmitted, OnGenerate } from '../api/api.ts';
import { type Outcome, type OutcomeChoice, said } from './outcome.ts';

/** How one request is carried out. */
export interface Run {
  readonly api: Api;
  readonly body: Readonly<Record<string, unknown>>;
  /** Sends it, once. */
  send(): Promise<Outcome>;
}

export interface Feature {
  readonly name: string;
  /** One line for the table. */
  readonly means: string;
  /** Joined with those of the other feature; may go by what the other answered alone. */
  fields?(alone: Outcome, api: Api): Readonly<Record<string, unknown>>;
  /** Options of the engine without which there is no such thing. */
  readonly load?: Omit<LoadOptions, 'model'>;
  /** An engine of its own for each request. */
  readonly isFresh?: boolean;
  /** In place of sending the request once. */
  carryOut?(run: Run): Promise<Outcome>;
  /** On the way to the engine. */
  readonly onGenerate?: OnGenerate;
  /** Once it runs; `alone` as for the check. */
  onAdmitted?(alone: Outcome): OnAdmitted;
  /** Before the request, on a fresh engine. */
  prepare?(api: Api): Promise<void>;
  /** The connection breaks behind the third event, and the stream is taken up again. */
  readonly breaks?: true;
  /** What is so of the answer; `alone` is what the request without this feature was answered. */
  check(outcome: Outcome, alone: Outcome, run: Run): void;
  /** Whether it answers something else than the request would be answered without it. */
  readonly changes?: true;
}

/** Of an engine whose blocks run out. */
const BLOCK = 16;
const BLOCKS = 24;
const OTHERS = 12;
/** Each has the block that it writes to itself. */
const BEAMS = 3;
/** Of the requests whose features are combined. */
export const MAX_TOKENS = 60;

/** The answer says just what it says without the feature. */
function same(outcome: Outcome, alone: Outcome): void {
  assert.deepEqual(outcome.choices.map(said), alone.choices.map(said));
}

const each = (outcome: Outcome, check: (choice: OutcomeChoice) => void) => {
  assert.ok(outcome.choices.length > 0);
  for (const choice of outcome.choices) check(choice);
};
/** A stop string or the limit ended it: what would have come is anybody's guess. */
const isCut = ({ finishReason, stopReason }: OutcomeChoice) => finishReason === 'length' || typeof stopReason === 'string';

const schema = {
  type: 'object',
  properties: {
    city: { type: 'string', minLength: 6, maxLength: 12, pattern: '^[A-Za-z ]*$' },
    degrees: { type: 'integer', minimum: 0, maximum: 9 },
    sky: { enum: ['sunny', 'rainy'] },
  },
  required: ['city', 'degrees', 'sky'],
  additionalProperties: false,
};
const tools = [
  {
    type: 'function',
    function: { name: 'get_weather', parameters: { type: 'object', properties: { city: { type: 'string', maxLength: 12 } }, required: ['city'] } },
  },
];

function isWeather(text: string): void {
  const value = JSON.parse(text) as Record<string, unknown>;
  assert.deepEqual(Object.keys(value), ['city', 'degrees', 'sky']);
  assert.ok(typeof value.city === 'string' && value.city.length >= 6 && Number.isInteger(value.degrees));
  assert.ok(value.sky === 'sunny' || value.sky === 'rainy');
}

function isCall({ calls }: OutcomeChoice, fulfilsSchema = true): void {
  assert.equal(calls.length, 1);
  assert.equal(calls[0]?.name, 'get_weather');
  const { city } = JSON.parse(calls[0]?.arguments ?? '') as { city?: unknown };
  if (fulfilsSchema) assert.equal(typeof city, 'string');
}

/** The prompt is longer than what is kept of it, and nobody else's is read. */
function isLossy(outcome: Outcome): void {
  assert.ok(outcome.promptTokens > 16 && outcome.completionTokens > 0);
  assert.equal(outcome.cachedTokens, 0);
}

/** What the choices say, as tokens. */
const rawText = (choice: OutcomeChoice, api: Api) => api.engine.tokenizer.decode(choice.tokenIds, { skipSpecialTokens: true });

export const features: readonly Feature[] = [
  {
    name: 'structured output',
    means: '`response_format` with a JSON Schema',
    changes: true,
    fields: () => ({ response_format: { type: 'json_schema', json_schema: { name: 'weather', schema, strict: true } } }),
    check: (outcome) => each(outcome, (choice) => isCut(choice) || (choice.calls.length > 0 ? isCall(choice) : isWeather(choice.content))),
  },
  {
    name: 'tools',
    means: '`tools`, which the model may call',
    changes: true,
    fields: () => ({ tools }),
    // what the model calls by itself nothing holds to the schema: one that has lost keys of its prompt may miss an argument
    check: (outcome, _alone, { body }) =>
      each(outcome, (choice) => isCut(choice) || choice.content.startsWith('{') || isCall(choice, body.kv_cache === undefined)),
  },
  {
    name: 'forced call',
    means: '`tool_choice` `required`',
    changes: true,
    fields: () => ({ tools, tool_choice: 'required' }),
    check: (outcome) => each(outcome, (choice) => isCut(choice) || isCall(choice)),
  },
  {
    name: 'reasoning',
    means: '`enable_thinking`: the thought apart from the answer',
    changes: true,
    fields: () => ({ chat_template_kwargs: { enable_thinking: true } }),
    check: (outcome) =>
      each(outcome, (choice) => {
        assert.doesNotMatch(choice.content, /<\/?think>/);
        if (!isCut(choice)) assert.ok(choice.reasoning.length > 0, 'a thought');
      }),
  },
  {
    name: 'stop strings',
    means: '`stop`',
    changes: true,
    // What stands in the middle of the answer without it; a token of more than one character, so that no piece of a tag is hit.
    fields: (alone, api) => ({ stop: stopFor(alone, api) }),
    check: (outcome, alone, { api, body }) => {
      const stop = body.stop as string;
      const [first] = outcome.choices;
      const [before] = alone.choices;
      assert.ok(first && before);
      assert.deepEqual([first.finishReason, first.stopReason], ['stop', stop]);
      const whole = rawText(before, api);
      assert.ok(rawText(first, api).startsWith(whole.slice(0, whole.indexOf(stop))));
      for (const text of [first.content, first.reasoning, ...first.calls.map((call) => call.arguments)]) assert.ok(!text.includes(stop));
      assert.ok(first.tokenIds.length < before.tokenIds.length);
    },
  },
  {
    name: 'token limits',
    means: '`allowed_token_ids` and `logit_bias`',
    fields: (alone, api) => ({
      allowed_token_ids: [...new Set([...alone.choices.flatMap(({ tokenIds }) => tokenIds), ...api.engine.tokenizer.eosTokenIds])],
      logit_bias: { 0: -100 },
    }),
    check: (outcome, alone, { body }) => {
      const allowed = body.allowed_token_ids as readonly number[];
      each(outcome, ({ tokenIds }) => assert.ok(tokenIds.every((id) => allowed.includes(id))));
      // The best token was allowed all along; where chance decides, others make up for those that were not.
      if (body.temperature === 0) same(outcome, alone);
    },
  },
  {
    name: 'logits processor',
    means: 'a function of the library, called for each place',
    onGenerate: (options) => ({
      ...options,
      logitsProcessors: [
        (_tokenIds, logits) => {
          calls.count++;
          return Float32Array.from(logits);
        },
      ],
    }),
    carryOut: async ({ send }) => {
      calls.count = 0;
      return send();
    },
    check: (outcome, alone) => {
      same(outcome, alone);
      assert.ok(calls.count > 0);
    },
  },
  {
    name: 'seed',
    means: 'sampling that a seed repeats',
    changes: true,
    fields: () => ({ temperature: 1, seed: 11 }),
    carryOut: async ({ send }) => {
      const [first, second] = [await send(), await send()];
      same(second, first);
      return first;
    },
    check: () => {},
  },
  {
    name: 'n',
    means: '`n` 3',
    fields: () => ({ n: 3 }),
    check: (outcome, alone) => {
      assert.equal(outcome.choices.length, 3);
      assert.deepEqual(said(outcome.choices[0]), said(alone.choices[0]));
    },
  },
  {
    name: 'best_of',
    means: '`best_of` 4',
    fields: () => ({ best_of: 4 }),
    check: (outcome, alone) => {
      assert.equal(outcome.choices.length, alone.choices.length);
      assert.ok(outcome.completionTokens > outcome.choices.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0));
    },
  },
  {
    name: 'beam search',
    means: '`use_beam_search`, three beams',
    changes: true,
    fields: () => ({ use_beam_search: true, beam_width: BEAMS }),
    check: (outcome) => {
      const scores = outcome.choices.map(({ beamScore }) => beamScore ?? Number.NaN);
      assert.ok(scores.length > 0 && scores.every((score, i) => Number.isFinite(score) && score <= (scores[i - 1] ?? 0)), `${scores}`);
    },
  },
  {
    name: 'logprobs',
    means: '`logprobs` with two alternatives',
    fields: () => ({ logprobs: true, top_logprobs: 2 }),
    check: (outcome, alone) => {
      same(outcome, alone);
      each(outcome, ({ logprobs, tokenIds }) => {
        assert.equal(logprobs?.length, tokenIds.length);
        assert.ok(logprobs.every((value) => value <= 0));
      });
    },
  },
  {
    name: 'prompt logprobs',
    means: '`prompt_logprobs`',
    fields: () => ({ prompt_logprobs: 1 }),
    check: (outcome, alone) => {
      same(outcome, alone);
      assert.equal(outcome.promptLogprobs?.length, outcome.promptTokens);
    },
  },
  {
    name: 'stream',
    means: '`stream` with usage',
    fields: () => ({ stream: true, stream_options: { include_usage: true } }),
    check: (outcome, alone) => {
      same(outcome, alone);
      assert.equal(outcome.completionTokens, alone.completionTokens);
    },
  },
  {
    name: 'broken stream',
    means: 'taken up again behind its third event',
    breaks: true,
    fields: () => ({ stream: true, stream_options: { include_usage: true } }),
    check: same,
  },
  {
    name: 'prefix hit',
    means: 'the prompt is in the cache',
    carryOut: async ({ send }) => {
      await send();
      return send();
    },
    check: (outcome, alone, { body }) => {
      same(outcome, alone);
      // Log probabilities of a prompt are computed, not remembered, and what does not keep all of its keys shares nothing.
      if (body.prompt_logprobs === undefined && body.kv_cache === undefined) assert.ok(outcome.cachedTokens > 0, 'tokens from the cache');
    },
  },
  {
    name: 'preemption',
    means: 'others of a higher priority grow into its blocks; it is computed again',
    load: {
      blockSize: BLOCK,
      kvCacheMemoryBytes: BLOCKS * 24 * 1024,
      maxModelLen: 384,
      maxNumSeqs: 16,
      maxNumBatchedTokens: 512,
      schedulingPolicy: 'priority',
    },
    isFresh: true,
    // Outputs of either kind were short until now, so that the scheduler believes that both requests will fit.
    prepare: async (api) => {
      for (const maxTokens of [MAX_TOKENS, OTHERS]) await api.engine.generate({ promptTokenIds: [300] }, { maxTokens }, { stopWhen: () => true });
    },
    carryOut: async ({ send, api }) => {
      const outcome = await send();
      while (api.engine.stats().numRunning > 0) await new Promise((resolve) => setTimeout(resolve, 2));
      return outcome;
    },
    onAdmitted: (alone) => (engine) => {
      // What the others hold; all of them want another block at their fourth token, and there are two.
      const beams = alone.choices[0]?.beamScore === null ? 1 : BEAMS;
      const held = BLOCKS - Math.ceil((alone.promptTokens + 3) / BLOCK) - (beams - 1) - 2;
      for (const index of [0, 1, 2]) {
        const length = (Math.floor(held / 3) + (index < held % 3 ? 1 : 0)) * BLOCK - 4;
        const promptTokenIds = Array.from({ length }, (_, at) => 300 + 500 * index + at);
        const params = { maxTokens: OTHERS, ignoreEos: true, temperature: 0 };
        engine.generate({ promptTokenIds }, params, { priority: -1 }).admitted.catch(() => undefined);
      }
    },
    check: (outcome, alone, { api }) => {
      same(outcome, alone);
      assert.ok(api.engine.stats().numPreemptions > 0, 'a preemption');
    },
  },
  {
    name: 'window',
    means: '`kv_cache` with `window`: sinks and the last tokens only',
    changes: true,
    fields: () => ({ kv_cache: { sinks: 4, window: 16 } }),
    check: isLossy,
  },
  {
    name: 'compressed prompt',
    means: '`kv_cache` with `compress_prompt`',
    changes: true,
    fields: () => ({ kv_cache: { compress_prompt: 16, observation_window: 4 } }),
    check: isLossy,
  },
  {
    name: 'jump-forward',
    means: 'tokens that a grammar forces take no step',
    load: { jumpForward: true },
    check: same,
  },
  {
    name: 'two steps in flight',
    means: '`--max-in-flight 2`',
    load: { maxInFlight: 2 },
    check: same,
  },
];

const calls = { count: 0 };

function stopFor(alone: Outcome, api: Api): string {
  const [choice] = alone.choices;
  assert.ok(choice);
  const { tokenizer } = api.engine;
  const words = choice.tokenIds.map((id) => (tokenizer.specialTokenIds.has(id) ? '' : tokenizer.decode([id]).trim()));
  const from = Math.floor(words.length / 2);
  const stop = [...words.slice(from), ...words.slice(0, from).reverse()].find((word) => /^[A-Za-z]{2,}$/.test(word));
  assert.ok(stop, `a word in ${JSON.stringify(words)}`);
  return stop;
}
