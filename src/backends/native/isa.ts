/** Instruction-set classes of the native CPU backend: which one this machine runs, and which one to use. */
import { readFileSync } from 'node:fs';
import { MillraceError } from '../../base/errors.ts';

/**
 * Those of a processor family weakest first. `avx2`: with FMA, F16C, BMI2. `avxvnni`: those and AVX-VNNI. `avx512`: those of avx2 and F, BW, VL, DQ, VNNI, BF16
 * and VBMI. `neon`: Armv8's ASIMD; `neon_dotprod`: with the dot products of Armv8.2.
 */
export const isas = ['portable', 'avx2', 'avxvnni', 'avx512', 'neon', 'neon_dotprod'] as const;
export type Isa = (typeof isas)[number];

const avx2 = ['avx2', 'fma', 'f16c', 'bmi2'];
/** As /proc/cpuinfo spells them. */
const needed: Record<Isa, readonly string[]> = {
  portable: [],
  avx2,
  avxvnni: [...avx2, 'avx_vnni'],
  avx512: [...avx2, 'avx512f', 'avx512bw', 'avx512vl', 'avx512dq', 'avx512_vnni', 'avx512_bf16', 'avx512vbmi'],
  neon: ['asimd'],
  neon_dotprod: ['asimd', 'asimddp'],
};

/** What is compiled where the compiler does not know a class. */
export const weaker: Record<Isa, Isa> = {
  portable: 'portable',
  avx2: 'portable',
  avxvnni: 'avx2',
  avx512: 'avx2',
  neon: 'portable',
  neon_dotprod: 'neon',
};

/** Names of the compiler's macros for the same features. */
const macros: Record<string, string> = {
  __AVX2__: 'avx2',
  __FMA__: 'fma',
  __F16C__: 'f16c',
  __BMI2__: 'bmi2',
  __AVXVNNI__: 'avx_vnni',
  __AVX512F__: 'avx512f',
  __AVX512BW__: 'avx512bw',
  __AVX512VL__: 'avx512vl',
  __AVX512DQ__: 'avx512dq',
  __AVX512VNNI__: 'avx512_vnni',
  __AVX512BF16__: 'avx512_bf16',
  __AVX512VBMI__: 'avx512vbmi',
  __ARM_NEON: 'asimd',
  __ARM_FEATURE_DOTPROD: 'asimddp',
};

/** The classes whose features are all in `features`, the best last. */
export function isasOf(features: ReadonlySet<string>): Isa[] {
  return isas.filter((isa) => needed[isa].every((feature) => features.has(feature)));
}

/** The best class whose features are all in `features`. */
export function bestIsaOf(features: ReadonlySet<string>): Isa {
  return isasOf(features).at(-1) ?? 'portable';
}

/**
 * What this machine and its operating system run, as the kernel tells: it leaves out what it does not save on a context switch. `null`
 * where the system has no such list; then the compiler is asked. The variable MILLRACE_CPU_MASK hides features: names, separated by commas.
 */
export function detectFeatures(environment: NodeJS.ProcessEnv = process.env): ReadonlySet<string> | null {
  const found = systemFeatures();
  return found === null ? null : masked(found, environment);
}

function systemFeatures(): string[] | null {
  if (process.arch !== 'x64' && process.arch !== 'arm64') return [];
  if (process.platform === 'darwin' && process.arch === 'arm64') return ['asimd', 'asimddp']; // of every processor of this system
  if (process.platform !== 'linux') return null;
  try {
    return /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].trim().split(/\s+/) ?? null;
  } catch {
    return null;
  }
}

function masked(features: readonly string[], { MILLRACE_CPU_MASK = '' }: NodeJS.ProcessEnv): ReadonlySet<string> {
  const hidden = new Set(MILLRACE_CPU_MASK.split(','));
  return new Set(features.filter((feature) => !hidden.has(feature)));
}

/** What a compiler's `-march=native` stands for, from its list of predefined macros; less what MILLRACE_CPU_MASK hides. */
export function featuresFromMacros(text: string, environment: NodeJS.ProcessEnv = process.env): ReadonlySet<string> {
  const features: string[] = [];
  for (const [, name] of text.matchAll(/^#define (\w+) /gm)) if (macros[name] !== undefined) features.push(macros[name]);
  return masked(features, environment);
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

/** @throws CONFIG_INVALID when the machine has not all that `wanted` needs */
export function checkIsaRuns(wanted: Isa, features: ReadonlySet<string>): void {
  const runs = isasOf(features);
  if (runs.includes(wanted)) return;
  throw new MillraceError('CONFIG_INVALID', {
    message: 'The instruction set asked for is above what this machine has.',
    expected: runs.join(', '),
    received: wanted,
    hint: 'unset MILLRACE_CPU_ISA to get the best one',
  });
}
