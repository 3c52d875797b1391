/** Backends that this machine can run, to be held against the reference. */
import type { Backend } from '../../src/backends/backend.ts';
import { detectFeatures, isasOf, requestedIsa } from '../../src/backends/native/isa.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { MillraceError } from '../../src/base/errors.ts';
import type { KvDtype } from '../../src/kv/layout.ts';
import type { Activation, WeightFormat } from '../../src/plan/plan.ts';

export interface Candidate {
  readonly name: string;
  /** Whether it has kernels for matrices of this format (with activations so rounded) and for a KV cache in this one. */
  takes(format: WeightFormat, activation?: Activation): boolean;
  keeps(dtype: KvDtype): boolean;
  open(): Promise<Backend>;
}

/** Classes that differ in more than their integer dot products; `withDotProducts` adds those that do not. */
const nativeIsas = ['portable', 'avx2', 'avx512', 'neon'];
const dotProductIsas = ['avxvnni', 'neon_dotprod'];

/**
 * The reference itself (the harness must pass on it) and the instruction-set classes of the native backend that build and run here. They are
 * opened here, where a first build may take its time, and stay open until the tests close them. MILLRACE_CPU_ISA names the one to test, for who changes its code.
 */
export async function candidates({ withDotProducts = false } = {}): Promise<Candidate[]> {
  const found: Candidate[] = [{ name: 'reference', takes: () => true, keeps: () => true, open: async () => new ReferenceBackend() }];
  const runs = isasOf(detectFeatures() ?? new Set()) as string[];
  const only = requestedIsa(undefined);
  for (const isa of [...nativeIsas, ...(withDotProducts ? dotProductIsas : [])]) {
    if ((runs.length > 0 && !runs.includes(isa)) || (only !== undefined && only !== isa)) continue;
    try {
      const { createNativeBackend } = await import('../../src/backends/native/native-backend.ts');
      const backend = await createNativeBackend({ isa, numThreads: 2 });
      found.push({ name: `cpu ${isa}`, takes: () => true, keeps: () => true, open: async () => backend });
    } catch (thrown) {
      const cannotRun = thrown instanceof MillraceError && (thrown.code === 'NATIVE_ADDON_UNAVAILABLE' || thrown.code === 'CONFIG_INVALID');
      if (!cannotRun) throw thrown;
      console.warn(`conformance skips cpu ${isa}: ${thrown.message}`);
    }
  }
  return found;
}

/** The kernels for GPUs, run on the CPU by the emulator: what they compute, not how fast. For the ops that they have. */
export async function emulatedGpu(): Promise<Candidate> {
  const { createCudaBackend } = await import('../../src/backends/native/native-backend.ts');
  const backend = await createCudaBackend({ emulated: true, numThreads: 2 });
  const plain = ['f32', 'f16', 'bf16'];
  return {
    name: 'cuda emulated',
    takes: (format, activation = 'f32') => plain.includes(format) && plain.includes(activation),
    keeps: (dtype) => plain.includes(dtype),
    open: async () => backend,
  };
}

/** Remembers what the reference gave, for the candidates after the first. */
export function remembered<T>(): (key: string, compute: () => Promise<T>) => Promise<T> {
  const known = new Map<string, Promise<T>>();
  return (key, compute) => {
    const result = known.get(key) ?? compute();
    known.set(key, result);
    return result;
  };
}

/** Sum of squared differences over sum of squares; both NaN or both equal count as no difference. */
export function normalisedError(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Infinity;
  let difference = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    if (Object.is(actual[i], expected[i])) {
      if (Number.isFinite(expected[i])) size += expected[i] ** 2;
      continue;
    }
    difference += (actual[i] - expected[i]) ** 2;
    size += expected[i] ** 2;
  }
  if (Number.isNaN(difference)) return Infinity;
  return difference === 0 ? 0 : difference / size;
}

/** Largest error of f32 accumulation in any order against f64: about (2^-24)^2 times a little for the length of sums. */
export const F32_ERROR = 1e-12;

export const rowCounts = [1, 2, 3, 5, 7, 8, 9, 16, 17, 33, 64, 65, 70];
