/**
 * The addon's binary for this machine: from the cache when it is there, else compiled on first use. No install script, so that installing the package
 * runs nothing.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError, toMillraceError } from '../../base/errors.ts';
import { addonName, cachedAddons, cacheFolders, writableFolder } from './addon-cache.ts';
import { lockBuild } from './build-lock.ts';
import { compileAddon } from './compile-addon.ts';
import { type Compiler, featuresByCompiler, findCompiler, installHint } from './compiler.ts';
import { bestIsaOf, checkIsaRuns, detectFeatures, type Isa, requestedIsa } from './isa.ts';

export interface BuildOptions {
  /** Kernel variants; default: the one that `MILLRACE_CPU_ISA` names, else the best that this machine runs. */
  readonly isas?: readonly Isa[] | undefined;
  /** Takes lines for people: that it compiles, and how long it took. */
  log?(line: string): void;
  /** Called as sources are compiled. */
  onProgress?(done: number, total: number): void;
  /** Where variables are read: PATH, CXX, MILLRACE_CPU_ISA, XDG_CACHE_HOME. */
  readonly environment?: NodeJS.ProcessEnv;
  /** Folders instead of the usual ones, for tests. */
  readonly folders?: readonly string[];
  /** Compile even if there is a binary: it did not load. */
  readonly force?: boolean;
}

/**
 * Makes sure that the addon is built, and returns its path. Quick when it is. Without a compiler, a binary that another compiler has made of the
 * same sources will do.
 * @throws NATIVE_ADDON_UNAVAILABLE without a compiler (saying what to install) or when it fails; CONFIG_INVALID for a wrong MILLRACE_CPU_ISA
 */
export async function buildAddon(options: BuildOptions = {}): Promise<string> {
  const environment = options.environment ?? process.env;
  const folders = options.folders ?? cacheFolders(environment);
  const found = tryFindCompiler(environment);
  const variants = options.isas ?? [chooseIsa(environment, found.compiler)];
  const cached = options.force === true ? [] : cachedAddons(variants, folders);
  if (found.compiler === null) {
    if (cached.length > 0) return cached[0];
    throw found.error;
  }
  const { compiler } = found;
  const name = addonName(variants, compiler);
  const current = cached.find((path) => path.endsWith(name));
  if (current !== undefined) return current;
  const folder = writableFolder(folders);
  const target = join(folder, name);
  const isBuilt = () => options.force !== true && existsSync(target);
  const release = await lockBuild(join(folder, `${variants.join('+')}.lock`), isBuilt);
  if (release === null) return target;
  try {
    const start = performance.now();
    options.log?.(`compiling the native backend (${variants.join(', ')}; ${compiler.version})`);
    const { onProgress } = options;
    const path = await compileAddon(compiler, { isas: variants, folder, ...(onProgress === undefined ? {} : { onProgress }) });
    options.log?.(`compiled the native backend in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return path;
  } finally {
    release();
  }
}

function tryFindCompiler(environment: NodeJS.ProcessEnv): { compiler: Compiler; error?: never } | { compiler: null; error: unknown } {
  try {
    if (process.platform === 'win32') {
      throw new MillraceError('NATIVE_ADDON_UNAVAILABLE', { message: 'The native backend is not built for Windows yet.', hint: installHint() });
    }
    return { compiler: findCompiler(environment) };
  } catch (error) {
    return { compiler: null, error: toMillraceError(error) };
  }
}

/** The variant that this machine is to use. Where the system does not say what it runs, the compiler does; without one either, the addon finds out. */
export function chooseIsa(environment: NodeJS.ProcessEnv, compiler: Compiler | null, option?: string): Isa {
  const features = detectFeatures(environment) ?? (compiler === null ? null : featuresByCompiler(compiler));
  const wanted = requestedIsa(option, environment);
  if (wanted !== undefined && features !== null) checkIsaRuns(wanted, features);
  return wanted ?? bestIsaOf(features ?? new Set());
}
