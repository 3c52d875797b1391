/** The command `millrace`: puts the commands together and turns what they throw into a message and an exit code. */
import { Command, CommanderError } from 'commander';
import { toMillraceError } from '../base/errors.ts';
import { version } from '../base/version.ts';
import { benchCommand } from './commands/bench.ts';
import { chatCommand } from './commands/chat.ts';
import { convertCommand } from './commands/convert.ts';
import { evalCommand } from './commands/eval.ts';
import { inspectCommand } from './commands/inspect.ts';
import { runCommand } from './commands/run.ts';
import { serveCommand } from './commands/serve.ts';
import type { CliContext } from './context.ts';
import { Interrupted } from './interrupted.ts';
import { printError } from './print-error.ts';

/** 0: done. 1: it failed. 2: the command line cannot be understood. 130: interrupted. */
export type ExitCode = 0 | 1 | 2 | 130;

export function createProgram(context: CliContext): Command {
  const program = new Command('millrace')
    .description('LLM inference and serving. Start with: millrace serve, or millrace chat')
    .version(version, '-V, --version')
    .option('--debug', 'print stacks of errors')
    .helpCommand(true)
    .showSuggestionAfterError(true);
  for (const command of [serveCommand, chatCommand, runCommand, inspectCommand, convertCommand, evalCommand, benchCommand])
    program.addCommand(command(context));
  adopt(program, context);
  return program;
}

/** Parses `args` (without node and script) and runs the command. Never rejects. */
export async function runCli(args: readonly string[], context: CliContext): Promise<ExitCode> {
  const program = createProgram(context);
  try {
    await program.parseAsync([...args], { from: 'user' });
    return 0;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2;
    if (thrown instanceof Interrupted) return 130;
    const error = toMillraceError(thrown);
    printError(error, context.stderr, { json: args.includes('--json'), debug: args.includes('--debug') });
    return error.code === 'CONFIG_INVALID' || error.code === 'SAMPLING_PARAM_INVALID' ? 2 : 1;
  }
}

/** Commands created apart from the program do not inherit its settings; this gives them to the whole tree. */
function adopt(command: Command, context: CliContext): void {
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => context.stdout.write(text),
    writeErr: (text) => context.stderr.write(text),
    outputError: (text, write) => write(`millrace: ${text.replace(/^error: /, '')}`),
  });
  command.showSuggestionAfterError(true);
  command.showHelpAfterError(`Try: ${fullName(command)} --help`);
  for (const child of command.commands) adopt(child as Command, context);
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}
