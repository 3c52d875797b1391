/** `millrace bench kernels`. */
import { writeFileSync } from 'node:fs';
import os from 'node:os';
import { Command } from 'commander';
import { createNativeBackend } from '../../backends/native/native-backend.ts';
import { MillraceError } from '../../base/errors.ts';
import { attentionProgram, elementwiseProgram, expertProgram, type KernelProgram, linearProgram, tinyStepProgram } from '../../bench/kernel-jobs.ts';
import { benchKernels, type KernelReport, kernelsText } from '../../bench/kernels.ts';
import { samplerModes, samplerProgram } from '../../bench/sampler-jobs.ts';
import { kvDtypes } from '../../kv/layout.ts';
import { activationFor } from '../../models/activation.ts';
import type { WeightFormat } from '../../plan/plan.ts';
import { heldBits, weightFormats } from '../../quant/formats/index.ts';
import { createDummySource } from '../../weights/dummy-source.ts';
import type { CliContext } from '../context.ts';
import { addFlags, type FlagDeclaration } from '../flags.ts';
import { Progress } from '../progress.ts';
import { atLeast, withDefaults } from './bench-flags.ts';

/** Formats that models come in; `--formats all` times every other too. */
const COMMON = 'f32,f16,bf16,q8_0,int8_channel,int8_g128,q4_0,int4_g32,int4_g128,q4_k,q5_k,q6_k,mxfp4,fp8_g128,nf4';
const OPS = ['linear', 'expert-linear', 'attention', 'elementwise', 'sampler', 'step'] as const;

const kernelFlags: readonly FlagDeclaration[] = [
  { name: 'ops', flag: 'ops', kind: 'string', env: null, default: OPS.join(','), placeholder: 'OP,OP', meaning: 'which ops to time' },
  {
    name: 'formats',
    flag: 'formats',
    kind: 'string',
    env: null,
    default: COMMON,
    placeholder: 'all|NAME,NAME',
    meaning: 'number formats of weights',
  },
  { name: 'rows', flag: 'rows', kind: 'integers', env: null, default: [1, 8, 16, 32, 512], placeholder: 'N,N', meaning: 'rows of linear' },
  { name: 'hidden', flag: 'hidden', kind: 'integer', env: null, default: 2048, meaning: 'inputs of the up projection' },
  { name: 'inner', flag: 'inner', kind: 'integer', env: null, default: 8192, meaning: 'its outputs' },
  { name: 'mebibytes', flag: 'mebibytes', kind: 'integer', env: null, default: 96, meaning: 'weights of a format, about; more than the caches hold' },
  {
    name: 'activation',
    flag: 'activation',
    kind: 'string',
    env: null,
    choices: ['auto', 'float', 'int8-group32', 'int8-token'],
    default: 'auto',
    meaning: 'as of the engine',
  },
  { name: 'regionMebibytes', flag: 'region-mebibytes', kind: 'integer', env: null, default: 256, meaning: 'size of a region whose reading is timed' },
  { name: 'regions', flag: 'regions', kind: 'integer', env: null, default: 6, meaning: 'regions whose reading is timed' },
  {
    name: 'isa',
    flag: 'isa',
    kind: 'string',
    env: null,
    choices: ['auto', 'avx512', 'avxvnni', 'avx2', 'neon_dotprod', 'neon', 'portable'],
    default: 'auto',
    meaning: 'instruction-set class',
  },
  {
    name: 'save',
    flag: 'save',
    kind: 'string',
    env: null,
    placeholder: 'FILE',
    meaning: 'also write the report as JSON to this file (docs/kernels.md is made of such files)',
  },
  { name: 'threads', flag: 'threads', kind: 'integer', env: null, meaning: 'threads that compute (default: all processors)' },
];

interface KernelFlags {
  readonly ops: string;
  readonly formats: string;
  readonly rows: readonly number[];
  readonly hidden: number;
  readonly inner: number;
  readonly mebibytes: number;
  readonly activation: 'auto' | 'float' | 'int8-group32' | 'int8-token';
  readonly regionMebibytes: number;
  readonly regions: number;
  readonly isa: string;
  readonly threads?: number;
  readonly save?: string;
}

export function benchKernelsCommand(context: CliContext): Command {
  const command = new Command('kernels').description(
    'GB/s and GOP/s of each op and number format, beside the limits of this machine measured in the same run',
  );
  addFlags(command, kernelFlags).option('--json', 'print the report as JSON');
  return command.action(() => runKernels(context, command));
}

