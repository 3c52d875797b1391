/** `millrace serve`: the OpenAI-compatible HTTP server. */
import { createServer as createTcpServer } from 'node:net';
import { Command } from 'commander';
import { MillraceError } from '../../base/errors.ts';
import { version } from '../../base/version.ts';
import { randomPrompts, seededRandom } from '../../bench/random-prompts.ts';
import type { CliContext, CliEngine } from '../context.ts';
import { addEngineFlags, loadWithProgress } from '../engine-flags.ts';
import { addFlags, readFlags } from '../flags.ts';
import { serverFlags, serverOptions } from '../server-flags.ts';

/** npm passes a Ctrl-C on that the terminal has sent already: a second signal counts as a second wish only after this long. */
const SECOND_SIGNAL_AFTER_MS = 500;

export function serveCommand(context: CliContext): Command {
  const command = new Command('serve')
    .description('serve a model over an OpenAI-compatible HTTP API')
    .argument('[model]', 'folder, GGUF file or hub name (org/name); the default model when absent')
    .option('--measure', 'after listening, generate once and print the tokens/s to expect')
    .option('--json', 'print one line of JSON when listening');
  addEngineFlags(addFlags(command, serverFlags));
  return command.action((model: string | undefined) => serve(context, command, model));
}

async function serve(context: CliContext, command: Command, model: string | undefined): Promise<void> {
  const { json, measure } = command.opts<{ json?: boolean; measure?: boolean }>();
  const options = serverOptions(readFlags(command, serverFlags), context.stderr);
  // Said before a large model is loaded for nothing; the server says it again if another program is quicker.
  await checkPortFree(options.host ?? '127.0.0.1', options.port ?? 8000);
  const { engine, notice } = await loadWithProgress(context, command, model, { quiet: json === true });
  try {
    const engines = new Map(engine.model.servedNames.map((name) => [name, engine]));
    const server = await context.createServer({ engines, options });
    const { url, host } = await server.listen();
    const stopped = untilStopped(context, engine);
    if (json) context.stdout.write(`${JSON.stringify({ event: 'listening', url, model: engine.model.servedNames[0] })}\n`);
    else {
      context.stdout.write(banner(engine, url, notice));
      if (!isLoopback(host) && (options.apiKeys ?? []).length === 0) {
        context.stderr.write(`millrace: listening on ${host} without --api-key: whoever reaches this machine can use it\n`);
      }
      context.stdout.write('  stop     Ctrl-C\n');
      if (measure) await Promise.race([speedLine(engine).then((line) => context.stdout.write(line)), stopped]);
    }
    await stopped;
    await server.close();
  } finally {
    await engine.close();
  }
}

/** @throws PORT_IN_USE when something listens there already */
export function checkPortFree(host: string, port: number): Promise<void> {
  if (port === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const probe = createTcpServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') reject(portInUse(host, port));
      else if (error.code === 'EACCES') reject(new MillraceError('CONFIG_INVALID', `Port ${port} needs rights that this user does not have.`));
      else
        reject(
          new MillraceError('CONFIG_INVALID', {
            message: `Cannot listen on ${host}:${port}: ${error.message}.`,
            hint: 'Choose another --host or --port.',
          }),
        );
    });
    probe.listen({ host, port, exclusive: true }, () => probe.close(() => resolve()));
  });
}

function portInUse(host: string, port: number): MillraceError {
  return new MillraceError('PORT_IN_USE', {
    message: `Port ${port} on ${host} is taken by another program.`,
    hint: `stop that program, or listen elsewhere with --port ${port < 65535 ? port + 1 : 0}`,
  });
}

/** Resolves at the first SIGINT or SIGTERM; a later one ends the process without waiting. */
function untilStopped(context: CliContext, engine: CliEngine): Promise<void> {
  return new Promise((resolve) => {
    let firstAt: number | null = null;
    context.onSignal(() => {
      if (firstAt === null) {
        firstAt = Date.now();
        const { numRunning, numWaiting } = engine.stats();
        const open = numRunning + numWaiting;
        if (open > 0) context.stderr.write(`\nmillrace: finishing ${open} request${open === 1 ? '' : 's'}; press Ctrl-C again to stop at once\n`);
        resolve();
      } else if (Date.now() - firstAt > SECOND_SIGNAL_AFTER_MS) context.forceExit(130);
    });
  });
}

function banner(engine: CliEngine, url: string, notice: string | null): string {
  const { model } = engine;
  const { backend } = engine.describe();
  const name = model.servedNames[0];
  const size = model.numParameters >= 1e9 ? `${(model.numParameters / 1e9).toFixed(1)}B` : `${(model.numParameters / 1e6).toFixed(1)}M`;
  const threads = `${backend.numThreads} thread${backend.numThreads === 1 ? '' : 's'}`;
  return [
    `Millrace ${version} serves ${name} (${model.architecture}, ${size} parameters) on the ${backend.name} backend (${backend.isa}, ${threads})`,
    ...(notice === null ? [] : [`  note     ${notice}`]),
    `  address  ${url}  (OpenAI base URL ${url}/v1; open it in a browser to chat)`,
    `  try      ${curlLine(url, name, model.hasChatTemplate)}`,
    '',
  ].join('\n');
}

/** A command that answers as it stands. */
export function curlLine(url: string, model: string, chat: boolean): string {
  const question = chat ? { messages: [{ role: 'user', content: 'Hello!' }] } : { prompt: 'Once upon a time' };
  const body = JSON.stringify({ model, ...question, max_tokens: 64 }).replaceAll("'", "'\\''");
  return `curl ${url}/v1/${chat ? 'chat/completions' : 'completions'} -H 'content-type: application/json' -d '${body}'`;
}

/** Longest that the measurement at start may take, and its part after the first token. */
const MEASURE_MS = 10_000;
const MEASURE_DECODE_MS = 2_000;

/** Generates a few tokens for one user and says how fast that was; never longer than a moment, whatever the model. */
async function speedLine(engine: CliEngine): Promise<string> {
  const { maxModelLen, vocabSize } = engine.model;
  const [promptTokenIds] = randomPrompts(1, Math.max(1, Math.min(16, maxModelLen >> 1)), vocabSize, seededRandom(1));
  const params = { maxTokens: Math.min(64, maxModelLen >> 1), temperature: 0, ignoreEos: true };
  let numTokens = 0;
  let firstMs = 0;
  let lastMs = 0;
  try {
    for await (const delta of engine.generate({ promptTokenIds }, params, { signal: AbortSignal.timeout(MEASURE_MS) })) {
      lastMs = performance.now();
      if (numTokens === 0) firstMs = lastMs;
      numTokens += delta.tokenIds.length;
      if (lastMs - firstMs > MEASURE_DECODE_MS) break;
    }
  } catch {
    // Too slow to be measured in a moment; a real failure shows itself in the first request.
  }
  if (numTokens < 2 || lastMs <= firstMs) return '  speed    less than a token in a few seconds: this model is too large for this backend\n';
  const rate = (1000 * (numTokens - 1)) / (lastMs - firstMs);
  return `  speed    about ${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s for one user (measured just now)\n`;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}
