import { createServer, type Server } from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { arrivalTimesMs } from './arrivals.ts';
import { type CompletionOutcome, sseData } from './completion-client.ts';
import { decodeRate } from './offline.ts';
import { randomPrompts, seededRandom } from './random-prompts.ts';
import { benchServe, type ServeLoadOptions, serveLoadWork, summarise } from './serve-load.ts';
import { distribution, percentile, spread } from './statistics.ts';

let server: Server | null = null;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = null;
});

test('percentiles interpolate between ranks, and nothing has none', () => {
  expect(percentile([4, 1, 3, 2], 50)).toBe(2.5);
  expect(percentile([10, 20, 30], 100)).toBe(30);
  expect(percentile([7], 99)).toBe(7);
  expect(spread([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
  expect(spread([])).toBeNull();
  expect(distribution([1, 2, 3, 4, 5], [50, 90])).toEqual({ count: 5, mean: 3, max: 5, percentiles: { p50: 3, p90: 4.6 } });
});

test('the decode rate counts only while every row decodes', () => {
  // row 0 decodes alone until 100, row 1 alone after 140: the window (100, 140] holds two tokens of each
  expect(
    decodeRate([
      [0, 50, 100, 120, 140],
      [100, 120, 140, 500],
    ]),
  ).toBeCloseTo((1000 * 4) / 40);
  expect(decodeRate([[0], [10]])).toBeNull();
});

test('random prompts are the same for the same seed and never begin alike', () => {
  const prompts = randomPrompts(3, 64, 1000, seededRandom(7));
  expect(randomPrompts(3, 64, 1000, seededRandom(7))).toEqual(prompts);
  expect(prompts[0].slice(0, 4)).not.toEqual(prompts[1].slice(0, 4));
  expect(Math.max(...prompts[0])).toBeLessThan(1000);
  expect(() => randomPrompts(1, 1, 4, seededRandom(1))).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});

test.each([0.5, 1, 4])('arrivals of burstiness %s keep their mean rate, and their spread follows the burstiness', (burstiness) => {
  const times = arrivalTimesMs(20_000, 50, burstiness, seededRandom(3));
  const gaps = Array.from(times.subarray(1), (at, i) => at - times[i]);
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
  expect(mean).toBeCloseTo(20, -0.5);
  expect(variance / mean ** 2 / (1 / burstiness)).toBeCloseTo(1, 0.8);
});

test('an infinite rate sends everything at once', () => {
  expect(arrivalTimesMs(3, Number.POSITIVE_INFINITY, 1, seededRandom(1))).toEqual(new Float64Array(3));
});

test('server-sent events are read whatever the borders of the chunks and the line ends', async () => {
  const text = 'data: {"a":1}\r\n\r\n: comment\n\ndata: one\ndata:two\n\nevent: x\ndata: [DONE]\n\n';
  const bytes = new TextEncoder().encode(text);
  for (let size = 1; size < 12; size++) {
    const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
    const seen: string[] = [];
    for await (const data of sseData(toAsync(chunks))) seen.push(data);
    expect(seen).toEqual(['{"a":1}', 'one\ntwo', '[DONE]']);
  }
});

async function* toAsync(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

test('latencies, rates and goodput follow from the outcomes', () => {
  const outcome = (sentMs: number, chunksMs: number[], error: string | null = null): CompletionOutcome => ({
    error,
    sentMs,
    chunksMs,
    endMs: chunksMs.at(-1) ?? sentMs,
    promptTokens: 10,
    completionTokens: chunksMs.length,
  });
  const outcomes = [outcome(0, [100, 110, 120]), outcome(0, [300, 350, 400]), outcome(0, [], 'HTTP 500'), outcome(0, [], 'HTTP 500')];
  const report = summarise(outcomes, 2000, 4, { percentiles: [50], goodput: { ttft: 200, tpot: 20 } });
  expect(report).toMatchObject({ completed: 2, failed: 2, errors: ['HTTP 500'], outputTokensPerSecond: 3, totalTokensPerSecond: 13 });
  expect(report.goodRequestsPerSecond).toBe(0.5);
  expect(report.ttft?.percentiles.p50).toBe(200);
  expect(report.tpot?.mean).toBe(30);
  expect(report.itl?.count).toBe(4);
  expect(report.e2el?.max).toBe(400);
});

/** Answers completions with two chunks; counts how many are under way. */
async function listen(options: { failEvery?: number } = {}): Promise<{ baseUrl: string; peak: () => number; bodies: Record<string, unknown>[] }> {
  let open = 0;
  let peak = 0;
  const bodies: Record<string, unknown>[] = [];
  server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += chunk;
    });
    request.on('end', () => {
      bodies.push(JSON.parse(text));
      peak = Math.max(peak, ++open);
      if (options.failEvery !== undefined && bodies.length % options.failEvery === 0) {
        open--;
        response.writeHead(503).end('busy');
        return;
      }
      setTimeout(() => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write('data: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[{"text":"b"}]}\n\n');
        response.end('data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}\n\ndata: [DONE]\n\n');
        open--;
      }, 5);
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return { baseUrl: `http://127.0.0.1:${port}/v1`, peak: () => peak, bodies };
}

const load = (baseUrl: string, more: Partial<ServeLoadOptions> = {}): ServeLoadOptions => ({
  baseUrl,
  model: 'm',
  apiKey: null,
  numPrompts: 12,
  requestRate: Number.POSITIVE_INFINITY,
  burstiness: 1,
  maxConcurrency: null,
  inputLen: 4,
  outputLen: 2,
  vocabSize: 100,
  seed: 1,
  percentiles: [50],
  goodput: {},
  ...more,
});

test('a closed loop never has more requests under way than asked, and sends token ids', async () => {
  const { baseUrl, peak, bodies } = await listen();
  const report = await benchServe(load(baseUrl, { maxConcurrency: 3 }));
  expect(report).toMatchObject({ completed: 12, failed: 0, peakConcurrency: 3 });
  expect(peak()).toBeLessThanOrEqual(3);
  expect(bodies[0]).toMatchObject({ max_tokens: 2, stream: true, ignore_eos: true, stream_options: { include_usage: true } });
  expect(bodies[0].prompt).toHaveLength(4);
});

test('lengths vary within the asked ratio, all prompts begin with the prefix, and the same seed asks the same', async () => {
  const options = load('', { numPrompts: 200, inputLen: 192, outputLen: 96, rangeRatio: 1 / 3, prefixLen: 10 });
  const { prefix, prompts, outputLens } = serveLoadWork(options, seededRandom(5));
  const own = prompts.map((prompt) => prompt.length - 10);
  expect([Math.min(...own), Math.max(...own)]).toEqual([128, 256]);
  expect([Math.min(...outputLens), Math.max(...outputLens)]).toEqual([64, 128]);
  expect(prefix).toHaveLength(10);
  for (const prompt of prompts) expect(prompt.subarray(0, 10)).toEqual(prefix);
  expect(prompts[0].subarray(10, 20)).not.toEqual(prompts[1].subarray(10, 20));
  expect(serveLoadWork(options, seededRandom(5))).toEqual({ prefix, prompts, outputLens });
  const { baseUrl, bodies } = await listen();
  await benchServe(load(baseUrl, { rangeRatio: 0.5, outputLen: 40 }));
  expect(new Set(bodies.map((body) => body.max_tokens)).size).toBeGreaterThan(3);
});

test('an open loop sends on time whatever the server does', async () => {
  const { baseUrl } = await listen();
  const report = await benchServe(load(baseUrl, { requestRate: 200 }));
  expect(report.completed).toBe(12);
  expect(report.goodRequestsPerSecond).toBeNull();
});

test('failures are counted and told apart, and a server that is not there is one', async () => {
  const { baseUrl } = await listen({ failEvery: 3 });
  const report = await benchServe(load(baseUrl));
  expect(report).toMatchObject({ completed: 8, failed: 4, errors: ['HTTP 503: busy'] });
  const none = await benchServe(load('http://127.0.0.1:9/v1', { numPrompts: 2 }));
  expect(none.failed).toBe(2);
  expect(none.ttft).toBeNull();
});
