import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';

const repository = path.resolve(import.meta.dirname, '..', '..');
// In this very process: the tsx command is a parent that sometimes ends before its child has handled a signal.
const tsx = ['--import', 'tsx'];
const children = new Set<ChildProcess>();

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});

interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts a Node script; `line` resolves with the first line of stdout that fits. */
function start(args: readonly string[], input = ''): { child: ChildProcess; line(pattern: RegExp): Promise<string>; end: Promise<Finished> } {
  const child = spawn(process.execPath, args, { cwd: repository, stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } });
  children.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (bytes) => {
    stdout += bytes;
  });
  child.stderr?.on('data', (bytes) => {
    stderr += bytes;
  });
  child.stdin?.end(input);
  const end = new Promise<Finished>((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })));
  const line = async (pattern: RegExp): Promise<string> => {
    for (;;) {
      const found = stdout.split('\n').find((each) => pattern.test(each));
      if (found !== undefined) return found;
      if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode}: ${stdout}${stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  return { child, line, end };
}

/** `millrace ...` from the sources, on the reference backend and the random model that comes with the package. */
const millrace = (args: readonly string[], input = '') => start([...tsx, 'src/cli/main.ts', ...args], input);
const model = ['--model', 'models/random-tiny', '--load-format', 'dummy', '--backend', 'reference'];

test('run answers from a real model, the same for the same seed, through a pipe', async () => {
  const args = ['run', ...model, '--no-chat', '--json', '--seed', '3', '--max-tokens', '6', '--ignore-eos'];
  const [first, second] = await Promise.all([millrace(args, 'Once').end, millrace([...args, 'Once']).end]);
  expect(first.code, first.stderr).toBe(0);
  const [a, b] = [first, second].map(({ stdout }) => JSON.parse(stdout));
  expect(a.choices[0].tokenIds).toHaveLength(6);
  expect(a.choices).toEqual(b.choices);
});

test('inspect and bench offline describe and measure a real model', async () => {
  const [inspect, bench] = await Promise.all([
    millrace(['inspect', ...model, '--json']).end,
    millrace([
      'bench',
      'offline',
      ...model,
      '--batch-size',
      '2',
      '--input-len',
      '8',
      '--output-len',
      '8',
      '--repetitions',
      '1',
      '--warmup',
      '0',
      '--json',
    ]).end,
  ]);
  expect(inspect.code, inspect.stderr).toBe(0);
  const report = JSON.parse(inspect.stdout);
  expect(report.backend.name).toBe('reference');
  expect(report.nodes.every((node: { kernel: unknown }) => typeof node.kernel === 'string')).toBe(true);
  expect(bench.code, bench.stderr).toBe(0);
  const { results } = JSON.parse(bench.stdout);
  expect(results.map((row: { phase: string }) => row.phase)).toEqual(['prefill', 'decode']);
  expect(results.every((row: { tokensPerSecond: { median: number } }) => row.tokensPerSecond.median > 0)).toBe(true);
});

test('serve answers, takes a load, and ends with 0 at SIGTERM', async () => {
  const { child, line, end } = millrace(['serve', ...model, '--port', '0', '--json', '--served-model-name', 'tiny']);
  const { url } = JSON.parse(await line(/listening/));
  const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
  expect(models.data[0].id).toBe('tiny');
  const load = [
    'bench',
    'serve',
    '--base-url',
    `${url}/v1`,
    '--num-prompts',
    '4',
    '--max-concurrency',
    '2',
    '--random-output-len',
    '4',
    '--random-input-len',
    '8',
  ];
  const bench = await millrace([...load, '--json']).end;
  expect(bench.code, bench.stderr).toBe(0);
  expect(JSON.parse(bench.stdout)).toMatchObject({ completed: 4, failed: 0 });
  child.kill('SIGTERM');
  expect((await end).code).toBe(0);
});

test('a model that is not there is one clear error', async () => {
  const { code, stderr } = await millrace(['serve', '/no/such/model', '--port', '0']).end;
  expect(code).toBe(1);
  expect(stderr).toMatch(/millrace: MODEL_NOT_FOUND: .*\/no\/such\/model/);
  expect(stderr).not.toContain('    at ');
});

// Only under `npm test`, which has built everything: the start script would compile otherwise.
describe.skipIf(process.env.MILLRACE_BUILT !== '1')('npm start', () => {
  test('starts without compiling again, prints a curl line that works and the speed, and stops at Ctrl-C', async () => {
    const { child, line, end } = start(['scripts/run.cjs', 'start', '--port', '0']);
    const [, url, body] = /curl (\S+) .*-d '(.*)'/.exec(await line(/try +curl/)) ?? [];
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    expect(response.status).toBe(200);
    await line(/speed +about [\d.]+ tokens\/s/);
    // as from a terminal under npm: the signal comes twice, and that is one wish
    child.kill('SIGINT');
    child.kill('SIGINT');
    const { code, stderr } = await end;
    expect(code, stderr).toBe(0);
    expect(stderr).not.toContain('compiling');
  });

  test('says which port is taken and what to do', async () => {
    const first = start(['scripts/run.cjs', 'start', '--port', '0', '--backend', 'reference']);
    const [, port] = /:(\d+) /.exec(await first.line(/address/)) ?? [];
    const second = await start(['scripts/run.cjs', 'start', '--port', port]).end;
    expect(second.code).toBe(1);
    expect(second.stderr).toMatch(new RegExp(`PORT_IN_USE: .*${port}`));
    first.child.kill('SIGTERM');
    await first.end;
  });
});