async function runKernels(context: CliContext, command: Command): Promise<void> {
  const flags = withDefaults(command, kernelFlags) as unknown as KernelFlags;
  const { regionMebibytes, regions } = flags;
  atLeast(1, {
    mebibytes: flags.mebibytes,
    regions,
    'region-mebibytes': regionMebibytes,
    rows: Math.min(...flags.rows),
    hidden: flags.hidden,
    inner: flags.inner,
  });
  const programs = programsOf(flags);
  const isJson = command.opts<{ json?: boolean }>().json === true;
  const progress = new Progress(context.stderr, { quiet: isJson });
  const backend = await createNativeBackend({ isa: flags.isa === 'auto' ? undefined : flags.isa, numThreads: flags.threads });
  try {
    const report = await benchKernels(programs, {
      backend,
      weightsFor: createDummySource,
      measureLimits: () => backend.measureLimits(regionMebibytes, regions),
      onProgress: (done, total) => progress.update('measuring', done, total),
    });
    progress.stop();
    const machine = `${os.cpus()[0]?.model ?? 'unknown processor'}, ${os.cpus().length} cores`;
    const date = new Date().toISOString().slice(0, 10);
    const json = JSON.stringify({ date, machine, ...report }, null, 2);
    if (flags.save !== undefined) writeFileSync(flags.save, `${compactJson({ date, machine, ...report })}\n`);
    context.stdout.write(isJson ? `${json}\n` : `${machine}\n${kernelsText(report)}\n`);
  } finally {
    progress.stop();
    await backend.close();
  }
}

/** A line for each row, numbers of four digits: a record that reads well where it changes. */
function compactJson({ rows, ...head }: KernelReport & { readonly date: string; readonly machine: string }): string {
  const short = (_: string, value: unknown): unknown => (typeof value === 'number' ? Number(value.toPrecision(4)) : value);
  const lines = rows.map((row) => `    ${JSON.stringify(row, short)}`);
  return `${JSON.stringify(head, short, 2).slice(0, -2)},\n  "rows": [\n${lines.join(',\n')}\n  ]\n}`;
}

function programsOf(flags: KernelFlags): KernelProgram[] {
  const ops = named('ops', flags.ops, OPS);
  const formats =
    flags.formats === 'all'
      ? (Object.keys(weightFormats) as WeightFormat[])
      : named('formats', flags.formats, Object.keys(weightFormats) as WeightFormat[]);
  const fitting = formats.filter((format) => [flags.hidden, flags.inner].every((width) => width % weightFormats[format].blockElements === 0));
  const activation = (format: WeightFormat) => activationFor(format, flags.hidden, 'auto', flags.activation);
  const programs: KernelProgram[] = [];
  for (const op of ops) {
    if (op === 'linear')
      programs.push(
        ...fitting.map((format) => linearProgram(format, activation(format), flags, heldBits(format), flags.mebibytes * 2 ** 20, flags.rows)),
      );
    else if (op === 'expert-linear')
      programs.push(
        ...fitting
          .filter((format) => ['bf16', 'q8_0', 'int8_channel', 'q4_0', 'q4_k', 'mxfp4'].includes(format))
          .map((format) => expertProgram(format, activation(format), flags.rows)),
      );
    else if (op === 'sampler') programs.push(...samplerModes.map((mode) => samplerProgram(mode, 151_936, [1, 16])));
    else if (op === 'step') programs.push(tinyStepProgram([1, 16]));
    else if (op === 'attention') programs.push(...(Object.keys(kvDtypes) as (keyof typeof kvDtypes)[]).map(attentionProgram));
    else
      for (const each of ['rms-norm', 'add-rms-norm', 'gated-activation', 'rope'] as const)
        programs.push(elementwiseProgram(each, flags.hidden, flags.rows));
  }
  return programs;
}

function named<Name extends string>(flag: string, text: string, known: readonly Name[]): Name[] {
  return text.split(',').map((name) => {
    const found = known.find((each) => each === name);
    if (found === undefined)
      throw new MillraceError('CONFIG_INVALID', {
        message: `--${flag} names something that there is not.`,
        expected: known.join(', '),
        received: name,
        param: flag,
      });
    return found;
  });
}
