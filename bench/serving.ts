/**
 * Our HTTP server and llama-server under the same load, in turn, as Markdown tables.
 *
 *   npx tsx bench/serving.ts load MODEL.gguf [--concurrency 1,4,16,32] [--llama-cpp FOLDER] [--rounds 1] [--only NAME]
 *   npx tsx bench/serving.ts prefix MODEL.gguf [...]
 *
 * `load`: prompts of 128 to 256 random tokens, 64 to 128 new ones, a closed loop at each concurrency; llama-server has as many slots as there are requests under
 * way, continuous batching and flash attention. `prefix`: 32 requests of a shared prefix of 1,024 tokens and 64 of their own, 8 under way, 64 to 128 new ones;
 * llama-server as it comes with eight slots, and set up as well as its documents allow: its client puts the prefix into every slot beforehand (`/slots` save and
 * restore). Each server is a fresh process with 2 threads; ours runs as it comes (`npm run build` first), its process and the client's share the processors with the
 * kernels, as llama-server's do. LLAMA_CPP_BIN names the folder of llama-server when --llama-cpp does not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { seededRandom } from '../src/bench/random-prompts.ts';
import { benchServe, type ServeLoadOptions, type ServeLoadReport, serveLoadWork } from '../src/bench/serve-load.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    concurrency: { type: 'string', default: '1,4,16,32' },
    'llama-cpp': { type: 'string', default: process.env.LLAMA_CPP_BIN ?? '' },
    rounds: { type: 'string', default: '1' },
    threads: { type: 'string', default: '2' },
    only: { type: 'string', multiple: true },
    'vocab-size': { type: 'string', default: '50000' },
  },
});
const [scenario, model] = positionals;
if (model === undefined || (scenario !== 'load' && scenario !== 'prefix')) throw new Error('usage: serving.ts load|prefix MODEL.gguf');
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const bin = values['llama-cpp'];

interface Served {
  readonly name: string;
  start(port: number, slots: number): { readonly program: string; readonly args: readonly string[] };
  /** What the client does before the load; its time is shown apart. */
  prepare?(url: string, options: ServeLoadOptions, slots: number): Promise<void>;
}

const millrace: Served = {
  name: 'Millrace',
  start: (port) => ({
    program: process.execPath,
    args: [path.join(root, 'dist', 'cli', 'main.js'), 'serve', model, '--port', String(port), '--threads', values.threads, '--log-level', 'error'],
  }),
};
const slotFolder = mkdtempSync(path.join(tmpdir(), 'millrace-slots-'));
const llamaServer = (name: string, contextOfSlot: number, flags: readonly string[]): Served => ({
  name,
  start: (port, slots) => ({
    program: path.join(bin, 'llama-server'),
    args: [
      '-m',
      model,
      '-t',
      values.threads,
      '-tb',
      values.threads,
      '-np',
      String(slots),
      '-c',
      String(slots * contextOfSlot),
      '--host',
      '127.0.0.1',
      '--port',
      String(port),
      '--no-ui',
      ...flags,
    ],
  }),
});
const servers: readonly Served[] =
  scenario === 'load'
    ? [millrace, llamaServer('llama-server', 512, ['-fa', 'on', '-cb'])]
    : [
        millrace,
        llamaServer('llama-server', 1536, []),
        {
          ...llamaServer('llama-server, prefix placed in every slot by the client', 1536, [
            '-fa',
            'on',
            '-cb',
            '--no-kv-unified',
            '--slot-save-path',
            slotFolder,
          ]),
          prepare: placePrefix,
        },
      ];

async function placePrefix(url: string, options: ServeLoadOptions, slots: number): Promise<void> {
  const prompt = Array.from(serveLoadWork(options, seededRandom(options.seed)).prefix);
  await post(`${url}/completion`, { prompt, n_predict: 0, id_slot: 0, cache_prompt: true });
  await post(`${url}/slots/0?action=save`, { filename: 'prefix' });
  for (let slot = 1; slot < slots; slot++) await post(`${url}/slots/${slot}?action=restore`, { filename: 'prefix' });
}

