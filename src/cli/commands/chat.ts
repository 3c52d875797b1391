/** `millrace chat`: a conversation in the terminal, or line by line through a pipe. */
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { MillraceError } from '../../base/errors.ts';
import type { ChatMessage } from '../../chat/messages.ts';
import type { OutputEvent } from '../../chat/output-events.ts';
import { thinkingVariables } from '../../chat/reasoning.ts';
import type { Engine } from '../../engine/engine.ts';
import { chatWithTools, type RunnableTool } from '../../engine/tool-loop.ts';
import type { McpSource, McpTools } from '../../mcp/index.ts';
import type { SamplingParams } from '../../sampling/params.ts';
import type { CliContext, OutputStream } from '../context.ts';
import { demonstrationTools } from '../demonstration-tools.ts';
import { addEngineFlags, loadWithProgress } from '../engine-flags.ts';
import { addFlags, readFlags } from '../flags.ts';
import { samplingFlags, samplingParams } from '../sampling-flags.ts';
import { forScreen } from '../terminal-text.ts';

export function chatCommand(context: CliContext): Command {
  const command = new Command('chat')
    .description('talk to a model in the terminal')
    .argument('[model]', 'folder, GGUF file or hub name (org/name); the default model when absent')
    .option('--system <TEXT>', 'system message')
    .option('--demo-tools', 'let the model call demonstration tools: get_weather (made up), calculator, set_timer, add_event')
    .option(
      '--mcp <COMMAND|URL>',
      'let the model call the tools of an MCP server: a program with its arguments, or an address; may be repeated',
      listed,
      [],
    )
    .option('--thinking', 'let the model think before it answers, where its chat template can open that (enable_thinking)');
  addEngineFlags(addFlags(command, samplingFlags));
  return command.action(async (model: string | undefined) => {
    const params = samplingParams(readFlags(command, samplingFlags));
    const { engine, notice } = await loadWithProgress(context, command, model);
    try {
      if (notice !== null) context.stderr.write(`note: ${notice}\n`);
      await converse(context, engine, params, command.opts<ChatOptions>());
    } finally {
      await engine.close();
    }
  });
}

type ChatStreams = Pick<CliContext, 'stdin' | 'stdout' | 'stderr' | 'onSignal'>;

export interface ChatOptions {
  readonly system?: string;
  /** Offer the demonstration tools. */
  readonly demoTools?: boolean;
  /** MCP servers whose tools are offered. */
  readonly mcp?: readonly string[];
  /** Set `enable_thinking` for the chat template. */
  readonly thinking?: boolean;
}

const help = `/system TEXT  set the system message and start anew
/reset        start anew
/exit         leave (or Ctrl-D)
Ctrl-C        stop the answer`;

/**
 * Reads lines and answers them until the input ends.
 * @throws CHAT_TEMPLATE_MISSING when the model cannot chat, NOT_SUPPORTED when it is to call tools and nobody knows how it writes calls
 */
export async function converse(context: ChatStreams, engine: Engine, params: SamplingParams, options: ChatOptions): Promise<void> {
  if (!engine.model.hasChatTemplate) {
    throw new MillraceError('CHAT_TEMPLATE_MISSING', {
      message: 'This model has no chat template.',
      hint: 'continue a text with millrace run --no-chat',
    });
  }
  const { stderr } = context;
  const demonstration = options.demoTools === true ? demonstrationTools((line) => stderr.write(`\u0007${line}\n`)) : null;
  const servers = options.mcp ?? [];
  if (demonstration !== null || servers.length > 0) requireToolCalls(engine);
  if (demonstration !== null) {
    stderr.write('note: the tools are for demonstration: the weather is made up, timers and calendar end with the chat\n');
  }
  const remote = servers.length === 0 ? null : await openServers(servers);
  try {
    await answerLines(context, engine, params, options, { ...demonstration?.tools, ...remote });
  } finally {
    demonstration?.close();
    await remote?.[Symbol.asyncDispose]();
  }
}

