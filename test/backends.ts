/** The backends that this machine can test: the reference always, the native CPU one where a compiler is. */
import type { Backend } from '../src/backends/backend.ts';
import { ReferenceBackend } from '../src/backends/reference/reference-backend.ts';
import { MillraceError } from '../src/base/errors.ts';

/** The native addon may have to be compiled first. */
export const BUILD_TIMEOUT_MS = 600_000;

export interface TestedBackend {
  readonly label: string;
  /** Null, with the reason printed by the test, where it cannot run here. */
  create(): Promise<Backend | null>;
}

export const testedBackends: readonly TestedBackend[] = [
  { label: 'reference', create: async () => new ReferenceBackend() },
  { label: 'native cpu', create: createNative },
];

async function createNative(): Promise<Backend | null> {
  try {
    const { createNativeBackend } = await import('../src/backends/native/native-backend.ts');
    return await createNativeBackend({ numThreads: 2 });
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'NATIVE_ADDON_UNAVAILABLE') {
      console.warn(`tests skip the native backend: ${error.message}`);
      return null;
    }
    throw error;
  }
}