async function post(url: string, body: object): Promise<void> {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status} ${(await response.text()).slice(0, 300)}`);
  await response.arrayBuffer();
}

const jobs =
  scenario === 'load'
    ? values.concurrency.split(',').map((text) => ({
        slots: Number(text),
        numPrompts: Math.max(8, Math.min(64, 3 * Number(text))),
        inputLen: 192,
        prefixLen: 0,
        rangeRatio: 1 / 3,
      }))
    : [{ slots: 8, numPrompts: 32, inputLen: 64, prefixLen: 1024, rangeRatio: 0 }];

interface Measured extends ServeLoadReport {
  readonly setUpMs: number;
}

async function measure(served: Served, job: (typeof jobs)[number], seed: number): Promise<Measured> {
  const port = await freePort();
  const { program, args } = served.start(port, job.slots);
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, OMP_NUM_THREADS: values.threads } });
  let errors = '';
  child.stderr.on('data', (bytes) => {
    errors = (errors + bytes).slice(-2000);
  });
  try {
    const url = `http://127.0.0.1:${port}`;
    await whenReady(url, child, () => errors);
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    const options: ServeLoadOptions = {
      ...{ baseUrl: `${url}/v1`, model: data[0].id, apiKey: null, requestRate: Number.POSITIVE_INFINITY, burstiness: 1 },
      ...{ maxConcurrency: job.slots, numPrompts: job.numPrompts, inputLen: job.inputLen, prefixLen: job.prefixLen },
      // the outputs of the prefix load are as long as its issue has them on average: all alike, so that servers end with the same work
      ...(scenario === 'load' ? { outputLen: 96, rangeRatio: job.rangeRatio } : { outputLen: 96, rangeRatio: 0 }),
      ...{ vocabSize: Number(values['vocab-size']), seed, percentiles: [50, 99], goodput: {} },
    };
    // one short request first, so that nobody pays for what only a first one pays
    await benchServe({ ...options, numPrompts: 1, inputLen: 16, outputLen: 4, prefixLen: 0, rangeRatio: 0, seed: seed + 1000 });
    const start = performance.now();
    await served.prepare?.(url, options, job.slots);
    const setUpMs = performance.now() - start;
    const report = await benchServe(options);
    if (report.failed > 0) throw new Error(`${served.name}: ${report.failed} requests failed: ${report.errors[0]}`);
    return { ...report, setUpMs };
  } finally {
    await stop(child);
  }
}

async function whenReady(url: string, child: ChildProcess, errors: () => string): Promise<void> {
  for (let i = 0; i < 600; i++) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}: ${errors()}`);
    const ready = await fetch(`${url}/health`).then(
      async (response) => {
        await response.arrayBuffer();
        return response.ok;
      },
      () => false,
    );
    if (ready) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('the server did not become ready in a minute');
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await ended;
  clearTimeout(timer);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const median = (numbers: number[]): number => {
  numbers.sort((a, b) => a - b);
  return (numbers[(numbers.length - 1) >> 1] + numbers[numbers.length >> 1]) / 2;
};

console.log(`${path.relative(root, path.resolve(model))}, ${values.rounds} round(s), ${values.threads} threads\n`);
const header = ['server', 'under way', 'requests', 'output tok/s', 'seconds', 'set-up s', 'TTFT p50 / worst ms', 'ITL p50 / p99 ms'];
console.log(`| ${header.join(' | ')} |\n|${header.map(() => '---').join('|')}|`);
const chosen = servers.filter(({ name }) => values.only === undefined || values.only.includes(name));
const ratios: string[] = [];
try {
  for (const job of jobs) {
    const reports = new Map<string, Measured[]>(chosen.map(({ name }) => [name, []]));
    for (let round = 0; round < Number(values.rounds); round++)
      for (const served of chosen) reports.get(served.name)?.push(await measure(served, job, 1 + round));
    const of = (name: string, pick: (report: Measured) => number): number => median((reports.get(name) ?? []).map(pick));
    for (const { name } of chosen) {
      const ttft = `${of(name, (r) => r.ttft?.percentiles.p50 ?? 0).toFixed(0)} / ${of(name, (r) => r.ttft?.max ?? 0).toFixed(0)}`;
      const itl = `${of(name, (r) => r.itl?.percentiles.p50 ?? 0).toFixed(1)} / ${of(name, (r) => r.itl?.percentiles.p99 ?? 0).toFixed(1)}`;
      const rate = of(name, (r) => r.outputTokensPerSecond).toFixed(1);
      const [seconds, setUp] = [of(name, (r) => r.durationMs / 1000).toFixed(1), of(name, (r) => r.setUpMs / 1000).toFixed(1)];
      console.log(`| ${[name, job.slots, job.numPrompts, rate, seconds, setUp, ttft, itl].join(' | ')} |`);
      if (name === millrace.name || !reports.has(millrace.name)) continue;
      const time = of(name, (r) => r.durationMs) / of(millrace.name, (r) => r.durationMs);
      const withSetUp = of(name, (r) => r.durationMs + r.setUpMs) / of(millrace.name, (r) => r.durationMs);
      const worst = of(name, (r) => r.ttft?.max ?? 0) / of(millrace.name, (r) => r.ttft?.max ?? 1);
      ratios.push(
        `- ${job.slots} under way, Millrace against ${name}: total time ${time.toFixed(2)} times better (${withSetUp.toFixed(2)} with its set-up), worst TTFT ${worst.toFixed(2)} times.`,
      );
    }
  }
  console.log(`\n${ratios.join('\n')}`);
} finally {
  rmSync(slotFolder, { recursive: true, force: true });
}
