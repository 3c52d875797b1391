import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { MillraceError } from '../../src/base/errors.ts';
import { parseGoodput } from '../../src/cli/commands/bench.ts';
import { curlLine } from '../../src/cli/commands/serve.ts';
import { defaultModel } from '../../src/cli/default-model.ts';
import { serverFlags, serverOptions } from '../../src/cli/server-flags.ts';
import { forScreen } from '../../src/cli/terminal-text.ts';
import { loadEngine } from '../../src/engine/load.ts';
import { resolveServerOptions } from '../../src/server/options.ts';
import { fakeEngine } from './fake-engine.ts';
import { cli } from './run-cli.ts';

afterEach(() => {
  delete process.env.MILLRACE_MAX_MODEL_LEN;
  delete process.env.MILLRACE_ENABLE_PREFIX_CACHING;
  delete process.env.MILLRACE_WRITE_TIMEOUT;
});

test('help and version go to stdout and end well', async () => {
  const help = await cli(['--help']);
  expect(help.code).toBe(0);
  for (const command of ['serve', 'chat', 'run', 'inspect', 'bench']) expect(help.stdout).toContain(command);
  expect((await cli(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+/);
});

test('an unknown flag is refused with the flag that was meant', async () => {
  const { code, stderr } = await cli(['serve', '--max-modl-len', '100']);
  expect(code).toBe(2);
  expect(stderr).toContain("unknown option '--max-modl-len'");
  expect(stderr).toContain('--max-model-len');
  expect(stderr).toContain('millrace serve --help');
});

test('an unknown command is refused with the command that was meant', async () => {
  const { code, stderr } = await cli(['srve']);
  expect(code).toBe(2);
  expect(stderr).toMatch(/Did you mean serve/);
});

test('flags reach the engine by their names, with suffixes, choices and both ways to name the model', async () => {
  const engine = fakeEngine();
  const { loaded, code } = await cli(
    [
      'run',
      '--model',
      '/m',
      '--max-model-len',
      '2K',
      '--max-num-batched-tokens',
      '1k',
      '--dtype',
      'bfloat16',
      '--threads',
      'auto',
      '--no-enable-prefix-caching',
      'Hi',
    ],
    { engine },
  );
  expect(code).toBe(0);
  expect(loaded).toEqual([
    { model: '/m', maxModelLen: 2048, maxNumBatchedTokens: 1000, dtype: 'bfloat16', threads: 'auto', enablePrefixCaching: false },
  ]);
  expect((await cli(['inspect', '/other', '--served-model-name', 'a', 'b'], { engine })).loaded).toEqual([
    { model: '/other', servedModelName: ['a', 'b'] },
  ]);
});

test('a flag may come from the environment, and the command line goes before', async () => {
  process.env.MILLRACE_MAX_MODEL_LEN = '512';
  const engine = fakeEngine();
  expect((await cli(['inspect', '/m'], { engine })).loaded[0].maxModelLen).toBe(512);
  expect((await cli(['inspect', '/m', '--max-model-len', '64'], { engine })).loaded[0].maxModelLen).toBe(64);
  process.env.MILLRACE_ENABLE_PREFIX_CACHING = '0';
  expect((await cli(['inspect', '/m'], { engine })).loaded[0].enablePrefixCaching).toBe(false);
  expect((await cli(['inspect', '/m', '--enable-prefix-caching'], { engine })).loaded[0].enablePrefixCaching).toBe(true);
});

test.each([
  [['serve', '/m', '--max-model-len', 'many'], '--max-model-len', 'an integer'],
  [['serve', '/m', '--dtype', 'float8'], '--dtype', 'bfloat16'],
  [['serve', '/m', '--port', '70000'], '--port', '0 to 65535'],
  [['serve', '/m', '--ping-interval', '0'], '--ping-interval', '0.001 to 2147483'],
  [['serve', '/m', '--stall-timeout', 'inf'], '--stall-timeout', '0.001 to 2147483'],
  [['serve', '/m', '--shutdown-timeout', '-1'], '--shutdown-timeout', '0 to 2147483'],
  [['serve', '/m', '--max-body-bytes', '0'], '--max-body-bytes', '1 to 268435456'],
  [['bench', 'offline', '/m', '--repetitions', '0'], '--repetitions', 'at least 1'],
  [['bench', 'serve', '--model', 'm', '--goodput', 'ttft'], '--goodput', 'ttft:MS'],
])('%j is refused with the flag and what it takes', async (args, flag, expected) => {
  const { code, stderr } = await cli(args, { engine: fakeEngine() });
  expect(code).toBe(2);
  expect(stderr).toContain('CONFIG_INVALID');
  expect(stderr).toContain(flag);
  expect(stderr).toContain(expected);
});

test('an error is printed as code, message and hint without a stack; with --debug, with one; with --json, as JSON', async () => {
  const loadError = new MillraceError('MODEL_NOT_FOUND', { message: 'There is nothing at /m.', hint: 'give a folder with a config.json' });
  const plain = await cli(['run', '--model', '/m', 'Hi'], { loadError });
  expect(plain.code).toBe(1);
  expect(plain.stderr).toContain('MODEL_NOT_FOUND: There is nothing at /m.\n  hint: give a folder with a config.json\n');
  expect(plain.stderr).not.toContain('    at ');
  expect((await cli(['run', '--debug', '--model', '/m', 'Hi'], { loadError })).stderr).toContain('    at ');
  const json = await cli(['run', '--json', '--model', '/m', 'Hi'], { loadError });
  expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'MODEL_NOT_FOUND', hint: 'give a folder with a config.json' } });
});

