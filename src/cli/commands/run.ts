/** `millrace run`: one prompt, one answer, streamed to stdout. */
import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { Command } from 'commander';
import { MillraceError } from '../../base/errors.ts';
import type { Engine, GenerateInput } from '../../engine/engine.ts';
import type { RequestStream } from '../../engine/request-stream.ts';
import type { CliContext } from '../context.ts';
import { addEngineFlags, loadWithProgress } from '../engine-flags.ts';
import { addFlags, readFlags } from '../flags.ts';
import { Interrupted } from '../interrupted.ts';
import { choiceFlags, samplingFlags, samplingParams } from '../sampling-flags.ts';
import { forScreen } from '../terminal-text.ts';

interface RunFlags {
  readonly file?: string;
  readonly system?: string;
  readonly chat?: boolean;
  readonly json?: boolean;
}

export function runCommand(context: CliContext): Command {
  const command = new Command('run')
    .description('answer one prompt, from the arguments, a file or stdin')
    .argument('[prompt...]', 'the prompt; stdin when absent or "-"')
    .option('--file <PATH>', 'read the prompt from a file')
    .option('--system <TEXT>', 'system message, for models with a chat template')
    .option('--chat', 'ask through the chat template (default: when the model has one)')
    .option('--no-chat', 'continue the text as it is')
    .option('--json', 'print the whole result as JSON at the end');
  addEngineFlags(addFlags(command, [...samplingFlags, ...choiceFlags]));
  return command.action((words: string[]) => run(context, command, words));
}

async function run(context: CliContext, command: Command, words: readonly string[]): Promise<void> {
  const flags = command.opts<RunFlags>();
  const prompt = await readPrompt(context, words, flags.file);
  const params = samplingParams(readFlags(command, [...samplingFlags, ...choiceFlags]));
  if (params.topLogprobs !== undefined && flags.json !== true)
    throw new MillraceError('CONFIG_INVALID', 'Log probabilities are printed as JSON: --logprobs wants --json.');
  const { engine } = await loadWithProgress(context, command, undefined, { quiet: flags.json === true });
  try {
    const stream = engine.generate(inputFor(engine, prompt, flags), params);
    if (flags.json) await printJson(context, stream);
    else if ((params.n ?? 1) > 1 || (params.bestOf ?? 1) > 1 || params.useBeamSearch === true) await printChoices(context, stream);
    else await printText(context, stream);
  } finally {
    await engine.close();
  }
}

/** The prompt: arguments, or a file, or stdin. @throws CONFIG_INVALID when there is none, or two */
export async function readPrompt(context: Pick<CliContext, 'stdin'>, words: readonly string[], file: string | undefined): Promise<string> {
  const given = words.join(' ');
  if (file !== undefined) {
    if (given !== '') throw new MillraceError('CONFIG_INVALID', 'Give the prompt as arguments or with --file, not both.');
    try {
      return await readFile(file, 'utf8');
    } catch (cause) {
      throw new MillraceError('CONFIG_INVALID', { message: `The prompt file ${file} cannot be read: ${(cause as Error).message}.`, cause });
    }
  }
  if (given !== '' && given !== '-') return given;
  const piped = given === '' && context.stdin.isTTY ? '' : await readAll(context.stdin);
  if (piped !== '') return piped;
  throw new MillraceError('CONFIG_INVALID', {
    message: 'There is no prompt.',
    hint: 'millrace run "Once upon a time", or --file PATH, or pipe it in',
  });
}

function inputFor(engine: Engine, prompt: string, { chat, system }: RunFlags): GenerateInput {
  if (!(chat ?? engine.model.hasChatTemplate)) {
    if (system !== undefined) throw new MillraceError('CHAT_TEMPLATE_MISSING', 'A system message needs a chat template.');
    return { prompt };
  }
  const messages = [{ role: 'user', content: prompt }];
  return { messages: system === undefined ? messages : [{ role: 'system', content: system }, ...messages] };
}

async function printText(context: CliContext, stream: RequestStream): Promise<void> {
  let interrupted = false;
  const release = context.onSignal(() => {
    interrupted = true;
    stream.abort();
  });
  try {
    for await (const delta of stream) {
      if (!context.stdout.write(forScreen(delta.text, context.stdout.isTTY))) await new Promise((resolve) => context.stdout.once('drain', resolve));
    }
  } catch (error) {
    if (!interrupted) throw error;
  } finally {
    release();
    context.stdout.write('\n');
  }
  if (interrupted) throw new Interrupted();
}

/** Several answers, or one that is chosen at the end: whole, one after another. */
async function printChoices(context: CliContext, stream: RequestStream): Promise<void> {
  const release = context.onSignal(() => stream.abort());
  try {
    const { choices } = await stream;
    const texts = choices.map(
      ({ text, index }) => `${choices.length === 1 ? '' : `--- ${index + 1} ---\n`}${forScreen(text, context.stdout.isTTY)}\n`,
    );
    context.stdout.write(texts.join(''));
    if (choices.some(({ finishReason }) => finishReason === 'abort')) throw new Interrupted();
  } finally {
    release();
  }
}

async function printJson(context: CliContext, stream: RequestStream): Promise<void> {
  const release = context.onSignal(() => stream.abort());
  try {
    const { requestId, choices, usage, timings } = await stream;
    context.stdout.write(`${JSON.stringify({ requestId, choices, usage, timings }, null, 2)}\n`);
  } finally {
    release();
  }
}
