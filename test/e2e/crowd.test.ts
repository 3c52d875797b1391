/** The real engine under a crowd of which a third walks away. */
import { request } from 'node:http';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/load.ts';
import { isQuiet, serve, until } from './serving.ts';

const numStreams = 200;

test('200 streams at once of which 30 % leave at random moments end with no block held and no stream alive', async () => {
  const engine = await loadEngine({
    model: fileURLToPath(new URL('../golden/qwen3', import.meta.url)),
    loadFormat: 'dummy',
    maxNumSeqs: 32,
    kvCacheMemoryBytes: 4 * 1024 * 1024,
  });
  await using serving = await serve(engine);
  let finished = 0;
  let left = 0;
  const ask = (at: number) => {
    const leaves = (at * 7) % 10 < 3;
    const stopAfter = leaves ? (at * 13) % 9 : Number.POSITIVE_INFINITY; // 0: before the first byte
    const prompt = `${'shared beginning '.repeat(at % 4)}${at}`;
    const body = JSON.stringify({ prompt, max_tokens: 12, ignore_eos: true, stream: true, n: 1 + (at % 2) });
    return new Promise<void>((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port: serving.port, path: '/v1/completions', method: 'POST', agent: false }, (response) => {
        let text = '';
        let frames = 0;
        response.on('data', (bytes: Buffer) => {
          text += bytes.toString('utf8');
          if (++frames >= stopAfter) sent.destroy();
        });
        response.on('end', () => {
          if (text.endsWith('data: [DONE]\n\n') && text.split('"finish_reason":"length"').length === 2 + (at % 2)) finished++;
          else if (!leaves) reject(new Error(`incomplete answer: ${text.slice(-300)}`));
        });
        response.on('error', () => undefined); // told by 'close'
      });
      sent.setHeader('content-type', 'application/json');
      if (stopAfter === 0) setTimeout(() => sent.destroy(), at % 40);
      sent.on('error', (error) => (leaves ? undefined : reject(error)));
      sent.on('close', () => {
        if (sent.destroyed && leaves) left++;
        resolve();
      });
      sent.end(body);
    });
  };
  await Promise.all(Array.from({ length: numStreams }, (_, at) => ask(at)));
  expect(finished).toBeGreaterThanOrEqual(numStreams * 0.7);
  expect(left).toBeGreaterThan(numStreams / 10);
  await until(() => isQuiet(serving), 'everything was freed');
  expect(engine.numOpenStreams).toBe(0);
  const { kvBlocksReferenced, numRunning, numWaiting } = engine.stats();
  expect([kvBlocksReferenced, numRunning, numWaiting]).toEqual([0, 0, 0]);
  expect((await fetch(`${serving.url}/health`)).status).toBe(200);
});

test('a crowd beyond the queue limit gets 429s, and everybody else an answer', async () => {
  const model = fileURLToPath(new URL('../golden/qwen3', import.meta.url));
  const engine = await loadEngine({ model, loadFormat: 'dummy', maxNumSeqs: 2, maxQueue: 4 });
  await using serving = await serve(engine);
  const statuses = await Promise.all(
    Array.from({ length: 40 }, async (_, at) => {
      const response = await serving.post('/v1/completions', { prompt: `${at}`, max_tokens: 20, ignore_eos: true, stream: at % 2 === 0 });
      const text = await response.text();
      if (response.status === 200) expect(text).toContain('"finish_reason":"length"');
      else expect(text).toContain('"code":"QUEUE_FULL"');
      return response.status;
    }),
  );
  expect(new Set(statuses)).toEqual(new Set([200, 429]));
  await until(() => isQuiet(serving), 'everything was freed');
  expect((await serving.post('/v1/completions', { prompt: 'afterwards', max_tokens: 2 })).status).toBe(200);
});
