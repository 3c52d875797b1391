/** `millrace bench`: offline, serve, cache and step; its other subcommands have files of their own. */
import { Command } from 'commander';
import { NullBackend } from '../../backends/null/null-backend.ts';
import { MillraceError } from '../../base/errors.ts';
import { benchKvCache, type KvCacheBenchOptions, kvCacheText } from '../../bench/kv-cache.ts';
import type { OfflineOptions } from '../../bench/offline.ts';
import { benchOffline } from '../../bench/offline.ts';
import { offlineText, serveText } from '../../bench/report.ts';
import { benchServe, type ServeLoadOptions } from '../../bench/serve-load.ts';
import { benchStep, type StepBenchOptions, stepText } from '../../bench/step.ts';
import { ByteTokenizer } from '../../tokenizer/byte-tokenizer.ts';
import type { CliContext } from '../context.ts';
import { addEngineFlags, loadWithProgress } from '../engine-flags.ts';
import { addFlags, type FlagDeclaration } from '../flags.ts';
import { Interrupted } from '../interrupted.ts';
import { type OfflineProfile, offlineProfileText, profileHooks } from '../offline-profile.ts';
import { Progress } from '../progress.ts';
import { benchCompareCommand } from './bench-compare.ts';
import { atLeast, withDefaults } from './bench-flags.ts';
import { benchKernelsCommand } from './bench-kernels.ts';
import { benchLoadCommand } from './bench-load.ts';

const offlineFlags: readonly FlagDeclaration[] = [
  {
    name: 'prefillBatchSizes',
    flag: 'prefill-batch-size',
    kind: 'integers',
    env: null,
    default: [1],
    placeholder: 'N,N',
    meaning: 'rows that prefill at once',
  },
  {
    name: 'batchSizes',
    flag: 'batch-size',
    kind: 'integers',
    env: null,
    default: [1, 8, 16],
    placeholder: 'N,N',
    meaning: 'rows that decode at once',
  },
  { name: 'inputLen', flag: 'input-len', kind: 'integer', env: null, default: 512, meaning: 'prompt tokens a row, for prefill' },
  { name: 'decodeInputLen', flag: 'decode-input-len', kind: 'integer', env: null, default: 32, meaning: 'prompt tokens a row, for decode' },
  { name: 'outputLen', flag: 'output-len', kind: 'integer', env: null, default: 64, meaning: 'tokens generated a row' },
  {
    name: 'depths',
    flag: 'depth',
    kind: 'integers',
    env: null,
    default: [],
    placeholder: 'N,N',
    meaning: 'prompt tokens behind which one row decodes, measured once each',
  },
  { name: 'warmup', flag: 'warmup', kind: 'integer', env: null, default: 1, meaning: 'runs left out of the figures' },
  {
    name: 'repetitions',
    flag: 'repetitions',
    kind: 'integer',
    env: null,
    default: 5,
    meaning: 'runs that count; the median and the range are shown',
  },
  { name: 'seed', flag: 'seed', kind: 'integer', env: null, default: 1, meaning: 'seed of the random prompts' },
];

const serveFlags: readonly FlagDeclaration[] = [
  {
    name: 'baseUrl',
    flag: 'base-url',
    kind: 'string',
    env: null,
    default: 'http://127.0.0.1:8000/v1',
    placeholder: 'URL',
    meaning: 'OpenAI base URL of the server',
  },
  { name: 'model', flag: 'model', kind: 'string', env: null, placeholder: 'NAME', meaning: 'model name (default: the first that the server lists)' },
  { name: 'apiKey', flag: 'api-key', kind: 'string', placeholder: 'KEY', meaning: 'sent as a bearer token' },
  { name: 'numPrompts', flag: 'num-prompts', kind: 'integer', env: null, default: 100, meaning: 'requests in all' },
  {
    name: 'requestRate',
    flag: 'request-rate',
    kind: 'number',
    env: null,
    default: 'inf',
    placeholder: 'N|inf',
    meaning: 'requests a second, open loop',
  },
  { name: 'burstiness', flag: 'burstiness', kind: 'number', env: null, default: 1, meaning: '1 is a Poisson process, less is burstier' },
  { name: 'maxConcurrency', flag: 'max-concurrency', kind: 'integer', env: null, meaning: 'requests under way at most; alone, a closed loop' },
  { name: 'inputLen', flag: 'random-input-len', kind: 'integer', env: null, default: 128, meaning: 'prompt tokens a request' },
  { name: 'outputLen', flag: 'random-output-len', kind: 'integer', env: null, default: 64, meaning: 'tokens generated a request' },
  {
    name: 'rangeRatio',
    flag: 'random-range-ratio',
    kind: 'number',
    env: null,
    default: 0,
    placeholder: '0..1',
    meaning: 'lengths vary within this share of them on either side',
  },
  {
    name: 'prefixLen',
    flag: 'random-prefix-len',
    kind: 'integer',
    env: null,
    default: 0,
    meaning: 'tokens that all prompts begin with, before their own',
  },
  { name: 'vocabSize', flag: 'vocab-size', kind: 'integer', env: null, default: 256, meaning: 'prompts are random ids below this' },
  { name: 'seed', flag: 'seed', kind: 'integer', env: null, default: 1, meaning: 'seed of prompts and arrivals' },
  {
    name: 'percentiles',
    flag: 'metric-percentiles',
    kind: 'integers',
    env: null,
    default: [50, 90, 99],
    placeholder: 'N,N',
    meaning: 'percentiles shown',
  },
  {
    name: 'goodput',
    flag: 'goodput',
    kind: 'strings',
    env: null,
    placeholder: 'NAME:MS',
    meaning: 'bound for a good request: ttft:200, tpot:50 or e2el:2000; may be repeated',
  },
];

