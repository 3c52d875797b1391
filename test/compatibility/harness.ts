/** Carries out requests that combine features, each on the engine that it wants. */
import assert from 'node:assert/strict';
import type { LoadOptions } from '../../src/engine/config.ts';
import { Api, type Json } from '../api/api.ts';
import { type Feature, MAX_TOKENS, type Run } from './features.ts';
import { type Outcome, outcomeOf } from './outcome.ts';

const path = '/v1/chat/completions';
const base = {
  messages: [{ role: 'user', content: 'What is the weather in Oslo?' }],
  temperature: 0,
  max_tokens: MAX_TOKENS,
  return_token_ids: true,
};

/** A refusal of a combination, as it was answered. */
export class Refused extends Error {
  readonly status: number;
  readonly code: string;
  readonly told: string;

  constructor(status: number, { code, message }: { code: string; message: string }) {
    super(`${status} ${code}: ${message}`);
    this.status = status;
    this.code = code;
    this.told = message;
  }
}

export class Harness implements AsyncDisposable {
  readonly #engines = new Map<string, Promise<Api>>();
  readonly #alone = new Map<string, Promise<Outcome>>();

  /** What the request is answered with one feature, or with none. */
  alone(feature: Feature | null): Promise<Outcome> {
    const name = feature?.name ?? '';
    const known = this.#alone.get(name) ?? this.#aloneAnew(feature);
    this.#alone.set(name, known);
    return known;
  }

  async #aloneAnew(feature: Feature | null): Promise<Outcome> {
    return feature === null ? this.#answer([]) : this.#answer([[feature, await this.alone(null)]]);
  }

  /** Both features at once, each held to what it promises. @throws Refused */
  async together(one: Feature, other: Feature): Promise<void> {
    await this.#answer([
      [one, await this.alone(other)],
      [other, await this.alone(one)],
    ]);
  }

  async #answer(wanted: readonly (readonly [Feature, Outcome])[]): Promise<Outcome> {
    const api = await this.#open(wanted.map(([feature]) => feature));
    try {
      const fields = wanted.map(([feature, alone]) => feature.fields?.(alone, api) ?? {});
      const kvCache = fields.map((given) => given.kv_cache).filter((given) => given !== undefined);
      // two ways of keeping less are asked for together, not one in the place of the other
      const body = Object.assign({}, base, ...fields, kvCache.length === 0 ? {} : { kv_cache: Object.assign({}, ...kvCache) });
      for (const [{ prepare }] of wanted) await prepare?.(api);
      const onGenerate = wanted.flatMap(([feature]) => feature.onGenerate ?? []).at(0) ?? null;
      const onAdmitted = wanted.flatMap(([feature, alone]) => feature.onAdmitted?.(alone) ?? []).at(0) ?? null;
      const breaks = wanted.some(([feature]) => feature.breaks);
      const sendOnce = () => api.intercepting(onGenerate, onAdmitted, () => (breaks ? sendBroken(api, body) : send(api, body)));
      const run: Run = { api, body, send: sendOnce };
      const carried = wanted.reduce<() => Promise<Outcome>>(
        (inner, [{ carryOut }]) => (carryOut === undefined ? inner : () => carryOut({ ...run, send: inner })),
        sendOnce,
      );
      const outcome = await carried();
      for (const [feature, alone] of wanted) feature.check(outcome, alone, run);
      return outcome;
    } finally {
      if (wanted.some(([{ isFresh }]) => isFresh)) await api[Symbol.asyncDispose]();
    }
  }

  #open(wanted: readonly Feature[]): Promise<Api> {
    const load: Omit<LoadOptions, 'model'> = Object.assign({ jumpForward: false }, ...wanted.map((feature) => feature.load ?? {}));
    if (wanted.some(({ isFresh }) => isFresh)) return Api.open(load);
    const key = JSON.stringify(load);
    const known = this.#engines.get(key) ?? Api.open(load);
    this.#engines.set(key, known);
    return known;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const api of this.#engines.values()) await (await api)[Symbol.asyncDispose]();
  }
}

async function send(api: Api, body: Run['body']): Promise<Outcome> {
  const answer = await api.send(path, body);
  if (answer.status !== 200) throw new Refused(answer.status, answer.body.error);
  return outcomeOf(body.stream === true ? framesOf(answer.text) : [answer.body]);
}

/** Reads three events, goes away, and comes back for the rest. */
async function sendBroken(api: Api, body: Run['body']): Promise<Outcome> {
  const headers = { 'content-type': 'application/json', 'x-stream-resume': '1' };
  const response = await fetch(api.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  if (response.status !== 200) throw new Refused(response.status, ((await response.json()) as Json).error);
  assert.ok(response.body);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (let done = false; !done && text.split('\n\n').length <= 3; ) {
    const part = await reader.read();
    text += part.value ?? '';
    done = part.done;
  }
  await reader.cancel();
  const whole = text.slice(0, text.lastIndexOf('\n\n') + 2);
  const last = [...whole.matchAll(/^id: (.*)$/gm)].at(-1)?.[1];
  assert.ok(last, 'events have ids');
  const rest = await api.send(path, body, { 'last-event-id': last });
  assert.equal(rest.status, 200, rest.text);
  return outcomeOf(framesOf(whole + rest.text));
}

function framesOf(text: string): Json[] {
  const lines = text.split('\n').filter((line) => line.startsWith('data: {'));
  return lines.map((line) => JSON.parse(line.slice(6)));
}