test('run asks through the template where there is one, and continues the text where there is none', async () => {
  const chat = fakeEngine();
  expect((await cli(['run', 'Tell', 'me', '--system', 'Be brief'], { engine: chat })).stdout).toBe('Once upon\n');
  expect(chat.calls[0].input).toEqual({
    messages: [
      { role: 'system', content: 'Be brief' },
      { role: 'user', content: 'Tell me' },
    ],
  });
  expect(chat.closed).toBe(true);
  const plain = fakeEngine({ hasChatTemplate: false });
  await cli(['run', 'Tell me', '--temperature', '0', '--seed', '-5', '--stop', 'a', '--stop', 'b', '--max-tokens', '9'], { engine: plain });
  expect(plain.calls[0]).toEqual({ input: { prompt: 'Tell me' }, params: { temperature: 0, seed: -5, stop: ['a', 'b'], maxTokens: 9 } });
  const forced = fakeEngine();
  await cli(['run', '--no-chat', 'Tell me'], { engine: forced });
  expect(forced.calls[0].input).toEqual({ prompt: 'Tell me' });
});

test('run reads its prompt from stdin or a file, and says so when there are two or none', async () => {
  const engine = fakeEngine({ hasChatTemplate: false });
  await cli(['run'], { engine, stdin: 'piped text' });
  await cli(['run', '-'], { engine, stdin: 'dashed text' });
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'millrace-cli-')), 'prompt.txt');
  writeFileSync(file, 'from a file');
  await cli(['run', '--file', file], { engine });
  expect(engine.calls.map((call) => call.input)).toEqual([{ prompt: 'piped text' }, { prompt: 'dashed text' }, { prompt: 'from a file' }]);
  expect((await cli(['run', '--file', file, 'and more'], { engine })).code).toBe(2);
  expect((await cli(['run', '--file', '/nowhere/at/all'], { engine })).stderr).toContain('CONFIG_INVALID');
});

test('run --json prints the result and nothing else', async () => {
  const { stdout, stderr } = await cli(['run', '--json', 'Hi'], { engine: fakeEngine() });
  expect(JSON.parse(stdout)).toMatchObject({ choices: [{ text: 'Once upon', finishReason: 'stop' }], usage: { completionTokens: 2 } });
  expect(stderr).toBe('');
});

test('a signal stops the answer, and the exit code says so', async () => {
  const engine = fakeEngine({ answer: Array.from({ length: 200 }, () => '.'), tokenMs: 5 });
  const { code, stdout } = await cli(['run', 'Hi'], { engine, onListening: (send) => setTimeout(() => send('SIGINT'), 30) });
  expect(code).toBe(130);
  expect(stdout.length).toBeLessThan(150);
  expect(engine.closed).toBe(true);
});

test('chat keeps the conversation, follows its commands and goes on after an error', async () => {
  const engine = fakeEngine({ answer: ['Hello'] });
  const { stdout, stderr, code } = await cli(['chat', '--system', 'Be kind'], {
    engine,
    stdin: 'first\nsecond\n/system Be rude\nthird\n/nonsense\n/reset\nfourth\n/exit\nnever asked\n',
  });
  expect(code).toBe(0);
  expect(stdout).toBe('Hello\nHello\nHello\nHello\n');
  const asked = engine.calls.map(({ input }) => ('messages' in input ? input.messages.map((message) => `${message.role}: ${message.content}`) : []));
  expect(asked[0]).toEqual(['system: Be kind', 'user: first']);
  expect(asked[1]).toEqual(['system: Be kind', 'user: first', 'assistant: Hello', 'user: second']);
  expect(asked[2]).toEqual(['system: Be rude', 'user: third']);
  expect(asked[3]).toEqual(['system: Be rude', 'user: fourth']);
  expect(stderr).toContain('unknown command /nonsense');
});

