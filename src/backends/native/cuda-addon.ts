/**
 * The addon for NVIDIA GPUs: compiled by nvcc on first use, the CUDA runtime linked into it, the driver found when it runs. The same sources, compiled by the
 * C++ compiler with an emulator in place of the GPU, are what tests hold against the reference on machines without one.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { MillraceError, toMillraceError } from '../../base/errors.ts';
import { cacheFolders, writableFolder } from './addon-cache.ts';
import { lockBuild } from './build-lock.ts';
import { build, cxxFlags, link, type Recipe, runCompiler, type Unit } from './compile-addon.ts';
import { type Compiler, findCompiler, findNvcc } from './compiler.ts';
import type { NativeAddon } from './load-addon.ts';
import { cudaHostSources, cudaKernelSources, cudaRuntimeSources, gpuArchitectures, nvccFlags, packageRoot } from './sources.ts';

export interface CudaBuildOptions {
  /** Runs the kernels on the CPU, thread by thread: slow, for tests. */
  readonly emulated?: boolean | undefined;
  readonly environment?: NodeJS.ProcessEnv;
  /** Folders instead of the usual ones, for tests. */
  readonly folders?: readonly string[];
  onProgress?(done: number, total: number): void;
}

/**
 * Builds the addon if need be and returns its path.
 * @throws NATIVE_ADDON_UNAVAILABLE without nvcc or a C++ compiler, or when one fails
 */
export async function buildCudaAddon(options: CudaBuildOptions = {}): Promise<string> {
  const environment = options.environment ?? process.env;
  const folders = options.folders ?? cacheFolders(environment);
  const compiler = findCompiler(environment);
  const recipe = options.emulated === true ? emulatorRecipe(compiler) : gpuRecipe(compiler, findNvcc(environment));
  const name = recipe.name();
  const built = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (built !== undefined) return built;
  const folder = writableFolder(folders);
  const release = await lockBuild(join(folder, `${options.emulated === true ? 'emulated-' : ''}cuda.lock`), () => existsSync(join(folder, name)));
  if (release === null) return join(folder, name);
  try {
    const { onProgress } = options;
    return await build(recipe, { folder, ...(onProgress === undefined ? {} : { onProgress }) });
  } finally {
    release();
  }
}

/** @throws NATIVE_ADDON_UNAVAILABLE */
export async function loadCudaAddon(options: CudaBuildOptions = {}): Promise<NativeAddon> {
  const path = await buildCudaAddon(options);
  try {
    return createRequire(import.meta.url)(path) as NativeAddon;
  } catch (error) {
    throw toMillraceError(error, 'NATIVE_ADDON_UNAVAILABLE');
  }
}

function gpuRecipe(compiler: Compiler, nvcc: Compiler): Recipe {
  const host = [...cxxFlags(), '-DMILLRACE_CUDA'];
  const last = gpuArchitectures[gpuArchitectures.length - 1];
  const architectures = gpuArchitectures.map((name) => `-gencode=arch=compute_${name},code=sm_${name}`);
  const device = [...nvccFlags, ...architectures, `-gencode=arch=compute_${last},code=compute_${last}`];
  return {
    name: () => nameOf('cuda', [compiler, nvcc], [host, device]),
    units: () => [...unitsOf(nvcc, [...cudaKernelSources, ...cudaRuntimeSources.gpu], device), ...unitsOf(compiler, cudaHostSources, host)],
    link: (objects, output) => runCompiler(nvcc, ['-shared', '-cudart', 'static', '-Xcompiler', '-fPIC', ...objects, '-o', output]),
  };
}

function emulatorRecipe(compiler: Compiler): Recipe {
  const host = [...cxxFlags(), '-DMILLRACE_CUDA'];
  const device = [...host, '-Wno-unknown-pragmas', '-x', 'c++'];
  return {
    name: () => nameOf('emulated-cuda', [compiler], [host, device]),
    units: () => [...unitsOf(compiler, cudaKernelSources, device), ...unitsOf(compiler, [...cudaHostSources, ...cudaRuntimeSources.emulator], host)],
    link: (objects, output) => link(compiler, objects, output),
  };
}

function unitsOf(compiler: Compiler, sources: readonly string[], flags: readonly string[]): Unit[] {
  return sources.map((source) => ({ compiler, source: join(packageRoot(), 'native', source), flags }));
}

/** `millrace-<platform>-<arch>-<kind>-<hash of sources, flags and compilers>.node` */
function nameOf(kind: string, compilers: readonly Compiler[], flags: readonly (readonly string[])[]): string {
  const hash = createHash('sha256').update(JSON.stringify([compilers, flags, cudaHostSources, cudaKernelSources, cudaRuntimeSources]));
  const native = join(packageRoot(), 'native');
  for (const folder of ['addon', 'common', 'cpu', 'cuda', 'cuda/emulator']) {
    for (const name of readdirSync(join(native, folder)).sort()) {
      if (/\.(cc|cu|h)$/.test(name)) hash.update(`${folder}/${name}\n`).update(readFileSync(join(native, folder, name)));
    }
  }
  return `millrace-${process.platform}-${process.arch}-${kind}-${hash.digest('hex').slice(0, 20)}.node`;
}

/** Says what is missing where the platform has no CUDA. @throws NATIVE_ADDON_UNAVAILABLE */
export function checkCudaPlatform(): void {
  if (process.platform === 'linux') return;
  throw new MillraceError('NATIVE_ADDON_UNAVAILABLE', {
    message: `The CUDA backend is not built for ${process.platform}.`,
    hint: 'run it on Linux, or in WSL',
  });
}
