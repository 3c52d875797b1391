/** What the addon is built from, and with which flags. The native tree itself is found by `packageRoot`. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '../../base/errors.ts';
import type { Isa } from './isa.ts';

/** Compiled once, for any machine of the platform. Paths are relative to `native/`. */
export const baseSources = [
  'addon/addon.cc',
  'addon/device_exports.cc',
  'addon/feature_exports.cc',
  'addon/handle.cc',
  'addon/model_exports.cc',
  'addon/block_exports.cc',
  'addon/describe_exports.cc',
  'addon/limits_exports.cc',
  'addon/step_exports.cc',
  'addon/values.cc',
  'addon/worker.cc',
  'common/check_entry.cc',
  'common/mapped_file.cc',
  'common/memory.cc',
  'common/plan.cc',
  'common/sampling.cc',
  'common/step.cc',
  'cpu/cache.cc',
  'cpu/check_plan.cc',
  'cpu/cpu_features.cc',
  'cpu/device.cc',
  'cpu/executor.cc',
  'cpu/limits.cc',
  'cpu/program.cc',
  'cpu/sampler.cc',
  'cpu/thread_pool.cc',
  'cpu/weight.cc',
] as const;

/** Compiled once for each instruction set, with its flags and `-DMILLRACE_ISA=`. */
export const kernelSources = [
  'cpu/attention.cc',
  'cpu/attention_bf16.cc',
  'cpu/attention_direct.cc',
  'cpu/attention_direct_bf16.cc',
  'cpu/attention_softmax.cc',
  'cpu/attention_split.cc',
  'cpu/attention_latent.cc',
  'cpu/elementwise.cc',
  'cpu/expert_linear.cc',
  'cpu/head_linear.cc',
  'cpu/kernel_table.cc',
  'cpu/kv_cache.cc',
  'cpu/kv_retain.cc',
  'cpu/limit_kernels.cc',
  'cpu/linear.cc',
  'cpu/linear_bf16.cc',
  'cpu/linear_blocks.cc',
  'cpu/linear_code_books.cc',
  'cpu/linear_fields.cc',
  'cpu/linear_float.cc',
  'cpu/linear_float_groups.cc',
  'cpu/linear_int_groups.cc',
  'cpu/linear_pack.cc',
  'cpu/linear_q4_0.cc',
  'cpu/linear_int8_channel.cc',
  'cpu/linear_q8_0.cc',
  'cpu/linear_super_blocks.cc',
  'cpu/moe_route.cc',
  'cpu/quantize_activation.cc',
  'cpu/rope.cc',
  'cpu/sampler_kernels.cc',
] as const;

/** The GPU addon: the exports and what both devices share, the host's packing, then the device itself. Compiled once. */
export const cudaHostSources = [
  ...baseSources.filter((source) => !/^cpu\/|feature_exports|limits_exports/.test(source)),
  'cpu/check_plan.cc',
  'cpu/thread_pool.cc',
  'cpu/weight.cc',
  'addon/gpu_exports.cc',
  'cuda/cache.cc',
  'cuda/device.cc',
  'cuda/executor.cc',
  'cuda/program.cc',
  'cuda/sampler.cc',
  'cuda/step_recordings.cc',
  'cuda/weight.cc',
] as const;

/** Compiled by nvcc, or for the emulator by the C++ compiler. */
export const cudaKernelSources = [
  'cuda/attention.cu',
  'cuda/attention_tiles.cu',
  'cuda/linear.cu',
  'cuda/elementwise.cu',
  'cuda/embedding.cu',
  'cuda/kv_cache.cu',
  'cuda/norm.cu',
  'cuda/rope.cu',
  'cuda/sampler.cu',
] as const;

/** The runtime: that of CUDA, or that of the emulator. */
export const cudaRuntimeSources = { gpu: ['cuda/runtime.cu'], emulator: ['cuda/emulator/emulator.cc', 'cuda/emulator/runtime.cc'] } as const;

/** Of nvcc: no contraction, as everywhere, and code for each generation that it knows, with PTX of the last for later ones. */
export const nvccFlags = [
  '-std=c++17',
  '-O3',
  '--fmad=false',
  '-DNDEBUG',
  '-DMILLRACE_CUDA',
  '-Xcompiler',
  '-fPIC,-fvisibility=hidden,-ffp-contract=off',
] as const;
export const gpuArchitectures = ['80', '89', '90a', '100', '120'] as const;

/**
 * For every source. Reproducibility forbids contraction and fast-math; `-fno-math-errno` and `-fno-trapping-math` change no result, they only
 * let loops with square roots and selections become vectors.
 */
export const commonFlags = [
  '-O3',
  '-std=c++17',
  '-fPIC',
  '-fvisibility=hidden',
  '-ffp-contract=off',
  '-fno-fast-math',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-DNAPI_VERSION=8',
  '-DNDEBUG',
] as const;

const avx2Flags = ['-mavx2', '-mfma', '-mf16c', '-mbmi2'] as const;

export const isaFlags: Record<Isa, readonly string[]> = {
  portable: [],
  avx2: avx2Flags,
  avxvnni: [...avx2Flags, '-mavxvnni'],
  avx512: [
    ...avx2Flags,
    '-mavx512f',
    '-mavx512bw',
    '-mavx512vl',
    '-mavx512dq',
    '-mavx512vnni',
    '-mavx512bf16',
    '-mavx512vbmi',
    '-mprefer-vector-width=512',
  ],
  neon: [],
  neon_dotprod: ['-march=armv8.2-a+dotprod'],
};

/** The folder with `package.json` and `native/`, above this file whether it runs from `src/` or `dist/`. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new MillraceError('INTERNAL', 'No package.json lies above the native backend.');
    folder = parent;
  }
  return folder;
}