const cacheFlags: readonly FlagDeclaration[] = [
  { name: 'promptTokens', flag: 'input-len', kind: 'integer', env: null, default: 100_000, meaning: 'tokens of the long prompt' },
  { name: 'cachedTokens', flag: 'cached-tokens', kind: 'integer', env: null, default: 1_000_000, meaning: 'tokens that the tree remembers' },
  { name: 'blockSize', flag: 'block-size', kind: 'integer', env: null, default: 32, meaning: 'tokens in a block' },
  { name: 'repetitions', flag: 'repetitions', kind: 'integer', env: null, default: 20, meaning: 'runs that count' },
];

const stepFlags: readonly FlagDeclaration[] = [
  { name: 'rows', flag: 'rows', kind: 'integer', env: null, default: 256, meaning: 'rows that decode at once' },
  { name: 'context', flag: 'input-len', kind: 'integer', env: null, default: 4096, meaning: 'prompt tokens a row' },
  { name: 'steps', flag: 'steps', kind: 'integer', env: null, default: 500, meaning: 'steps that count' },
  { name: 'blockSize', flag: 'block-size', kind: 'integer', env: null, default: 32, meaning: 'tokens in a block' },
];

export function benchCommand(context: CliContext): Command {
  const bench = new Command('bench').description('measure speed');
  const offline = new Command('offline')
    .description('prefill and decode tokens/s of a model in this process')
    .argument('[model]', 'folder, GGUF file or hub name (org/name); the default model when absent')
    .option('--json', 'print the report as JSON')
    .option('--profile', 'also where the time of a step goes, node by node');
  // The model's own --seed would clash with the seed of the prompts; the engine's flags come second and leave taken names alone.
  addEngineFlags(addFlags(offline, offlineFlags));
  offline.action((model: string | undefined) => runOffline(context, offline, model));
  const serve = addFlags(new Command('serve').description('load on any OpenAI-compatible server'), serveFlags).option(
    '--json',
    'print the report as JSON',
  );
  serve.action(() => runServe(context, serve));
  const cache = addFlags(new Command('cache').description('what the prefix cache costs in JavaScript: time, heap, pauses'), cacheFlags).option(
    '--json',
    'print the report as JSON',
  );
  cache.action(() => runCache(context, cache));
  const step = addFlags(new Command('step').description('what a step costs in JavaScript: schedule, fill, output; nothing is computed'), stepFlags);
  step.option('--json', 'print the report as JSON').action(() => runStep(context, step));
  return bench
    .addCommand(offline)
    .addCommand(serve)
    .addCommand(cache)
    .addCommand(step)
    .addCommand(benchLoadCommand(context))
    .addCommand(benchKernelsCommand(context))
    .addCommand(benchCompareCommand(context));
}

async function runOffline(context: CliContext, command: Command, model: string | undefined): Promise<void> {
  const options = withDefaults(command, offlineFlags) as unknown as OfflineOptions;
  atLeast(1, { 'input-len': options.inputLen, 'decode-input-len': options.decodeInputLen, 'output-len': options.outputLen });
  atLeast(1, { repetitions: options.repetitions, 'batch-size': Math.min(...options.batchSizes, ...options.prefillBatchSizes) });
  const { json = false, profile = false } = command.opts<{ json?: boolean; profile?: boolean }>();
  const { engine } = await loadWithProgress(context, command, model, { quiet: json });
  const progress = new Progress(context.stderr, { quiet: json });
  try {
    const profiles: OfflineProfile[] = [];
    const measured = await benchOffline(engine, options, {
      onProgress: (done, total) => progress.update('measuring', done, total),
      ...(profile ? profileHooks(engine, profiles) : {}),
    });
    progress.stop();
    const report = { ...measured, ...(profile ? { profiles } : {}) };
    context.stdout.write(`${json ? JSON.stringify(report, null, 2) : [offlineText(report), ...profiles.map(offlineProfileText)].join('\n\n')}\n`);
  } finally {
    progress.stop();
    await engine.close();
  }
}