test('chat refuses to offer tools to a model whose way of calling nobody knows', async () => {
  const { code, stderr } = await cli(['chat', '--demo-tools'], { engine: fakeEngine(), stdin: 'Hello\n' });
  expect(code).toBe(1);
  expect(stderr).toMatch(/NOT_SUPPORTED.*tool calls/);
});

test('run takes every sampler as a flag', async () => {
  const engine = fakeEngine();
  const flags = {
    ...{
      'typical-p': 0.9,
      'top-n-sigma': 2,
      'xtc-probability': 0.5,
      'xtc-threshold': 0.2,
      'dry-multiplier': 0.8,
      'dry-base': 1.5,
      'dry-allowed-length': 3,
    },
    ...{
      'dry-range': 64,
      mirostat: 2,
      'mirostat-tau': 4,
      'mirostat-eta': 0.2,
      'dynatemp-range': 0.5,
      'dynatemp-exponent': 2,
      'thinking-token-budget': 9,
    },
  };
  const given = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const lists = ['--bad-word', 'x', '--bad-word', 'y', '--allowed-token-ids', '1,2', '--dry-sequence-breaker', ';'];
  expect((await cli(['run', ...given, ...lists, 'Once'], { engine })).code).toBe(0);
  expect(engine.calls[0]?.params).toMatchObject({
    ...{ typicalP: 0.9, topNSigma: 2, xtcProbability: 0.5, xtcThreshold: 0.2, dryMultiplier: 0.8, dryBase: 1.5, dryAllowedLength: 3, dryRange: 64 },
    ...{ mirostatMode: 2, mirostatTau: 4, mirostatEta: 0.2, dynatempRange: 0.5, dynatempExponent: 2, thinkingTokenBudget: 9 },
    ...{ badWords: ['x', 'y'], allowedTokenIds: [1, 2], drySequenceBreakers: [';'] },
  });
});

test('run prints several answers one after another, and log probabilities as JSON', async () => {
  const engine = fakeEngine();
  expect((await cli(['run', '--n', '2', '--best-of', '3', 'Once'], { engine })).stdout).toBe('Once upon\n');
  const real = await loadEngine({ model: 'models/random-tiny', loadFormat: 'dummy', backend: 'reference' });
  const { stdout } = await cli(['run', '--no-chat', '--n', '2', '--max-tokens', '3', 'Once'], { engine: real });
  expect(stdout).toMatch(/^--- 1 ---\n[\s\S]*\n--- 2 ---\n[\s\S]*\n$/);
  expect((await cli(['run', '--beam-width', '4', 'Once'], { engine })).stdout).toBe('Once upon\n');
  expect((await cli(['run', '--logprobs', '3', '--json', 'Once'], { engine })).code).toBe(0);
  expect(engine.calls.map(({ params }) => params)).toEqual([
    { n: 2, bestOf: 3 },
    { beamWidth: 4, useBeamSearch: true },
    { topLogprobs: 3, logprobs: true },
  ]);
  expect(await cli(['run', '--logprobs', '3', 'Once'], { engine })).toMatchObject({ code: 2, stderr: expect.stringContaining('--json') });
  expect(await cli(['run', '--n', '3', '--best-of', '2', 'Once'], { engine })).toMatchObject({ code: 2, stderr: expect.stringContaining('best_of') });
});

test('chat offers the tools of MCP servers and calls them', { timeout: 60_000 }, async () => {
  const engine = fakeEngine({ answer: ['<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'] });
  Object.assign(engine.model, { outputFormats: { toolCalls: 'hermes', reasoning: null } });
  const server = fileURLToPath(new URL('../fixtures/mcp-server.ts', import.meta.url));
  const { code } = await cli(['chat', '--mcp', `${process.execPath} --import tsx "${server}" stdio`], { engine, stdin: 'Hello\n' });
  expect(code).toBe(0);
  const [first, second] = engine.calls.map(({ input }) => ('messages' in input ? input : null));
  expect(first?.template?.tools?.[0]).toMatchObject({ function: { name: 'add', description: 'Adds two numbers.' } });
  expect(second?.messages.at(-1)).toMatchObject({ role: 'tool', content: '3' });
  const refused = await cli(['chat', '--mcp', '/no/such/program'], { engine, stdin: 'Hello\n' });
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('TOOL_SOURCE_FAILED')]);
});

