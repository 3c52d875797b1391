/** `millrace chat`: a conversation in the terminal, or line by line through a pipe. */
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { MillraceError } from '../../base/errors.ts';
import type { ChatMessage } from '../../chat/messages.ts';
import type { Engine } from '../../engine/engine.ts';
import type { RequestStream } from '../../engine/request-stream.ts';
import type { SamplingParams } from '../../sampling/params.ts';
import type { CliContext } from '../context.ts';
import { addEngineFlags, loadWithProgress } from '../engine-flags.ts';
import { addFlags, readFlags } from '../flags.ts';
import { samplingFlags, samplingParams } from '../sampling-flags.ts';
import { forScreen } from '../terminal-text.ts';

export function chatCommand(context: CliContext): Command {
  const command = new Command('chat')
    .description('talk to a model in the terminal')
    .argument('[model]', 'folder, GGUF file or hub name (org/name); the default model when absent')
    .option('--system <TEXT>', 'system message');
  addEngineFlags(addFlags(command, samplingFlags));
  return command.action(async (model: string | undefined) => {
    const params = samplingParams(readFlags(command, samplingFlags));
    const { engine, notice } = await loadWithProgress(context, command, model);
    try {
      if (notice !== null) context.stderr.write(`note: ${notice}\n`);
      await converse(context, engine, params, command.opts<{ system?: string }>().system);
    } finally {
      await engine.close();
    }
  });
}

const help = `/system TEXT  set the system message and start anew
/reset        start anew
/exit         leave (or Ctrl-D)
Ctrl-C        stop the answer`;

/** Reads lines and answers them until the input ends. @throws CHAT_TEMPLATE_MISSING when the model cannot chat */
export async function converse(
  context: Pick<CliContext, 'stdin' | 'stdout' | 'stderr' | 'onSignal'>,
  engine: Engine,
  params: SamplingParams,
  system: string | undefined,
): Promise<void> {
  if (!engine.model.hasChatTemplate) {
    throw new MillraceError('CHAT_TEMPLATE_MISSING', {
      message: 'This model has no chat template.',
      hint: 'continue a text with millrace run --no-chat',
    });
  }
  const conversation = new Conversation(system);
  const terminal = context.stdin.isTTY === true;
  let answer: RequestStream | null = null;
  const reader = createInterface({ input: context.stdin, terminal, ...(terminal ? { output: context.stdout, prompt: '> ' } : {}) });
  const stop = (): void => {
    if (answer !== null) answer.abort();
    else reader.close();
  };
  reader.on('SIGINT', stop);
  const release = context.onSignal(stop);
  if (terminal) context.stdout.write(`Chat with ${engine.model.servedNames[0]}. /help lists commands.\n`);
  reader.prompt();
  try {
    for await (const line of reader) {
      const text = line.trim();
      if (text === '/exit' || text === '/quit') break;
      if (text.startsWith('/')) context.stderr.write(`${conversation.command(text)}\n`);
      else if (text !== '') {
        conversation.messages.push({ role: 'user', content: text });
        answer = engine.generate({ messages: [...conversation.messages] }, params);
        await say(context, answer, conversation.messages);
        answer = null;
      }
      reader.prompt();
    }
  } finally {
    release();
    reader.close();
  }
}

/** Streams one answer and appends it to the messages; an error is printed and the question forgotten, so that the talk goes on. */
async function say(context: Pick<CliContext, 'stdout' | 'stderr'>, answer: RequestStream, messages: ChatMessage[]): Promise<void> {
  let text = '';
  try {
    for await (const delta of answer) {
      text += delta.text;
      context.stdout.write(forScreen(delta.text, context.stdout.isTTY));
    }
  } catch (thrown) {
    const aborted = thrown instanceof MillraceError && thrown.code === 'REQUEST_ABORTED';
    if (!aborted) context.stderr.write(`millrace: ${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
  }
  context.stdout.write('\n');
  if (text === '') messages.pop();
  else messages.push({ role: 'assistant', content: text });
}

/** The messages so far, and the commands that change them. */
class Conversation {
  #system: string | undefined;
  readonly messages: ChatMessage[] = [];

  constructor(system: string | undefined) {
    this.#system = system;
    this.#reset();
  }

  /** Carries out a line that begins with a slash; returns what to show. */
  command(line: string): string {
    const [name, ...rest] = line.split(' ');
    switch (name) {
      case '/help':
        return help;
      case '/reset':
        this.#reset();
        return 'started anew';
      case '/system':
        this.#system = rest.join(' ') || undefined;
        this.#reset();
        return this.#system === undefined ? 'no system message; started anew' : 'system message set; started anew';
      default:
        return `unknown command ${name}\n${help}`;
    }
  }

  #reset(): void {
    this.messages.length = 0;
    if (this.#system !== undefined) this.messages.push({ role: 'system', content: this.#system });
  }
}
