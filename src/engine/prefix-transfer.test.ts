/** Blocks of prompts out of one engine and into another, in process and over TCP, with everything that a network does. */
import { type ChildProcess, spawn } from 'node:child_process';
import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { type EngineFixture, nullEngine } from '../../test/fixtures/engine.ts';
import { expectedToken } from '../backends/null/null-backend.ts';
import type { TransferServer, TransferServerOptions } from '../kv/transfer/server.ts';
import { loadEngine } from './load.ts';
import type { LoadedEngine } from './loaded-engine.ts';

const VOCABULARY = 97;
const prompt = Array.from({ length: 41 }, (_, i) => (i * 7) % VOCABULARY);
const request = { tokenIds: Int32Array.from(prompt), cacheSalt: '' };

function expected(ids: readonly number[], count: number): number[] {
  const context = [...ids];
  for (let i = 0; i < count; i++) context.push(expectedToken(context, VOCABULARY, [0, 0], 0));
  return context.slice(ids.length);
}

async function answer(engine: LoadedEngine, ids: readonly number[] = prompt): Promise<number> {
  const { choices, usage } = await engine.generate({ promptTokenIds: ids }, { maxTokens: 5, seed: 0 });
  expect(choices[0].tokenIds).toEqual(expected(ids, 5));
  return usage.cachedTokens;
}

function expectNothingHeld(engine: LoadedEngine): void {
  expect(engine.stats().kvBlocksReferenced).toBe(0);
  engine.scheduler.checkInvariants();
}

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function engineOf(options: EngineFixture & { window?: number } = {}): Promise<LoadedEngine> {
  const engine = await nullEngine(options);
  closers.push(() => engine.close());
  return engine;
}

async function served(options: Partial<TransferServerOptions> = {}): Promise<{ engine: LoadedEngine; server: TransferServer; port: number }> {
  const engine = await engineOf();
  await answer(engine);
  const server = await engine.prefixes.serve({ patienceMs: 2000, ...options });
  closers.push(() => server.close());
  return { engine, server, port: server.port };
}

describe('in process', () => {
  test.each([0, 10])('a prompt that one engine computed another goes on with, window %i', async (window) => {
    const [from, to] = [await engineOf({ window }), await engineOf({ window })];
    await answer(from);
    const blocks = await from.prefixes.export(request);
    expect(blocks.blocks).toHaveLength(10);
    expect(await to.prefixes.import(request, blocks)).toBe(40);
    expect(await answer(to)).toBe(40);
    for (const engine of [from, to]) expectNothingHeld(engine);
  });

  test('what the taker has already is not taken again, and another salt finds nothing', async () => {
    const [from, to] = [await engineOf(), await engineOf()];
    for (const engine of [from, to]) await answer(engine, engine === to ? prompt.slice(0, 22) : prompt);
    expect(await to.prefixes.import(request, await from.prefixes.export(request))).toBe(40);
    expect((await from.prefixes.export({ ...request, cacheSalt: 'a' })).blocks).toHaveLength(0);
    expect(await answer(to)).toBe(40);
    expectNothingHeld(to);
  });

  test('an engine that is busy goes on as it should while blocks come and go', async () => {
    const [from, to] = [await engineOf(), await engineOf({ numBlocks: 40, maxModelLen: 80 })];
    await answer(from);
    const busy = Array.from({ length: 12 }, (_, i) =>
      answer(
        to,
        Array.from({ length: 20 + i }, (_x, j) => (i * 13 + j * 5) % VOCABULARY),
      ),
    );
    const moved = Array.from({ length: 4 }, async () => to.prefixes.import(request, await from.prefixes.export(request)));
    for (const length of await Promise.all(moved)) expect([0, 40]).toContain(length);
    await Promise.all(busy);
    await answer(to);
    for (const engine of [from, to]) expectNothingHeld(engine);
  });

  test('where there is no room beside running requests nothing is taken', async () => {
    const [from, to] = [await engineOf(), await engineOf({ numBlocks: 8, maxModelLen: 32 })];
    await answer(from);
    expect(await to.prefixes.import(request, await from.prefixes.export(request))).toBe(0);
    expectNothingHeld(to);
  });

  test('blocks of another class, too many of them and wrong sizes are refused, and leave nothing behind', async () => {
    const [from, to] = [await engineOf(), await engineOf()];
    await answer(from);
    const given = await from.prefixes.export(request);
    const wrong = [
      { ...given, kvClass: 'another' },
      { ...given, blockSize: 8 },
      { ...given, blocks: [...given.blocks, given.blocks[0]] },
      { ...given, blocks: given.blocks.map(({ groups, bytes }) => ({ groups, bytes: bytes.subarray(1) })) },
      { ...given, blocks: given.blocks.map(({ bytes }) => ({ groups: 2, bytes })) },
    ];
    for (const blocks of wrong) await expect(to.prefixes.import(request, blocks)).rejects.toMatchObject({ code: 'KV_TRANSFER_FAILED' });
    expectNothingHeld(to);
    expect(to.stats().kvBlocksCached).toBe(0);
  });
});

