/** `millrace bench load`: seconds from files to an engine that answers. */
import { Command } from 'commander';
import { benchLoad, loadText } from '../../bench/load.ts';
import type { CliContext } from '../context.ts';
import { addEngineFlags, loadWithProgress } from '../engine-flags.ts';
import { addFlags, type FlagDeclaration } from '../flags.ts';
import { atLeast, withDefaults } from './bench-flags.ts';

const loadFlags: readonly FlagDeclaration[] = [
  { name: 'repetitions', flag: 'repetitions', kind: 'integer', env: null, default: 3, meaning: 'loads; the first may read from the disk' },
];

export function benchLoadCommand(context: CliContext): Command {
  const command = new Command('load')
    .description('seconds that a model takes to load, repacking for the kernels included')
    .argument('[model]', 'folder, GGUF file or hub name (org/name); the default model when absent')
    .option('--json', 'print the report as JSON');
  addEngineFlags(addFlags(command, loadFlags));
  return command.action((model: string | undefined) => runLoad(context, command, model));
}

async function runLoad(context: CliContext, command: Command, model: string | undefined): Promise<void> {
  const { repetitions } = withDefaults(command, loadFlags) as { readonly repetitions: number };
  atLeast(1, { repetitions });
  const report = await benchLoad(async () => {
    const { engine } = await loadWithProgress(context, command, model, { quiet: true });
    return { engine, weightBytes: engine.describe().memory.weightBytes };
  }, repetitions);
  context.stdout.write(`${command.opts<{ json?: boolean }>().json === true ? JSON.stringify(report, null, 2) : loadText(report)}\n`);
}