test('chat without a template says what to do instead', async () => {
  const { code, stderr } = await cli(['chat', '/m'], { engine: fakeEngine({ hasChatTemplate: false }) });
  expect(code).toBe(1);
  expect(stderr).toContain('CHAT_TEMPLATE_MISSING');
});

test('inspect shows model, memory, reasons, and format, activation and kernel of each tensor', async () => {
  const { stdout } = await cli(['inspect', '/m'], { engine: fakeEngine() });
  expect(stdout).toContain('threads = 2: the machine has 2');
  expect(stdout).toMatch(/layers\.0\.q +linear +q8_0 +64 x 64 +4\.\d KiB +bf16 +linear_q8_0_avx2/);
  const report = JSON.parse((await cli(['inspect', '/m', '--json'], { engine: fakeEngine() })).stdout);
  expect(report.nodes[1]).toMatchObject({ node: 'layers.0.q', activation: 'bf16', weights: [{ format: 'q8_0', sizeBytes: (64 * 64 * 34) / 32 }] });
});

test('bench load opens the engine as often as asked and prints seconds and weights', async () => {
  const engine = fakeEngine({ tokenMs: 1 });
  const { stdout, code } = await cli(['bench', 'load', '/m', '--repetitions', '3'], { engine });
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /GB of weights in \d+\.\d\d s \(.*repacking included\nloads in order: \d+\.\d\d, \d+\.\d\d, \d+\.\d\d s; first token after \d+ ms more/,
  );
  const report = JSON.parse((await cli(['bench', 'load', '/m', '--repetitions', '2', '--json'], { engine })).stdout);
  expect(report.seconds).toHaveLength(2);
  expect(report.weightBytes).toBeGreaterThan(0);
});

test('bench compare refuses what it cannot run', async () => {
  const compare = (...more: string[]) => cli(['bench', 'compare', '/m.gguf', ...more]);
  expect((await compare('--only', 'nobody')).stderr).toContain('one of Millrace');
  expect((await compare('--peer', 'x')).stderr).toContain('NAME=WORDS');
  expect((await compare('--output-len', '1')).stderr).toContain('at least 2');
});

test('bench kernels names ops and formats that there are', async () => {
  expect((await cli(['bench', 'kernels', '--formats', 'q9_0'])).stderr).toContain('q8_0');
  expect((await cli(['bench', 'kernels', '--ops', 'nothing'])).stderr).toContain('attention');
  expect((await cli(['bench', 'kernels', '--regions', '0'])).stderr).toContain('at least 1');
});

test('bench offline --profile shows where the time of steps goes, and says so where a backend does not count', async () => {
  const args = ['bench', 'offline', '/m', '--batch-size', '1', '--output-len', '4', '--repetitions', '1', '--profile'];
  expect((await cli(args, { engine: fakeEngine() })).stderr).toContain('--backend cpu');
  const totals = { numSteps: 0, totalForwardMs: 0, totalSampleMs: 0, totalHostMs: 0 };
  const profile = () => {
    totals.numSteps += 2;
    totals.totalForwardMs += 3;
    return [{ node: 'logits', op: 'linear', calls: 2, microseconds: 2000, waitMicroseconds: 0 }];
  };
  const { stdout, code } = await cli(args, { engine: Object.assign(fakeEngine({ tokenMs: 1 }), { totals, profile }) });
  expect(code).toBe(0);
  expect(stdout).toMatch(/decode of 1, prompts of 32\nnode .*\nlogits \(linear\) +1 +1000\.0 /);
  expect(stdout).toMatch(/whole step/);
});

test('bench offline prints rates of prefill and decode, and the same as JSON', async () => {
  const args = [
    'bench',
    'offline',
    '/m',
    '--batch-size',
    '1,3',
    '--input-len',
    '8',
    '--decode-input-len',
    '2',
    '--output-len',
    '6',
    '--repetitions',
    '2',
  ];
  const { stdout, code } = await cli(args, { engine: fakeEngine({ tokenMs: 2 }) });
  expect(code).toBe(0);
  expect(stdout).toMatch(/prefill +1 +8 +1 +\d+\.\d/);
  expect(stdout).toMatch(/decode +3 +2 +6 +\d+\.\d/);
  const report = JSON.parse((await cli([...args, '--json'], { engine: fakeEngine({ tokenMs: 2 }) })).stdout);
  expect(report.results).toHaveLength(3);
  expect(report.results[2]).toMatchObject({ phase: 'decode', batchSize: 3, hostMsPerStep: { median: 0.25 } });
});

