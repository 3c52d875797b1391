/**
 * Compiles the addon with the system's C++ compiler, straight from Node. Sources are compiled side by side, one process a core; objects are kept by
 * the hash of all that goes into them, so that after a change only what it touches is compiled again. Everything is put in its place by an atomic
 * rename: any number of processes may build at once.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { MillraceError } from '../../base/errors.ts';
import { readMachine } from '../../base/machine.ts';
import { addonName, pruneCache, unitHash } from './addon-cache.ts';
import { type Compiler, takesFlags } from './compiler.ts';
import { type Isa, isas, weaker } from './isa.ts';
import { baseSources, commonFlags, isaFlags, kernelSources, packageRoot } from './sources.ts';

export interface CompileOptions {
  /** Kernel variants to compile. One that the compiler does not know is replaced by the next weaker. */
  readonly isas: readonly Isa[];
  /** Where the binary goes; objects go to `objects` below. */
  readonly folder: string;
  /** Called as sources are done. */
  onProgress?(done: number, total: number): void;
}

/** One call of a compiler. */
export interface Unit {
  readonly compiler: Compiler;
  readonly source: string;
  readonly flags: readonly string[];
}

/** What a binary is made of. */
export interface Recipe {
  /** What the binary is called, by all that goes into it. */
  name(): string;
  units(): readonly Unit[];
  link(objects: readonly string[], output: string): Promise<void>;
}

/** Times that a build starts over because sources changed under it. */
const MAX_ATTEMPTS = 5;

/**
 * Compiles and links. Returns the path of the binary.
 * @throws NATIVE_ADDON_UNAVAILABLE with the compiler's own words when it fails
 */
export function compileAddon(compiler: Compiler, options: CompileOptions): Promise<string> {
  const recipe: Recipe = {
    name: () => addonName(options.isas, compiler),
    units: () => unitsOf(compiler, supported(compiler, options.isas)),
    link: (objects, output) => link(compiler, objects, output),
  };
  return build(recipe, options);
}

/** As `compileAddon`, for any recipe. */
export async function build(recipe: Recipe, { folder, onProgress }: Omit<CompileOptions, 'isas'>): Promise<string> {
  const work = join(folder, `.build-${process.pid}-${randomBytes(4).toString('hex')}`);
  mkdirSync(work, { recursive: true });
  mkdirSync(join(folder, 'objects'), { recursive: true });
  try {
    for (let attempt = 1; ; attempt++) {
      const name = recipe.name();
      const linked = await compileAndLink(recipe, folder, work, onProgress);
      if (recipe.name() !== name && attempt < MAX_ATTEMPTS) continue; // somebody is editing: the name would lie
      renameSync(linked, join(folder, name));
      pruneCache(folder);
      return join(folder, name);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function compileAndLink(recipe: Recipe, folder: string, work: string, onProgress: CompileOptions['onProgress']): Promise<string> {
  const units = recipe.units();
  let done = 0;
  onProgress?.(0, units.length + 1);
  const objects: string[] = [];
  await inParallel(
    units.map((unit, i) => ({ unit, i })),
    readMachine().numCpus,
    async ({ unit, i }) => {
      objects[i] = await objectOf(unit, join(folder, 'objects'), work);
      onProgress?.(++done, units.length + 1);
    },
  );
  const linked = join(work, 'millrace.node');
  await recipe.link(objects, linked);
  onProgress?.(units.length + 1, units.length + 1);
  return linked;
}

/** The object of a unit: the kept one, or a new one, kept if the source stood still meanwhile. */
async function objectOf(unit: Unit, folder: string, work: string): Promise<string> {
  const { compiler } = unit;
  const hash = unitHash(unit.source, unit.flags, compiler);
  const kept = join(folder, `${hash}.o`);
  if (existsSync(kept)) {
    utimesSync(kept, new Date(), new Date());
    return kept;
  }
  const fresh = join(work, `${hash}.o`);
  await runCompiler(compiler, [...unit.flags, '-c', unit.source, '-o', fresh]);
  if (unitHash(unit.source, unit.flags, compiler) !== hash) return fresh;
  renameSync(fresh, kept);
  return kept;
}

/** The variants that the compiler can make, without repeats. */
function supported(compiler: Compiler, wanted: readonly Isa[]): Isa[] {
  const able = (isa: Isa) => takesFlags(compiler, isaFlags[isa]);
  const nearest = (isa: Isa): Isa => (able(isa) ? isa : nearest(weaker[isa]));
  return [...new Set(wanted.map(nearest))];
}

/** Flags of the C++ compiler for every source, and where Node-API's headers are. */
export function cxxFlags(): string[] {
  const headers = join(dirname(createRequire(join(packageRoot(), 'package.json')).resolve('node-api-headers/package.json')), 'include');
  return [...commonFlags, '-isystem', headers];
}

function unitsOf(compiler: Compiler, variants: readonly Isa[]): Unit[] {
  const root = packageRoot();
  const common = cxxFlags();
  const ordered = isas.filter((isa) => variants.includes(isa));
  const defines = [`-DMILLRACE_VARIANTS=${ordered.map((isa) => `X(${isa})`).join('')}`];
  const unit = (source: string, flags: readonly string[]): Unit => ({ compiler, source: join(root, 'native', source), flags: [...common, ...flags] });
  // Kernels first: they take longest.
  return [
    ...variants.flatMap((isa) => kernelSources.map((source) => unit(source, [...isaFlags[isa], `-DMILLRACE_ISA=${isa}`]))),
    ...baseSources.map((source) => unit(source, source === VARIANT_LIST ? defines : [])),
  ];
}

/** The one source that must know which variants there are. */
const VARIANT_LIST: (typeof baseSources)[number] = 'cpu/cpu_features.cc';

export async function link(compiler: Compiler, objects: readonly string[], output: string): Promise<void> {
  if (process.platform === 'darwin') {
    await runCompiler(compiler, ['-bundle', '-undefined', 'dynamic_lookup', ...objects, '-o', output]);
    return;
  }
  const flags = ['-shared', '-pthread', '-Wl,--gc-sections', ...objects, '-o', output];
  try {
    await runCompiler(compiler, ['-static-libstdc++', '-static-libgcc', ...flags]);
  } catch {
    await runCompiler(compiler, flags); // no static libraries installed: the shared ones do as well
  }
}

export function runCompiler(compiler: Compiler, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(compiler.command, [...compiler.prefix, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let words = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (words.length < 20_000) words += text;
    });
    const settle = (problem: string | null) => {
      if (problem === null) resolve();
      else reject(compilerFailed(compiler, problem, words));
    };
    child.on('error', (error) => settle(error.message));
    child.on('close', (status, signal) => settle(status === 0 ? null : signal === null ? `exit status ${status}` : `ended by ${signal}`));
  });
}

function compilerFailed(compiler: Compiler, problem: string, words: string): MillraceError {
  const shown = words.split('\n').slice(0, 20).join('\n').slice(0, 2000);
  return new MillraceError('NATIVE_ADDON_UNAVAILABLE', {
    message: `The compiler ${compiler.command} (${compiler.version}) failed: ${problem}.\n${shown}`,
    hint: 'Millrace needs GCC 10 or Clang 12 or later',
  });
}

/** Runs `task` on all items, at most `width` at a time; on the first failure starts no more, waits for those under way and throws. */
async function inParallel<T>(items: readonly T[], width: number, task: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failed: { error: unknown } | undefined;
  const lane = async () => {
    while (next < items.length && failed === undefined) {
      try {
        await task(items[next++]);
      } catch (error) {
        failed ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
  if (failed !== undefined) throw failed.error;
}
