/** What the official `openai` client must find, whatever engine answers. */
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Engine } from '../../src/engine/engine.ts';
import { isQuiet, type Serving, serve, until } from './serving.ts';

export interface SuiteOptions {
  /** A prompt that the model can continue for at least 64 tokens. */
  prompt: string;
  hasChatTemplate: boolean;
}

export function describeOpenAiClient(name: string, open: () => Promise<Engine>, { prompt, hasChatTemplate }: SuiteOptions): void {
  describe(`openai client against ${name}`, () => {
    let serving: Serving;
    let client: OpenAI;
    let model: string;
    beforeAll(async () => {
      serving = await serve(await open());
      client = serving.client;
      model = serving.engine.model.servedNames[0]!;
    });
    afterAll(() => serving?.[Symbol.asyncDispose]());

    const complete = (fields: object = {}) =>
      client.completions.create({
        model,
        prompt,
        max_tokens: 24,
        temperature: 0,
        stream: false,
        ...fields,
      } as OpenAI.CompletionCreateParamsNonStreaming);

    test('a plain completion carries text, usage, finish reason and fingerprint', async () => {
      const response = await complete();
      expect(response.object).toBe('text_completion');
      expect(response.model).toBe(model);
      expect(response.system_fingerprint).toMatch(/^millrace-/);
      expect(response.choices[0]!.text.length).toBeGreaterThan(0);
      expect(response.choices[0]!.finish_reason).toBe('length');
      const { prompt_tokens, completion_tokens, total_tokens } = response.usage!;
      expect(completion_tokens).toBe(24);
      expect(total_tokens).toBe(prompt_tokens + completion_tokens);
    });

    test('the streamed chunks join to the whole text, with usage in a last chunk without choices', async () => {
      const whole = await complete();
      const stream = await client.completions.create({
        model,
        prompt,
        max_tokens: 24,
        temperature: 0,
        stream: true,
        stream_options: { include_usage: true },
      });
      let text = '';
      const finishReasons: unknown[] = [];
      let usage: OpenAI.CompletionUsage | undefined;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.text ?? '';
        if (chunk.choices[0]?.finish_reason) finishReasons.push(chunk.choices[0].finish_reason);
        if (chunk.choices.length === 0) usage = chunk.usage ?? undefined;
      }
      expect(text).toBe(whole.choices[0]!.text);
      expect(finishReasons).toEqual(['length']);
      expect(usage).toMatchObject({ prompt_tokens: whole.usage!.prompt_tokens, completion_tokens: 24 });
    });

    test('timings say what the prompt and the answer took, whole and in the last chunk of a stream', async () => {
      type Timed = { timings: Record<string, number>; usage: OpenAI.CompletionUsage };
      const whole = (await complete()) as unknown as Timed;
      const fields = { model, prompt, max_tokens: 24, temperature: 0, stream: true, stream_options: { include_usage: true } } as const;
      let last: unknown;
      for await (const chunk of await client.completions.create(fields)) last = chunk;
      for (const { timings, usage } of [whole, last as Timed]) {
        const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
        expect(timings).toMatchObject({ cache_n: cached, prompt_n: usage.prompt_tokens - cached, predicted_n: 24 });
        expect(timings.predicted_ms).toBeGreaterThan(0);
        expect(timings.predicted_per_second).toBeCloseTo(24_000 / timings.predicted_ms!, 6);
        expect([timings.prompt_ms! >= 0, timings.queue_ms! >= 0]).toEqual([true, true]);
      }
    });

    test('continuous_usage_stats puts growing usage on every chunk', async () => {
      const stream_options = { include_usage: true, continuous_usage_stats: true };
      const stream = await client.completions.create({ model, prompt, max_tokens: 12, temperature: 0, stream: true, stream_options });
      const counts: number[] = [];
      for await (const chunk of stream) counts.push(chunk.usage!.completion_tokens);
      expect(counts.length).toBeGreaterThan(1);
      expect(counts).toEqual(counts.toSorted((a, b) => a - b));
      expect(counts.at(-1)).toBe(12);
    });

    test('the same seed repeats the text, and a drawn seed is returned so that it can', async () => {
      const sampled = { temperature: 1, max_tokens: 32 };
      const [first, second] = [await complete({ ...sampled, seed: 7 }), await complete({ ...sampled, seed: 7 })];
      expect(second.choices[0]!.text).toBe(first.choices[0]!.text);
      const drawn = (await complete(sampled)).choices[0]! as OpenAI.CompletionChoice & { seed: number };
      expect(Number.isSafeInteger(drawn.seed)).toBe(true);
      const repeated = await complete({ ...sampled, seed: drawn.seed });
      expect(repeated.choices[0]!.text).toBe(drawn.text);
    });

    test('n gives that many choices, each with its own index, also streamed', async () => {
      const fields = { n: 3, temperature: 1, seed: 11, max_tokens: 16, ignore_eos: true };
      const response = await complete(fields);
      expect(response.choices.map(({ index }) => index)).toEqual([0, 1, 2]);
      expect(response.usage!.completion_tokens).toBe(48);
      expect(new Set(response.choices.map(({ text }) => text)).size).toBeGreaterThan(1);
      const texts = ['', '', ''];
      const stream = await client.completions.create({ model, prompt, ...fields, stream: true });
      for await (const chunk of stream) for (const { index, text } of chunk.choices) texts[index] += text;
      expect(texts).toEqual(response.choices.map(({ text }) => text));
    });

    test('a stop string ends the text before it, even when it spans tokens, and is named', async () => {
      const { text } = (await complete({ max_tokens: 48, ignore_eos: true })).choices[0]!;
      const stop = text.slice(7, 12);
      const expected = text.slice(0, text.indexOf(stop));
      const stopped = (await complete({ max_tokens: 48, stop: ['\u0001never', stop] })).choices[0]!;
      expect(stopped).toMatchObject({ text: expected, finish_reason: 'stop', stop_reason: stop });
      const kept = (await complete({ max_tokens: 48, stop, include_stop_str_in_output: true })).choices[0]!;
      expect(kept.text).toBe(expected + stop);
      let streamed = '';
      for await (const chunk of await client.completions.create({ model, prompt, max_tokens: 48, temperature: 0, stop, stream: true })) {
        streamed += chunk.choices[0]!.text;
      }
      expect(streamed).toBe(expected);
    });

    test('logit_bias forces a token, and return_token_ids shows it', async () => {
      const id = serving.engine.tokenizer.encode('z', { addSpecialTokens: false, parseSpecial: false }).at(-1)!;
      const choice = (await complete({ max_tokens: 4, logit_bias: { [id]: 100 }, return_token_ids: true })).choices[0]!;
      expect(choice).toMatchObject({ token_ids: [id, id, id, id] });
      expect((choice as unknown as { prompt_token_ids: number[] }).prompt_token_ids.length).toBeGreaterThan(0);
    });

    test('completion logprobs come in four lists of one length, with offsets that point into the text', async () => {
      const { text, logprobs } = (await complete({ logprobs: 3, max_tokens: 10, ignore_eos: true })).choices[0]!;
      const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs!;
      expect([tokens!.length, token_logprobs!.length, top_logprobs!.length, text_offset!.length]).toEqual([10, 10, 10, 10]);
      for (const [at, logprob] of token_logprobs!.entries()) {
        expect(logprob).toBeLessThanOrEqual(0);
        expect(top_logprobs![at]![tokens![at]!]).toBeCloseTo(logprob, 5);
        expect(Object.keys(top_logprobs![at]!).length).toBeLessThanOrEqual(4);
      }
      expect(text_offset![0]).toBe(0);
      expect(text_offset).toEqual(text_offset!.toSorted((a, b) => a - b));
      expect(text_offset!.at(-1)!).toBeLessThanOrEqual(text.length);
    });

    test('a prompt may be text, texts, token ids or lists of token ids, all answered alike', async () => {
      const one = (await complete()).choices[0]!.text;
      const tokens = await (await serving.post('/tokenize', { prompt })).json();
      const ids = (tokens as { tokens: number[] }).tokens;
      expect((await complete({ prompt: ids })).choices[0]!.text).toBe(one);
      expect((await complete({ prompt: [prompt, prompt] })).choices.map(({ text }) => text)).toEqual([one, one]);
      const many = await complete({ prompt: [ids, ids], n: 2 });
      expect(many.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
      expect(many.choices.map(({ text }) => text)).toEqual([one, one, one, one]);
    });

    test('echo begins the text with the prompt, given as text or as ids', async () => {
      const one = (await complete()).choices[0]!.text;
      expect((await complete({ echo: true })).choices[0]!.text).toBe(prompt + one);
      let streamed = '';
      const stream = await client.completions.create({ model, prompt, max_tokens: 24, temperature: 0, echo: true, stream: true });
      for await (const chunk of stream) streamed += chunk.choices[0]!.text;
      expect(streamed).toBe(prompt + one);
    });

    test('max_tokens beyond the context is clamped, not refused', async () => {
      const stream = await client.completions.create({ model, prompt, max_tokens: 2_000_000_000, stream: true });
      for await (const chunk of stream) {
        expect(chunk.choices).toHaveLength(1);
        break;
      }
      await until(() => isQuiet(serving), 'the left stream was freed');
    });

    test('a prompt longer than the context is a BadRequestError with a stable code', async () => {
      const long = new Array<number>(serving.engine.model.maxModelLen + 1).fill(1);
      const refused = complete({ prompt: long });
      await expect(refused).rejects.toBeInstanceOf(OpenAI.BadRequestError);
      await expect(refused).rejects.toMatchObject({ status: 400, code: 'PROMPT_TOO_LONG' });
    });

    test('aborting a stream frees the request', async () => {
      const controller = new AbortController();
      const stream = await client.completions.create(
        { model, prompt, max_tokens: 100_000, stream: true, ...({ ignore_eos: true } as object) },
        { signal: controller.signal },
      );
      for await (const _ of stream) {
        expect(serving.engine.stats().numRunning + serving.engine.stats().numWaiting).toBeGreaterThan(0);
        controller.abort();
      }
      await until(() => isQuiet(serving), 'the aborted stream was freed');
    });

    test('aborting a request that is not streamed frees it too', async () => {
      const controller = new AbortController();
      const pending = client.completions.create(
        { model, prompt, max_tokens: 100_000, ...({ ignore_eos: true } as object) },
        { signal: controller.signal },
      );
      pending.catch(() => undefined);
      await until(() => serving.engine.stats().numRunning > 0, 'the request runs');
      controller.abort();
      await expect(pending).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
      await until(() => isQuiet(serving), 'the aborted request was freed');
    });

    test('fifty requests at once are all answered, and alike', async () => {
      const responses = await Promise.all(
        Array.from({ length: 50 }, async (_, at) => {
          if (at % 2 === 0) return (await complete({ max_tokens: 8 })).choices[0]!.text;
          let text = '';
          const stream = await client.completions.create({ model, prompt, max_tokens: 8, temperature: 0, stream: true });
          for await (const chunk of stream) text += chunk.choices[0]!.text;
          return text;
        }),
      );
      expect(new Set(responses).size).toBe(1);
      await until(() => isQuiet(serving), 'all were freed');
    });

    test('models are listed, retrieved by name, and unknown ones are a NotFoundError', async () => {
      const names: string[] = [];
      for await (const { id } of client.models.list()) names.push(id);
      expect(names).toEqual([...serving.engine.model.servedNames]);
      expect(await client.models.retrieve(model)).toMatchObject({ id: model, object: 'model', max_model_len: serving.engine.model.maxModelLen });
      for (const name of names) expect((await client.models.retrieve(name)).id).toBe(name);
      await expect(client.models.retrieve('no/such')).rejects.toBeInstanceOf(OpenAI.NotFoundError);
      await expect(complete({ model: 'no-such' })).rejects.toMatchObject({ status: 404, code: 'MODEL_UNKNOWN', param: 'model' });
    });

    test('tokenize and detokenize are each other', async () => {
      const answer = await (await serving.post('/tokenize', { prompt, add_special_tokens: false, return_token_strs: true })).json();
      const { count, tokens, token_strs, max_model_len } = answer as { count: number; tokens: number[]; token_strs: string[]; max_model_len: number };
      expect([count, token_strs.length]).toEqual([tokens.length, tokens.length]);
      expect(max_model_len).toBe(serving.engine.model.maxModelLen);
      const back = (await (await serving.post('/detokenize', { tokens })).json()) as { prompt: string };
      expect(back.prompt).toBe(prompt);
    });

    test.skipIf(!hasChatTemplate)('a chat answers as the assistant, whole and streamed, with the role in the first chunk', async () => {
      const request = { model, messages: [{ role: 'user' as const, content: 'Hello' }], max_completion_tokens: 12, temperature: 0 };
      const whole = await client.chat.completions.create(request);
      expect(whole.choices[0]!.message.role).toBe('assistant');
      const roles: (string | undefined)[] = [];
      let text = '';
      for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
        roles.push(chunk.choices[0]!.delta.role);
        text += chunk.choices[0]!.delta.content ?? '';
      }
      expect(roles[0]).toBe('assistant');
      expect(roles.slice(1).every((role) => role === undefined)).toBe(true);
      expect(text).toBe(whole.choices[0]!.message.content);
      const helper = client.chat.completions.stream(request);
      expect(await helper.finalContent()).toBe(text);
    });

    test.skipIf(!hasChatTemplate)('chat logprobs carry bytes that join to the text', async () => {
      const response = await client.chat.completions.create({
        model,
        messages: [{ role: 'user', content: 'Hello' }],
        max_tokens: 8,
        temperature: 0,
        logprobs: true,
        top_logprobs: 2,
        ...({ ignore_eos: true, skip_special_tokens: false } as object),
      });
      const content = response.choices[0]!.logprobs!.content!;
      expect(content).toHaveLength(8);
      for (const { top_logprobs, logprob } of content) {
        expect(top_logprobs).toHaveLength(2);
        expect(logprob).toBeLessThanOrEqual(0);
      }
      const joined = Buffer.from(content.flatMap(({ bytes }) => bytes!)).toString('utf8');
      expect(joined.trimStart()).toBe(response.choices[0]!.message.content!.trimStart());
    });

    test.skipIf(hasChatTemplate)('a chat with a model that has no template is refused with the reason', async () => {
      const refused = client.chat.completions.create({ model, messages: [{ role: 'user', content: 'Hello' }] });
      await expect(refused).rejects.toMatchObject({ status: 400, code: 'CHAT_TEMPLATE_MISSING' });
    });
  });
}
