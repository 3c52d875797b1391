/** `millrace bench compare`: this engine and others on one model file, in turn, each round a fresh process of each. */
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { Command } from 'commander';
import { MillraceError } from '../../base/errors.ts';
import {
  besideBusy,
  type ComparedEngine,
  type ComparePhases,
  compareEngines,
  compareMarkdown,
  keptMarkdown,
  programEngine,
} from '../../bench/compare.ts';
import { llamaCppEngine } from '../../bench/llama-cpp.ts';
import type { CliContext } from '../context.ts';
import { addFlags, type FlagDeclaration, readFlags } from '../flags.ts';
import { atLeast, withDefaults } from './bench-flags.ts';

const compareFlags: readonly FlagDeclaration[] = [
  {
    name: 'llamaCpp',
    flag: 'llama-cpp',
    kind: 'string',
    env: 'LLAMA_CPP_BIN',
    placeholder: 'FOLDER',
    meaning: 'llama-bench and llama-batched-bench of llama.cpp',
  },
  { name: 'ikLlamaCpp', flag: 'ik-llama-cpp', kind: 'string', env: 'IK_LLAMA_CPP_BIN', placeholder: 'FOLDER', meaning: 'the same of ik_llama.cpp' },
  {
    name: 'peers',
    flag: 'peer',
    kind: 'strings',
    env: null,
    placeholder: 'NAME=PROGRAM',
    meaning: 'a program that takes the flags of bench offline and prints its JSON; {model} in it becomes the model; may be repeated',
  },
  {
    name: 'variants',
    flag: 'variant',
    kind: 'strings',
    env: null,
    placeholder: 'NAME=[MODEL] FLAGS',
    meaning: 'this engine once more, with flags of bench offline, on another model if its first word is no flag; may be repeated',
  },
  {
    name: 'busy',
    flag: 'busy',
    kind: 'integer',
    env: null,
    default: 0,
    meaning: 'measure each engine also with so many busy processes beside it, and show what it keeps',
  },
  { name: 'only', flag: 'only', kind: 'strings', env: null, placeholder: 'NAME', meaning: 'only this engine; may be repeated' },
  { name: 'rounds', flag: 'rounds', kind: 'integer', env: null, default: 3, meaning: 'fresh processes of each engine' },
  { name: 'threads', flag: 'threads', kind: 'integer', env: null, default: 2, meaning: 'threads of each engine' },
  { name: 'inputLen', flag: 'input-len', kind: 'integer', env: null, default: 512, meaning: 'prompt tokens for prefill' },
  {
    name: 'batchSizes',
    flag: 'batch-size',
    kind: 'integers',
    env: null,
    default: [1, 8, 16, 32],
    placeholder: 'N,N',
    meaning: 'rows that decode at once',
  },
  { name: 'decodeInputLen', flag: 'decode-input-len', kind: 'integer', env: null, default: 128, meaning: 'prompt tokens a row, for decode' },
  { name: 'outputLen', flag: 'output-len', kind: 'integer', env: null, default: 32, meaning: 'tokens generated a row' },
  {
    name: 'depths',
    flag: 'depth',
    kind: 'integers',
    env: null,
    default: [],
    placeholder: 'N,N',
    meaning: 'prompt tokens behind which one row decodes, such as 8192',
  },
  { name: 'repetitions', flag: 'repetitions', kind: 'integer', env: null, default: 3, meaning: 'runs of each measurement in a process' },
  { name: 'json', flag: 'json', kind: 'string', env: null, placeholder: 'FILE', meaning: 'also write all figures to this file' },
];

export function benchCompareCommand(context: CliContext): Command {
  const command = new Command('compare')
    .description('this engine beside others on one model, as a Markdown table (docs/benchmarks)')
    .argument('<model>', 'GGUF file, or folder or hub name where all the engines read it');
  addFlags(command, compareFlags);
  return command.action((model: string) => runCompare(context, command, model));
}

async function runCompare(context: CliContext, command: Command, model: string): Promise<void> {
  const values = withDefaults(command, compareFlags);
  const { rounds, threads, inputLen, batchSizes, decodeInputLen, outputLen, depths, repetitions } = values as unknown as ComparePhases & {
    rounds: number;
  };
  atLeast(1, { rounds, threads, repetitions, 'input-len': inputLen, 'decode-input-len': decodeInputLen, 'batch-size': Math.min(...batchSizes) });
  atLeast(2, { 'output-len': outputLen });
  const engines = chosen(allEngines(model, readFlags(command, compareFlags)), values.only as readonly string[] | undefined);
  const phases: ComparePhases = { threads, inputLen, batchSizes, decodeInputLen, outputLen, depths, repetitions };
  const busy = Number(values.busy);
  const beside = busy > 0 ? engines.flatMap((engine) => [engine, besideBusy(engine, busy)]) : engines;
  const report = await compareEngines(beside, phases, rounds, { onProgress: (text) => context.stderr.write(`${text}\n`) });
  const machine = `${os.cpus()[0]?.model ?? 'unknown processor'}, ${os.cpus().length} cores, Node ${process.versions.node}; ${rounds} rounds, ${threads} threads`;
  context.stdout.write(`${model}; ${machine}\n\n${compareMarkdown(report)}\n${busy > 0 ? `\n${keptMarkdown(report, busy)}\n` : ''}`);
  if (values.json !== undefined) writeFileSync(String(values.json), `${JSON.stringify({ model, machine, ...report }, null, 2)}\n`);
  if (report.failures.length > 0) throw new MillraceError('INTERNAL', { message: 'Some engines did not finish.', hint: 'the table names them' });
}

function allEngines(model: string, given: Readonly<Record<string, unknown>>): ComparedEngine[] {
  const script = process.argv[1];
  const own = [process.execPath, ...process.execArgv, script, 'bench', 'offline', '--json'];
  const engines = [programEngine('Millrace', [...own, model], true)];
  for (const [name, words] of pairs('variant', given.variants))
    engines.push(programEngine(name, [...own, ...(words[0].startsWith('-') ? [model] : []), ...words], true));
  if (given.llamaCpp !== undefined) engines.push(llamaCppEngine({ name: 'llama.cpp', bin: String(given.llamaCpp), model, fork: false }));
  if (given.ikLlamaCpp !== undefined) engines.push(llamaCppEngine({ name: 'ik_llama.cpp', bin: String(given.ikLlamaCpp), model, fork: true }));
  for (const [name, words] of pairs('peer', given.peers))
    engines.push(
      programEngine(
        name,
        words.map((word) => word.replaceAll('{model}', model)),
      ),
    );
  return engines;
}

function chosen(engines: readonly ComparedEngine[], only: readonly string[] | undefined): readonly ComparedEngine[] {
  const names = engines.map(({ name }) => name);
  const unknown = only?.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new MillraceError('CONFIG_INVALID', { message: '--only names no engine.', expected: `one of ${names.join(', ')}`, received: unknown });
  return only === undefined ? engines : engines.filter(({ name }) => only.includes(name));
}

/** `NAME=words of a command`, split at spaces. */
function pairs(flag: string, given: unknown): [string, string[]][] {
  return ((given ?? []) as readonly string[]).map((text) => {
    const at = text.indexOf('=');
    const words = text
      .slice(at + 1)
      .split(/\s+/)
      .filter((word) => word !== '');
    if (at < 1 || words.length === 0)
      throw new MillraceError('CONFIG_INVALID', {
        message: `--${flag} has a value that it cannot take.`,
        expected: 'NAME=WORDS',
        received: JSON.stringify(text),
      });
    return [text.slice(0, at), words];
  });
}