async function runCache(context: CliContext, command: Command): Promise<void> {
  const options = withDefaults(command, cacheFlags) as unknown as KvCacheBenchOptions;
  atLeast(1, { 'input-len': options.promptTokens, 'block-size': options.blockSize, repetitions: options.repetitions });
  atLeast(10_000, { 'cached-tokens': options.cachedTokens });
  const report = await benchKvCache(options);
  context.stdout.write(`${command.opts<{ json?: boolean }>().json === true ? JSON.stringify(report, null, 2) : kvCacheText(report)}\n`);
}

async function runStep(context: CliContext, command: Command): Promise<void> {
  const options = withDefaults(command, stepFlags) as unknown as StepBenchOptions;
  atLeast(1, { rows: options.rows, 'input-len': options.context, steps: options.steps, 'block-size': options.blockSize });
  const report = await benchStep(options, new NullBackend({ strict: false }), new ByteTokenizer(32_000));
  context.stdout.write(`${command.opts<{ json?: boolean }>().json === true ? JSON.stringify(report, null, 2) : stepText(report)}\n`);
}

async function runServe(context: CliContext, command: Command): Promise<void> {
  const values = withDefaults(command, serveFlags);
  const json = command.opts<{ json?: boolean }>().json === true;
  const apiKey = (values.apiKey as string | undefined) ?? null;
  const baseUrl = String(values.baseUrl).replace(/\/+$/, '');
  if (!URL.canParse(baseUrl) || !/^https?:/.test(baseUrl)) {
    throw new MillraceError('CONFIG_INVALID', {
      message: '--base-url has a value that it cannot take.',
      expected: 'an address such as http://127.0.0.1:8000/v1',
      received: JSON.stringify(baseUrl.slice(0, 100)),
    });
  }
  const options = {
    ...values,
    baseUrl,
    apiKey,
    model: values.model ?? (await firstModel(baseUrl, apiKey)),
    requestRate: values.requestRate === 'inf' ? Number.POSITIVE_INFINITY : values.requestRate,
    maxConcurrency: values.maxConcurrency ?? null,
    goodput: parseGoodput((values.goodput as readonly string[] | undefined) ?? []),
  } as ServeLoadOptions;
  atLeast(1, { 'num-prompts': options.numPrompts, 'random-input-len': options.inputLen, 'random-output-len': options.outputLen });
  if (!((options.rangeRatio ?? 0) >= 0 && (options.rangeRatio ?? 0) < 1) || (options.prefixLen ?? 0) < 0)
    throw new MillraceError('CONFIG_INVALID', '--random-range-ratio must be at least 0 and below 1, --random-prefix-len at least 0.');
  if (!(options.requestRate > 0) || !(options.burstiness > 0))
    throw new MillraceError('CONFIG_INVALID', '--request-rate and --burstiness must be above 0.');
  const abort = new AbortController();
  const release = context.onSignal(() => abort.abort());
  const progress = new Progress(context.stderr, { quiet: json });
  try {
    const report = await benchServe(options, { signal: abort.signal, onProgress: (done, total) => progress.update('requests', done, total) });
    progress.stop();
    context.stdout.write(`${json ? JSON.stringify({ options, ...report }, null, 2) : serveText(report)}\n`);
    if (abort.signal.aborted) throw new Interrupted();
    if (report.completed === 0)
      throw new MillraceError('SERVER_FAILED', { message: `No request to ${baseUrl} completed.`, hint: report.errors[0] ?? 'is the server up?' });
  } finally {
    progress.stop();
    release();
  }
}

/** `ttft:200` and kin, as vLLM's bench takes them. */
export function parseGoodput(bounds: readonly string[]): ServeLoadOptions['goodput'] {
  const goodput: Record<string, number> = {};
  for (const bound of bounds.flatMap((text) => text.split(/[\s,]+/))) {
    const match = /^(ttft|tpot|e2el):(\d+(?:\.\d+)?)$/.exec(bound);
    if (match === null) {
      throw new MillraceError('CONFIG_INVALID', {
        message: '--goodput has a value that it cannot take.',
        expected: 'ttft:MS, tpot:MS or e2el:MS',
        received: bound,
      });
    }
    goodput[match[1]] = Number(match[2]);
  }
  return goodput;
}

async function firstModel(baseUrl: string, apiKey: string | null): Promise<string> {
  try {
    const response = await fetch(`${baseUrl}/models`, apiKey === null ? {} : { headers: { authorization: `Bearer ${apiKey}` } });
    const { data } = (await response.json()) as { data?: readonly { id?: string }[] };
    const id = data?.[0]?.id;
    if (id !== undefined) return id;
    throw new Error(`HTTP ${response.status}`);
  } catch (cause) {
    const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause);
    throw new MillraceError('CONFIG_INVALID', {
      message: `${baseUrl}/models lists no model (${reason}).`,
      hint: 'check --base-url, which ends in /v1, or name the model with --model',
      cause,
    });
  }
}
