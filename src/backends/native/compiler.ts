/** Finding a C++ compiler, and saying what to install when there is none. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { MillraceError } from '../../base/errors.ts';
import { featuresFromMacros } from './isa.ts';

export interface Compiler {
  readonly command: string;
  /** Arguments that come first, as in `CXX="ccache g++"`. */
  readonly prefix: readonly string[];
  /** First line of `--version` and the target: part of the cache key. */
  readonly version: string;
}

interface Attempt {
  readonly tried: string;
  readonly outcome: string;
}

/**
 * The compiler named by CXX, or the first of c++, g++, clang++ that runs.
 * @throws NATIVE_ADDON_UNAVAILABLE telling what was tried and what to install
 */
export function findCompiler(environment: NodeJS.ProcessEnv = process.env): Compiler {
  const attempts: Attempt[] = [];
  const named = environment.CXX?.trim();
  const candidates = named === undefined || named === '' ? ['c++', 'g++', 'clang++'] : [named];
  for (const candidate of candidates) {
    const [command, ...prefix] = existsSync(candidate) ? [candidate] : candidate.split(/\s+/);
    const run = spawnSync(command, [...prefix, '--version'], { encoding: 'utf8', env: { ...environment, LC_ALL: 'C' } });
    const version = run.stdout?.split('\n')[0]?.trim();
    if (run.status === 0 && version !== undefined && version !== '') return { command, prefix, version };
    attempts.push({ tried: candidate, outcome: outcomeOf(run) });
  }
  throw new MillraceError('NATIVE_ADDON_UNAVAILABLE', {
    message: `No C++ compiler was found (${attempts.map((a) => `${a.tried}: ${a.outcome}`).join('; ')}).`,
    hint: `${installHint()}, or set CXX to a C++17 compiler`,
  });
}

/**
 * nvcc: the one that NVCC names, that of PATH, or that of CUDA's usual folder.
 * @throws NATIVE_ADDON_UNAVAILABLE telling what was tried and what to install
 */
export function findNvcc(environment: NodeJS.ProcessEnv = process.env): Compiler {
  const named = environment.NVCC?.trim();
  const attempts: Attempt[] = [];
  for (const command of named === undefined || named === '' ? ['nvcc', '/usr/local/cuda/bin/nvcc'] : [named]) {
    const run = spawnSync(command, ['--version'], { encoding: 'utf8', env: { ...environment, LC_ALL: 'C' } });
    const version = run.stdout?.trim().split('\n').at(-1)?.trim();
    if (run.status === 0 && version !== undefined && version !== '') return { command, prefix: [], version };
    attempts.push({ tried: command, outcome: outcomeOf(run) });
  }
  throw new MillraceError('NATIVE_ADDON_UNAVAILABLE', {
    message: `No CUDA compiler was found (${attempts.map((a) => `${a.tried}: ${a.outcome}`).join('; ')}).`,
    hint: 'install the CUDA toolkit 13 or later, or set NVCC to its nvcc',
  });
}

function outcomeOf(run: ReturnType<typeof spawnSync>): string {
  if (run.error !== undefined) return (run.error as NodeJS.ErrnoException).code === 'ENOENT' ? 'not in PATH' : run.error.message;
  return run.status === null ? `ended by ${run.signal}` : `exit status ${run.status}`;
}

/** What gives this operating system a compiler. */
export function installHint(platform: NodeJS.Platform = process.platform): string {
  switch (platform) {
    case 'darwin':
      return 'run `xcode-select --install`';
    case 'win32':
      return 'run Millrace in WSL (Linux) for the native backend';
    default:
      return 'install g++ (`apt-get install g++`, `dnf install gcc-c++`, `apk add g++` or `pacman -S gcc`)';
  }
}

/** What this machine runs, by the compiler's `-march=native`; nothing where it does not say. */
export function featuresByCompiler(compiler: Compiler): ReadonlySet<string> {
  const run = spawnSync(compiler.command, [...compiler.prefix, '-march=native', '-dM', '-E', '-x', 'c++', '-'], { encoding: 'utf8', input: '' });
  return run.status === 0 ? featuresFromMacros(run.stdout) : new Set();
}

/** Whether the compiler knows all these flags. */
export function takesFlags(compiler: Compiler, flags: readonly string[]): boolean {
  if (flags.length === 0) return true;
  return spawnSync(compiler.command, [...compiler.prefix, ...flags, '-fsyntax-only', '-x', 'c++', '-'], { input: '' }).status === 0;
}
