/** Backends that this machine can run, to be held against the reference. */
import type { Backend } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';

export interface Candidate {
  readonly name: string;
  open(): Promise<Backend>;
}

const nativeIsas = ['portable', 'avx2', 'avx512'];

/** The reference itself (the harness must pass on it) and every instruction-set class of the native backend that builds and runs here. */
export async function candidates(): Promise<Candidate[]> {
  const found: Candidate[] = [{ name: 'reference', open: async () => new ReferenceBackend() }];
  for (const isa of nativeIsas) {
    try {
      const { createNativeBackend } = await import('../../src/backends/native/native-backend.ts');
      const open = () => createNativeBackend({ isa, numThreads: 2 });
      const backend = await open();
      const matches = backend.info.isa === isa;
      await backend.close();
      if (matches) found.push({ name: `cpu ${isa}`, open });
    } catch (thrown) {
      const code = (thrown as { code?: string }).code;
      if (code === undefined) throw thrown;
      console.warn(`conformance skips cpu ${isa}: ${(thrown as Error).message}`);
    }
  }
  return found;
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
