/** The backends: one row each, loaded when chosen. Imported by `engine/load.ts`, `worker/` and tests only. */
import type { Backend } from './backend.ts';

export interface BackendOptions {
  readonly numThreads: number;
  /** Instruction-set class of native kernels; the best of this machine when absent. */
  readonly isa?: string;
  /** Where the matrices of experts are: in memory as the kernels want them, or in the checkpoint's file. */
  readonly experts?: 'auto' | 'packed' | 'mapped';
  /** Whether each computing thread keeps to a processor of its own. */
  readonly pinThreads?: boolean;
  /** Sources compiled so far and in all, on the native backend's first use. */
  onBuildProgress?(done: number, total: number): void;
}

export const backends = {
  cpu: async (options: BackendOptions): Promise<Backend> => (await import('./native/native-backend.ts')).createNativeBackend(options),
  cuda: async (options: BackendOptions): Promise<Backend> => (await import('./native/native-backend.ts')).createCudaBackend(options),
  reference: async (): Promise<Backend> => new (await import('./reference/worker-backend.ts')).WorkerReferenceBackend(),
  null: async (): Promise<Backend> => new (await import('./null/null-backend.ts')).NullBackend(),
} as const satisfies Record<string, (options: BackendOptions) => Promise<Backend>>;

export type BackendName = keyof typeof backends;
