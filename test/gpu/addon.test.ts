import { describe, expect, test } from 'vitest';
import { findNvcc } from '../../src/backends/native/compiler.ts';
import { loadCudaAddon } from '../../src/backends/native/cuda-addon.ts';
import { createCudaBackend } from '../../src/backends/native/native-backend.ts';
import { MillraceError } from '../../src/base/errors.ts';

function hasNvcc(): boolean {
  try {
    return findNvcc().version !== '';
  } catch {
    return false;
  }
}

const missing = hasNvcc() ? '' : ' (skipped: there is no nvcc)';

describe.skipIf(missing !== '')(`the GPU addon${missing}`, () => {
  test('is compiled for every generation, exports what the CPU addon does, and says what it lacks where there is no GPU', {
    timeout: 900_000,
  }, async () => {
    const addon = await loadCudaAddon();
    for (const name of [
      'createDevice',
      'packWeight',
      'createProgram',
      'describePlan',
      'createCache',
      'forward',
      'sample',
      'readBlocks',
      'writeBlocks',
    ]) {
      expect(addon).toHaveProperty(name);
    }
    const opened = await createCudaBackend({ numThreads: 1 }).catch((error: unknown) => error);
    if (!(opened instanceof MillraceError)) return (opened as { close(): Promise<void> }).close(); // there is one
    expect(opened.code).toBe('GPU_UNAVAILABLE');
    expect(opened.message).toMatch(/driver|GPU/);
    expect(opened.message).toMatch(/CUDA \d+\.\d+/);
  });
});

test('a second device of the emulator is refused', async () => {
  await expect(createCudaBackend({ emulated: true, device: '1', numThreads: 1 })).rejects.toThrow('There is no GPU of that number');
  await expect(createCudaBackend({ emulated: true, device: 'x', numThreads: 1 })).rejects.toThrow('A GPU is named by its number');
});
