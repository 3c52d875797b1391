/** Instruction-set classes of the native CPU backend: which one this machine runs, and which one to use. */
import { readFileSync } from 'node:fs';
import { MillraceError } from '../../base/errors.ts';

/** Weakest first. `avx2`: with FMA, F16C, BMI2. `avx512`: F, BW, VL, DQ, VNNI and BF16 besides. */
export const isas = ['portable', 'avx2', 'avx512'] as const;
export type Isa = (typeof isas)[number];

const needed: Record<Isa, readonly string[]> = {
  portable: [],
  avx2: ['avx2', 'fma', 'f16c', 'bmi2'],
  avx512: ['avx2', 'fma', 'f16c', 'bmi2', 'avx512f', 'avx512bw', 'avx512vl', 'avx512dq', 'avx512_vnni', 'avx512_bf16'],
};

/** Names of the compiler's macros for the same features. */
const macros: Record<string, string> = {
  __AVX2__: 'avx2',
  __FMA__: 'fma',
  __F16C__: 'f16c',
  __BMI2__: 'bmi2',
  __AVX512F__: 'avx512f',
  __AVX512BW__: 'avx512bw',
  __AVX512VL__: 'avx512vl',
  __AVX512DQ__: 'avx512dq',
  __AVX512VNNI__: 'avx512_vnni',
  __AVX512BF16__: 'avx512_bf16',
};

/** The best class whose features are all in `features`. */
export function bestIsaOf(features: ReadonlySet<string>): Isa {
  return isas.findLast((isa) => needed[isa].every((feature) => features.has(feature))) ?? 'portable';
}

/**
 * What this machine and its operating system run, as the kernel tells: it leaves out what it does not save on a context switch. `null`
 * where the system has no such list; then the compiler is asked.
 */
export function detectIsa(): Isa | null {
  if (process.arch !== 'x64') return 'portable';
  if (process.platform !== 'linux') return null;
  try {
    const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
    return flags === undefined ? null : bestIsaOf(new Set(flags.trim().split(/\s+/)));
  } catch {
    return null;
  }
}

/** The class that a compiler's `-march=native` stands for, from its list of predefined macros. */
export function isaFromMacros(text: string): Isa {
  const features = new Set<string>();
  for (const [, name] of text.matchAll(/^#define (\w+) /gm)) if (macros[name] !== undefined) features.add(macros[name]);
  return bestIsaOf(features);
}

/**
 * The class that the user asks for, by option or by the variable MILLRACE_CPU_ISA; undefined for the best one.
 * @throws CONFIG_INVALID for a word that names none
 */
export function requestedIsa(option: string | undefined, environment: NodeJS.ProcessEnv = process.env): Isa | undefined {
  const word = option ?? environment.MILLRACE_CPU_ISA;
  if (word === undefined || word === '' || word === 'auto') return undefined;
  const isa = isas.find((known) => known === word);
  if (isa !== undefined) return isa;
  throw new MillraceError('CONFIG_INVALID', {
    message: option === undefined ? 'MILLRACE_CPU_ISA names no instruction set.' : 'The option isa names no instruction set.',
    expected: `auto, ${isas.join(', ')}`,
    received: word,
  });
}

/** @throws CONFIG_INVALID when `wanted` is above what the machine has */
export function checkIsaRuns(wanted: Isa, best: Isa): void {
  if (isas.indexOf(wanted) <= isas.indexOf(best)) return;
  throw new MillraceError('CONFIG_INVALID', {
    message: 'The instruction set asked for is above what this machine has.',
    expected: isas.slice(0, isas.indexOf(best) + 1).join(', '),
    received: wanted,
    hint: 'unset MILLRACE_CPU_ISA to get the best one',
  });
}