describe('over TCP', () => {
  const failure = { code: 'KV_TRANSFER_FAILED' };

  test('a prompt is fetched and goes on', async () => {
    const { port, engine } = await served({ secret: 's' });
    const to = await engineOf();
    expect(await to.prefixes.fetch(request, { port, secret: 's' })).toBe(40);
    expect(await answer(to)).toBe(40);
    for (const one of [engine, to]) expectNothingHeld(one);
  });

  test('a wrong secret, or none, gets nothing', async () => {
    const { port } = await served({ secret: 's' });
    const to = await engineOf();
    for (const secret of ['', 'S', 's ']) await expect(to.prefixes.fetch(request, { port, secret })).rejects.toMatchObject(failure);
    expectNothingHeld(to);
  });

  test('without a secret only a loopback address is served', async () => {
    const engine = await engineOf();
    await expect(engine.prefixes.serve({ host: '0.0.0.0' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    const { port } = await served();
    await expect(engine.prefixes.serve({ port })).rejects.toMatchObject({ code: 'PORT_IN_USE' });
  });

  test('engines of different layouts are told apart', async () => {
    const { port } = await served();
    const to = await engineOf({ window: 10 });
    await expect(to.prefixes.fetch(request, { port })).rejects.toThrow(/different models, layouts/);
  });

  test('nobody listening, and somebody who speaks something else, are errors that say so', async () => {
    const to = await engineOf();
    const http = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    const { port } = http.address() as { port: number };
    await expect(to.prefixes.fetch(request, { port, patienceMs: 1000 })).rejects.toMatchObject(failure);
    http.close();
    await expect(to.prefixes.fetch(request, { port: 1, patienceMs: 1000 })).rejects.toMatchObject(failure);
  });

  /** Stands between two engines and does something to what passes. */
  async function through(port: number, meddle: (chunk: Buffer, passed: number, sockets: [Socket, Socket]) => Buffer | null): Promise<number> {
    const proxy = createServer((near) => {
      const far = connect({ port, host: '127.0.0.1' });
      let passed = 0;
      near.on('data', (chunk) => far.write(chunk));
      far.on('data', (chunk: Buffer) => {
        const changed = meddle(chunk, passed, [near, far]);
        passed += chunk.byteLength;
        if (changed !== null) near.write(changed);
      });
      for (const [a, b] of [
        [near, far],
        [far, near],
      ]) {
        a.on('close', () => b.destroy());
        a.on('error', () => b.destroy());
      }
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    closers.push(() => proxy.close());
    return (proxy.address() as { port: number }).port;
  }

  test.each([0, 3, 30, 80, 120, 300, 700, 900])('a connection that is cut after %i bytes is an error, and takes nothing half', async (after) => {
    const { port, engine, server } = await served();
    const cut = await through(port, (chunk, passed, [near]) => {
      if (passed + chunk.byteLength <= after) return chunk;
      near.end(chunk.subarray(0, Math.max(0, after - passed)));
      return null;
    });
    const to = await engineOf();
    await expect(to.prefixes.fetch(request, { port: cut })).rejects.toMatchObject(failure);
    expect(to.stats().kvBlocksCached).toBe(0);
    await expect.poll(() => server.numConnections).toBe(0);
    for (const one of [engine, to]) expectNothingHeld(one);
  });

  test('a byte that changes on the way is found', async () => {
    const { port } = await served();
    const flipped = await through(port, (chunk, passed) => {
      const at = 500 - passed;
      if (at >= 0 && at < chunk.byteLength) chunk[at] ^= 4;
      return chunk;
    });
    const to = await engineOf();
    await expect(to.prefixes.fetch(request, { port: flipped })).rejects.toMatchObject(failure);
    expect(to.stats().kvBlocksCached).toBe(0);
  });

  test('a side that falls silent is given up, and so is one that its caller aborts', async () => {
    const { port } = await served();
    const silent = await through(port, () => null);
    const to = await engineOf();
    await expect(to.prefixes.fetch(request, { port: silent, patienceMs: 100 })).rejects.toThrow(/nothing came for 100 ms/);
    const signal = AbortSignal.timeout(50);
    await expect(to.prefixes.fetch(request, { port: silent, signal })).rejects.toThrow(/aborted/);
  });

  test('a client that says nonsense, too much or nothing is hung up on, and others are served', async () => {
    const { port, server } = await served({ patienceMs: 300 });
    const nonsense = [Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(100, 255), Buffer.from([255, 255, 255, 127, 1]), Buffer.alloc(0)];
    await Promise.all(
      nonsense.map(
        (bytes) =>
          new Promise<void>((resolve) => {
            const socket = connect({ port, host: '127.0.0.1' }, () => socket.write(bytes));
            socket.on('close', () => resolve());
            socket.on('error', () => undefined);
            socket.resume();
          }),
      ),
    );
    await expect.poll(() => server.numConnections).toBe(0);
    const to = await engineOf();
    expect(await to.prefixes.fetch(request, { port })).toBe(40);
  });
});

test('a prompt computed in one process goes on in another, bit for bit', async () => {
  const model = fileURLToPath(new URL('../../test/golden/qwen3', import.meta.url));
  const options = {
    model,
    loadFormat: 'dummy',
    backend: 'reference',
    seed: 1,
    blockSize: 16,
    maxNumSeqs: 2,
    kvCacheMemoryBytes: 4 * 1024 * 1024,
  } as const;
  const ids = Array.from({ length: 100 }, (_, i) => (i * 37) % 200);
  const script = fileURLToPath(new URL('../../test/fixtures/kv-transfer-child.ts', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', script, JSON.stringify(options), JSON.stringify(ids), 'shared secret'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  closers.push(() => child.kill());
  const computedHere: Float32Array[] = [];
  const continued: Float32Array[] = [];
  const params = { maxTokens: 12, temperature: 0, ignoreEos: true };
  await using alone = await loadEngine(options, { captureLogits: (_, logits) => computedHere.push(logits.slice()) });
  const expectedAnswer = await alone.generate({ promptTokenIds: ids }, params);
  const [line] = await new Promise<string[]>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the other process ended with ${code}`)));
    createInterface({ input: child.stdout! }).once('line', (text) => resolve([text]));
  });
  const { port, first } = JSON.parse(line) as { port: number; first: number };
  await using taker = await loadEngine(options, { captureLogits: (_, logits) => continued.push(logits.slice()) });
  expect(await taker.prefixes.fetch({ tokenIds: Int32Array.from(ids), cacheSalt: '' }, { port, secret: 'shared secret' })).toBe(96);
  const answered = await taker.generate({ promptTokenIds: ids }, params);
  expect(answered.usage.cachedTokens).toBe(96);
  expect(answered.choices[0].tokenIds).toEqual(expectedAnswer.choices[0].tokenIds);
  expect(answered.choices[0].tokenIds[0]).toBe(first);
  expect(continued).toEqual(computedHere.slice(-continued.length));
  child.stdin?.end();
  await new Promise((resolve) => child.once('exit', resolve));
});
