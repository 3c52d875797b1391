/** What no HTTP library would do to a server, and networks do every day. */
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { FakeEngine } from './fake-engine.ts';
import { isQuiet, serve, until } from './serving.ts';

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket));
    socket.on('error', reject);
  });
}

function request(body: object, headers: Record<string, string> = {}): string {
  const text = JSON.stringify(body);
  const all = { host: 'localhost', 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST /v1/completions HTTP/1.1\r\n${lines.join('')}\r\n${text}`;
}

const endless = { prompt: 'a', max_tokens: 1_000_000, stream: true };

function readAll(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (data) => {
      text += data.toString('utf8');
    });
    socket.on('close', () => resolve(text));
  });
}

/** Resolves when no token was made for a while. */
async function stalled({ counters }: FakeEngine): Promise<void> {
  for (let before = -1; before !== counters.generation; ) {
    before = counters.generation;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

test.each(['destroy', 'resetAndDestroy', 'end'] as const)('a client that leaves by %s in the middle of a stream is freed', async (leave) => {
  await using serving = await serve(new FakeEngine({ maxModelLen: 2_000_000 }));
  const socket = await open(serving.port);
  socket.write(request(endless));
  await new Promise((resolve) => socket.once('data', resolve));
  expect(serving.engine.running).toBe(1);
  socket[leave]();
  await until(() => isQuiet(serving), 'freed');
});

test('a client that leaves before the first token is freed', async () => {
  await using serving = await serve(new FakeEngine({ stepMs: 60_000 }));
  const socket = await open(serving.port);
  socket.write(request({ prompt: 'a', max_tokens: 5 }));
  await until(() => serving.engine.running === 1, 'it runs');
  socket.destroy();
  await until(() => isQuiet(serving), 'freed');
});

test('a body that stops half way reaches no engine and leaves nothing behind', async () => {
  await using serving = await serve(new FakeEngine());
  const socket = await open(serving.port);
  socket.write(request(endless).slice(0, -20));
  await until(() => serving.server.numOpenRequests === 1, 'it is open');
  socket.destroy();
  await until(() => isQuiet(serving), 'closed');
  expect(serving.engine.seen).toHaveLength(0);
});

test('bytes that are not HTTP get a 400 and the line is closed', async () => {
  await using serving = await serve(new FakeEngine());
  const socket = await open(serving.port);
  const answer = readAll(socket);
  socket.write('\x16\x03\x01\x02\x00 hello\r\n\r\n');
  expect(await answer).toMatch(/^HTTP\/1\.1 400 [\s\S]*"code":"REQUEST_INVALID"/);
});

test('headers that never end are refused, not kept', async () => {
  await using serving = await serve(new FakeEngine());
  const socket = await open(serving.port);
  const answer = readAll(socket);
  socket.write(`GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: ${'x'.repeat(32_768)}\r\n\r\n`);
  expect(await answer).toMatch(/^HTTP\/1\.1 431 /);
});

test('a name that was pointed at loopback is not served', async () => {
  await using serving = await serve(new FakeEngine());
  const ask = async (host: string, port = serving.port) => {
    const socket = await open(port);
    const answer = readAll(socket);
    socket.write(`GET /v1/models HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
    return (await answer).slice(9, 12);
  };
  expect(await ask('evil.example')).toBe('403');
  expect(await ask(`evil.example:${serving.port}`)).toBe('403');
  expect(await ask(`localhost:${serving.port}`)).toBe('200');
  expect(await ask('[::1]:80')).toBe('200');
  await using proxied = await serve(new FakeEngine(), { allowedHosts: ['llm.example'] });
  expect(await ask('llm.example', proxied.port)).toBe('200');
});

test('a reader that stops does not make the server hold the stream, and gets all of it when it goes on', async () => {
  const engine = new FakeEngine({ maxModelLen: 200_000, stepMs: 0, charactersPerToken: 64 });
  await using serving = await serve(engine);
  const socket = await open(serving.port);
  const maxTokens = 40_000; // 10 MB of frames
  socket.pause();
  socket.write(request({ prompt: 'a', max_tokens: maxTokens, stream: true }, { connection: 'close' }));
  await until(() => engine.counters.generation > 100, 'the stream runs');
  await stalled(engine);
  // The fake engine makes a token when asked: the pause reached it, through full socket buffers of a few MB at most.
  expect(engine.counters.generation).toBeLessThan(maxTokens);
  const answer = readAll(socket);
  socket.resume();
  const text = await answer;
  expect(text).toContain('data: [DONE]');
  expect(engine.counters.generation).toBe(maxTokens);
});

test('a reader that never comes back is dropped after the write timeout', async () => {
  const engine = new FakeEngine({ maxModelLen: 2_000_000, stepMs: 0, charactersPerToken: 64 });
  await using serving = await serve(engine, { writeTimeoutMs: 200 });
  const socket = await open(serving.port);
  socket.pause();
  socket.write(request(endless));
  await until(() => engine.running === 1, 'it runs');
  await until(() => isQuiet(serving), 'dropped');
  socket.destroy();
});

test('two requests sent at once over one connection are answered in order', async () => {
  await using serving = await serve(new FakeEngine());
  const socket = await open(serving.port);
  const answer = readAll(socket);
  socket.write(
    request({ prompt: 'a', max_tokens: 2 }, { 'x-request-id': 'one' }) +
      request({ prompt: 'b', max_tokens: 1 }, { 'x-request-id': 'two', connection: 'close' }),
  );
  const text = await answer;
  expect(text.indexOf('cmpl-one')).toBeGreaterThan(0);
  expect(text.indexOf('cmpl-two')).toBeGreaterThan(text.indexOf('cmpl-one'));
});

test('many prompts that wait for one slow reader wait together', async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error) => warnings.push(warning.name);
  process.on('warning', onWarning);
  const engine = new FakeEngine({ maxModelLen: 200_000, stepMs: 0, charactersPerToken: 512 });
  await using serving = await serve(engine);
  const socket = await open(serving.port);
  socket.pause();
  const prompts = Array.from({ length: 64 }, (_, at) => `prompt ${at}`);
  socket.write(request({ prompt: prompts, max_tokens: 300, stream: true }, { connection: 'close' }));
  await until(() => engine.counters.generation > 640, 'the streams run');
  await stalled(engine);
  const answer = readAll(socket);
  socket.resume();
  expect((await answer).split('"finish_reason":"length"')).toHaveLength(65);
  process.off('warning', onWarning);
  expect(warnings).toEqual([]);
});
