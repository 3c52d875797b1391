/** The engine's flags: declared by `engine/config.ts`, shared by every command that loads a model. */
import type { Command } from 'commander';
import { engineOptions, type LoadOptions } from '../engine/config.ts';
import type { ModelDescription } from '../engine/inspect.ts';
import type { CliContext, CliEngine } from './context.ts';
import { defaultModel } from './default-model.ts';
import { addFlags, readFlags } from './flags.ts';
import { Progress } from './progress.ts';

/** Adds the flags, and the model as an argument of its own: `millrace serve PATH` is `--model PATH`. */
export function addEngineFlags(command: Command): Command {
  return addFlags(command, engineOptions);
}

/** Options for `loadEngine` from the command line; without a model, the default one. */
export function readLoadOptions(command: Command, model: string | undefined): { options: LoadOptions; notice: string | null } {
  const values = readFlags(command, engineOptions);
  if (model !== undefined) values.model = model;
  if (values.model !== undefined) return { options: values as unknown as LoadOptions, notice: null };
  const fallback = defaultModel();
  const options = { loadFormat: fallback.loadFormat, servedModelName: [fallback.servedName], ...values, model: fallback.path };
  return { options: options as LoadOptions, notice: fallback.notice };
}

/** Loads with a progress bar on stderr; `quiet` for machines that read everything. */
export async function loadWithProgress(
  context: CliContext,
  command: Command,
  model: string | undefined,
  { quiet = false }: { quiet?: boolean } = {},
): Promise<{ engine: CliEngine; notice: string | null }> {
  const { options, notice } = readLoadOptions(command, model);
  const progress = new Progress(context.stderr, { quiet });
  try {
    const engine = await context.loadEngine(options, {
      onProgress: (stage, done, total) => progress.update(stage, done, total),
      onNotice: (line) => progress.line(line),
    });
    return { engine, notice: notice ?? engine.model.notice };
  } finally {
    progress.stop();
  }
}

/** What is known of a model on the hub without its weights; null for one that must be loaded. */
export async function describeWithProgress(
  context: CliContext,
  command: Command,
  model: string | undefined,
  { quiet = false }: { quiet?: boolean } = {},
): Promise<ModelDescription | null> {
  const { options } = readLoadOptions(command, model);
  const progress = new Progress(context.stderr, { quiet });
  try {
    return await context.describeRemote(options, {
      onProgress: (stage, done, total) => progress.update(stage, done, total),
      onNotice: (line) => progress.line(line),
    });
  } finally {
    progress.stop();
  }
}
