/** Tools of real MCP servers: a program that is started, and one over HTTP. */
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { FakeEngine } from '../../test/e2e/fake-engine.ts';
import { httpServer } from '../../test/fixtures/mcp-server.ts';
import { LLM } from '../engine/llm.ts';
import { type McpCommand, type McpSource, type McpTools, mcpTools } from './index.ts';

const program = fileURLToPath(new URL('../../test/fixtures/mcp-server.ts', import.meta.url));
const started = (mode: string, more: Partial<McpCommand> = {}): McpCommand => ({
  command: process.execPath,
  args: ['--import', 'tsx', program, mode],
  ...more,
});

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function open(...args: Parameters<typeof mcpTools>): Promise<McpTools> {
  const tools = await mcpTools(...args);
  closing.push(async () => tools[Symbol.asyncDispose]());
  return tools;
}

const call = (tools: McpTools, name: string, args: Record<string, unknown> = {}, signal?: AbortSignal) =>
  Promise.resolve(tools[name]!.execute(args, { callId: 'c', signal }));

const transports: [string, () => Promise<McpSource>][] = [
  ['a program', async () => started('stdio')],
  [
    'streamable HTTP',
    async () => {
      const server = await httpServer();
      closing.push(server.close);
      return { url: server.url };
    },
  ],
];

describe.each(transports)('tools over %s', (_, source) => {
  test('are listed with their schemas, and called', { timeout: 60_000 }, async () => {
    const tools = await open(await source());
    expect(Object.keys(tools)).toEqual(['add', 'refuse', 'throw', 'picture', 'structure', 'sleep', 'die']);
    expect(tools.add).toMatchObject({ description: 'Adds two numbers.', parameters: { type: 'object', required: ['a', 'b'] } });
    expect(await call(tools, 'add', { a: 1, b: 2.5 })).toBe('3.5');
    expect(await call(tools, 'structure')).toBe('{"n":1}');
    expect(await call(tools, 'picture')).toBe(
      'Here:\n[image of type image/png, 6 bytes: not shown, since only text can be read here]\nembedded\n' +
        '[resource of type application/x-b, 3 bytes: not shown, since only text can be read here] file:///b.bin\nc: file:///c.txt',
    );
    await expect(call(tools, 'refuse')).rejects.toThrow('it is not Tuesday');
    await expect(call(tools, 'throw')).rejects.toThrow('out of order');
    await expect(call(tools, 'add', { a: 'x' })).rejects.toThrow(/a/);
  });

  test('that take too long or are aborted end, and others go on', { timeout: 60_000 }, async () => {
    const tools = await open(await source(), { callTimeoutMs: 200 });
    await expect(call(tools, 'sleep')).rejects.toThrow(/timed out/i);
    const controller = new AbortController();
    const sleeping = call(tools, 'sleep', {}, controller.signal);
    controller.abort(new Error('enough'));
    await expect(sleeping).rejects.toThrow('enough');
    expect(await call(tools, 'add', { a: 1, b: 1 })).toBe('2');
  });
});

test('calls that are given up are cancelled at the server', { timeout: 60_000 }, async () => {
  const cancelled: string[] = [];
  const server = await httpServer((name) => cancelled.push(name));
  closing.push(server.close);
  const tools = await open({ url: server.url, headers: { authorization: 'Bearer key' } });
  const controller = new AbortController();
  const sleeping = call(tools, 'sleep', {}, controller.signal);
  sleeping.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 200));
  controller.abort();
  await expect(sleeping).rejects.toThrow();
  for (let i = 0; i < 100 && cancelled.length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(cancelled).toEqual(['sleep']);
  expect(new Set(server.seen)).toEqual(new Set(['Bearer key']));
});

test('a server that dies midway fails its call and those after it, not the program', { timeout: 60_000 }, async () => {
  const tools = await open(started('stdio'));
  await expect(call(tools, 'die')).rejects.toThrow(/closed/i);
  await expect(call(tools, 'add', { a: 1, b: 2 })).rejects.toThrow();
});

test('names that collide are refused, and prefixes keep them apart', { timeout: 60_000 }, async () => {
  await expect(mcpTools([started('stdio'), started('stdio')])).rejects.toMatchObject({ code: 'REQUEST_INVALID', param: 'tools' });
  const tools = await open([started('stdio', { prefix: 'one_' }), started('stdio', { prefix: 'two_' })]);
  expect(Object.keys(tools)).toContain('one_add');
  expect(await call(tools, 'two_add', { a: 2, b: 2 })).toBe('4');
  const spread = { ...tools, own: { execute: () => 'mine' } };
  expect(Reflect.ownKeys(spread).every((key) => typeof key === 'string')).toBe(true);
});

describe('servers that give no tools', () => {
  test.each<[string, McpSource, object]>([
    ['a program that is not there', { command: '/no/such/program' }, { code: 'TOOL_SOURCE_FAILED' }],
    ['a program that ends at once', started('broken'), { code: 'TOOL_SOURCE_FAILED', hint: 'it said: no configuration found' }],
    ['an address where nobody listens', { url: 'http://127.0.0.1:9/mcp' }, { code: 'TOOL_SOURCE_FAILED' }],
    ['an address of another kind', { url: 'file:///etc/passwd' }, { code: 'REQUEST_INVALID', param: 'url' }],
    ['no program', { command: '' }, { code: 'REQUEST_INVALID', param: 'command' }],
  ])('%s', { timeout: 60_000 }, async (_, source, error) => {
    await expect(mcpTools(source)).rejects.toMatchObject(error);
  });

  test('one that says nothing, within the time that it has, and when it is aborted', { timeout: 60_000 }, async () => {
    await expect(mcpTools(started('silent'), { connectTimeoutMs: 300 })).rejects.toMatchObject({ code: 'TOOL_SOURCE_FAILED' });
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 100);
    await expect(mcpTools(started('silent'), { signal: controller.signal })).rejects.toMatchObject({ code: 'REQUEST_ABORTED' });
    await expect(mcpTools(started('stdio'), { callTimeoutMs: 0 })).rejects.toMatchObject({ code: 'REQUEST_INVALID', param: 'callTimeoutMs' });
  });
});

test('a chat calls them, and is told what goes wrong', { timeout: 60_000 }, async () => {
  const written = (name: string, args: string) => `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`;
  const scripts = [`${written('add', '{"a": 20, "b": 22}')}\n${written('refuse', '{}')}`, 'It is 42.'];
  const engine = new (class extends FakeEngine {
    override generate(...args: Parameters<FakeEngine['generate']>) {
      this.options.script = scripts.shift() ?? 'nothing';
      return super.generate(...args);
    }
  })({ scriptEnds: true, stepMs: 0, outputFormats: { toolCalls: 'hermes', reasoning: null } });
  const { messages, text } = await new LLM(engine).chat('Add.', { tools: await open(started('stdio')) });
  expect(text).toBe('It is 42.');
  expect(messages.filter(({ role }) => role === 'tool').map(({ content }) => content)).toEqual(['42', 'Error: it is not Tuesday']);
});
