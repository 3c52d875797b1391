/** Of each API with streams: pings while nothing comes, a stream taken up again behind any event, tokens of the cache in its usage. */
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
import { FakeEngine } from './fake-engine.ts';
import { serve } from './serving.ts';

const pocket = fileURLToPath(new URL('../../pocket/model', import.meta.url));
const ping = ': ping';
const namedPing = 'event: ping\ndata: {"type": "ping"}';
const user = [{ role: 'user', content: 'Count to ten, slowly, and say each number in words.' }];

interface Usage {
  readonly prompt_tokens_details?: { readonly cached_tokens: number };
  readonly input_tokens_details?: { readonly cached_tokens: number };
  readonly cache_read_input_tokens?: number;
}
const cachedOf = ({ prompt_tokens_details: chat, input_tokens_details: response, cache_read_input_tokens: message }: Usage) =>
  chat?.cached_tokens ?? response?.cached_tokens ?? message ?? 0;

const dialects = [
  ['/v1/chat/completions', { messages: user, max_tokens: 6 }, ping],
  ['/v1/completions', { prompt: user[0]?.content, max_tokens: 6 }, ping],
  ['/v1/responses', { input: user[0]?.content, max_output_tokens: 6 }, ping],
  ['/v1/messages', { messages: user, max_tokens: 6 }, namedPing],
] as const;

describe.each(dialects)('%s', (path, body, pinged) => {
  test('pings while the first token is waited for', async () => {
    await using serving = await serve(new FakeEngine({ stepMs: 200 }), { pingIntervalMs: 40 });
    const blocks = (await (await serving.post(path, { ...body, stream: true })).text()).split('\n\n');
    expect(blocks.indexOf(pinged)).toBeGreaterThanOrEqual(0);
    const firstText = blocks.findIndex((block) => /"(?:text|content|delta)":\s*"[a-z]/.test(block));
    expect(blocks.indexOf(pinged)).toBeLessThan(firstText);
  });

  test('is taken up behind any event, to the letter', async () => {
    await using serving = await serve(new FakeEngine({ script: 'One two three.', scriptEnds: true, stepMs: 1 }));
    const response = await serving.post(path, { ...body, max_tokens: 40, max_output_tokens: 40, stream: true }, { 'x-stream-resume': '1' });
    const whole = await response.text();
    const ids = [...whole.matchAll(/^id: (.*)$/gm)].map(([, id]) => id as string);
    expect(ids.length).toBeGreaterThan(4);
    for (const id of [ids[0], ids[3]] as string[]) {
      const rest = await (await serving.post(path, { ...body, stream: true }, { 'last-event-id': id })).text();
      const behind = whole.slice(whole.indexOf('\n\n', whole.indexOf(`id: ${id}\n`)) + 2);
      expect(rest.replaceAll(`${pinged}\n\n`, '')).toBe(behind.replaceAll(`${pinged}\n\n`, ''));
    }
    expect(serving.engine.seen).toHaveLength(1);
  });

  test('says how many tokens of the prompt came from the cache', async () => {
    await using serving = await serve(await loadEngine({ model: pocket, maxModelLen: 256, backend: 'reference' }));
    const cached = async () => cachedOf(((await (await serving.post(path, body)).json()) as { usage: Usage }).usage);
    expect(await cached()).toBe(0);
    expect(await cached()).toBeGreaterThan(5);
  });
});

test("Ollama's lines have no pings, which its clients could not read", async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 150, script: 'ab', scriptEnds: true }), { pingIntervalMs: 40 });
  const text = await (await serving.post('/api/chat', { messages: user })).text();
  for (const line of text.trim().split('\n')) expect(() => JSON.parse(line)).not.toThrow();
});