/** @throws NOT_SUPPORTED without the package, TOOL_SOURCE_FAILED */
async function openServers(given: readonly string[]): Promise<McpTools> {
  const sources = given.map(mcpSource);
  const { mcpTools } = await import('../../mcp/index.ts').catch((cause: unknown) => {
    throw new MillraceError('NOT_SUPPORTED', {
      message: 'The option --mcp wants a package that is not installed.',
      hint: 'npm install @modelcontextprotocol/sdk',
      cause,
    });
  });
  return mcpTools(sources);
}

function listed(one: string, before: readonly string[]): readonly string[] {
  return [...before, one];
}

/** An address, or a program and its arguments: words, or texts between quotes. */
function mcpSource(given: string): McpSource {
  if (/^https?:\/\//.test(given)) return { url: given };
  const [command = '', ...args] = Array.from(
    given.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g),
    ([, double, single, word]) => double ?? single ?? word ?? '',
  );
  return { command, args };
}

function requireToolCalls(engine: Engine): void {
  if ((engine.model.outputFormats?.toolCalls ?? null) !== null) return;
  throw new MillraceError('NOT_SUPPORTED', {
    message: "The model's chat template teaches no format of tool calls that is known here.",
    hint: 'leave out --demo-tools and --mcp, or name the format with --tool-call-format',
    param: 'tools',
  });
}

async function answerLines(
  context: ChatStreams,
  engine: Engine,
  params: SamplingParams,
  options: ChatOptions,
  tools: Readonly<Record<string, RunnableTool>>,
): Promise<void> {
  const conversation = new Conversation(options.system);
  const terminal = context.stdin.isTTY === true;
  let answering: AbortController | null = null;
  const reader = createInterface({ input: context.stdin, terminal, ...(terminal ? { output: context.stdout, prompt: '> ' } : {}) });
  const stop = (): void => {
    if (answering !== null) answering.abort();
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
        answering = new AbortController();
        await answer(context, engine, params, options, tools, conversation.messages, answering.signal);
        answering = null;
      }
      reader.prompt();
    }
  } finally {
    release();
    reader.close();
  }
}

/** Streams one answer and appends it to the messages; an error is printed and the question forgotten, so that the talk goes on. */
async function answer(
  { stdout, stderr }: ChatStreams,
  engine: Engine,
  params: SamplingParams,
  { thinking = false }: ChatOptions,
  tools: Readonly<Record<string, RunnableTool>>,
  messages: ChatMessage[],
  signal: AbortSignal,
): Promise<void> {
  const printed = new AnswerPrinter(stdout, stderr);
  try {
    const done = await chatWithTools(engine, messages, {
      tools,
      params,
      signal,
      onEvent: (event) => printed.show(event),
      ...(thinking ? { template: { kwargs: thinkingVariables(true) } } : {}),
    });
    stdout.write('\n');
    messages.splice(0, messages.length, ...done.messages);
  } catch (thrown) {
    const aborted = thrown instanceof MillraceError && thrown.code === 'REQUEST_ABORTED';
    if (!aborted) stderr.write(`millrace: ${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    stdout.write('\n');
    if (printed.text === '') messages.pop();
    else messages.push({ role: 'assistant', content: printed.text });
  }
}

/** Answers go to the output as they come; thoughts and calls, which are not the answer, beside it. */
class AnswerPrinter {
  text = '';
  readonly #stdout: OutputStream;
  readonly #stderr: OutputStream;
  #call = '';
  #isThinking = false;

  constructor(stdout: OutputStream, stderr: OutputStream) {
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  show(event: OutputEvent): void {
    if (this.#isThinking && event.type !== 'reasoning') this.#aside('\n');
    this.#isThinking = event.type === 'reasoning';
    if (event.type === 'content') {
      this.text += event.text;
      this.#stdout.write(forScreen(event.text, this.#stdout.isTTY));
    } else if (event.type === 'reasoning') this.#aside(event.text);
    else if (event.type === 'toolCallStart') this.#call = `call: ${event.name} `;
    else if (event.type === 'toolCallArguments') this.#call += event.text;
    else this.#aside(`${this.#call}\n`);
  }

  #aside(text: string): void {
    this.#stderr.write(forScreen(text, this.#stderr.isTTY));
  }
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