test('serve prints address and a curl line, stops at a signal and closes the engine', async () => {
  const engine = fakeEngine();
  const { stdout, code, served } = await cli(
    ['serve', '/m', '--port', '0', '--api-key', 'k1', '--api-key', 'k2', '--shutdown-timeout', '5', '--measure'],
    {
      engine,
      onListening: (send) => setTimeout(() => send('SIGTERM'), 100),
    },
  );
  expect(code).toBe(0);
  expect(stdout).toContain('http://127.0.0.1:1234');
  expect(stdout).toContain("curl http://127.0.0.1:1234/v1/chat/completions -H 'content-type: application/json' -d '{");
  expect(served[0]).toMatchObject({ port: 0, apiKeys: ['k1', 'k2'], drainMs: 5000 });
  expect(engine.closed).toBe(true);
});

test('every limit of the server has a flag and an environment variable', async () => {
  process.env.MILLRACE_WRITE_TIMEOUT = '7';
  const { served } = await cli(['serve', '/m', '--port', '0', '--max-body-bytes', '64K', '--ping-interval', '0.5', '--stall-timeout', '9'], {
    engine: fakeEngine(),
    onListening: (send) => setTimeout(() => send('SIGTERM'), 10),
  });
  expect(served[0]).toMatchObject({ limits: { bodyBytes: 65_536 }, pingIntervalMs: 500, stallMs: 9000, writeTimeoutMs: 7000 });
  expect(served[0]).not.toHaveProperty('drainMs');
});

test('the defaults that flags show are those of the server', () => {
  const resolved = resolveServerOptions(serverOptions(Object.fromEntries(serverFlags.map((flag) => [flag.name, flag.default])), process.stderr));
  const { log: _, ...expected } = resolveServerOptions({});
  expect(resolved).toMatchObject(expected);
});

test('serve --json says in one line where it listens', async () => {
  const { stdout } = await cli(['serve', '/m', '--port', '0', '--json'], {
    engine: fakeEngine(),
    onListening: (send) => setTimeout(() => send('SIGINT'), 10),
  });
  expect(JSON.parse(stdout)).toEqual({ event: 'listening', url: 'http://127.0.0.1:1234', model: 'fake' });
});

test('a taken port is said before a model is loaded, with what to do', async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  const { port } = other.address() as { port: number };
  try {
    const { code, stderr, loaded } = await cli(['serve', '/m', '--port', String(port)], { engine: fakeEngine() });
    expect(code).toBe(1);
    expect(stderr).toContain('PORT_IN_USE');
    expect(stderr).toContain(`--port ${port + 1}`);
    expect(loaded).toEqual([]);
  } finally {
    other.close();
  }
});

test('without a model the trained one is served, or a random one that says so', async () => {
  const root = mkdtempSync(path.join(tmpdir(), 'millrace-cli-'));
  expect(defaultModel(root)).toMatchObject({ loadFormat: 'dummy', servedName: 'random-tiny' });
  expect(defaultModel(root).notice).toMatch(/random weights/);
  mkdirSync(path.join(root, 'pocket', 'model'), { recursive: true });
  writeFileSync(path.join(root, 'pocket', 'model', 'config.json'), '{}');
  expect(defaultModel(root)).toMatchObject({ loadFormat: 'auto', servedName: 'pocket', notice: null });
});

test('the curl line survives names with quotes', () => {
  expect(curlLine('http://h', "it's", false)).toContain(`"model":"it'\\''s"`);
});

test('goodput bounds are read as vLLM writes them', () => {
  expect(parseGoodput(['ttft:200 tpot:50', 'e2el:1000'])).toEqual({ ttft: 200, tpot: 50, e2el: 1000 });
});

test('control sequences of a model do not reach a terminal, and pipes get the exact text', () => {
  const text = 'a\u001b[31mred\u009b2J\r\n\tü';
  expect(forScreen(text, true)).toBe('a\ufffd[31mred\ufffd2J\ufffd\n\tü');
  expect(forScreen(text, false)).toBe(text);
});
