import { expect, test } from 'vitest';
import type { CacheGroup } from '../plan/plan.ts';
import { checkOptions, type LoadOptions } from './config.ts';
import { type LoadFacts, resolveConfig } from './resolve.ts';

const GIB = 2 ** 30;
const full: CacheGroup = { name: 'full', kind: 'full', numLayers: 24, numKvHeads: 2, headDim: 64 };
const sliding: CacheGroup = { name: 'window', kind: 'window', window: 512, numLayers: 20, numKvHeads: 4, headDim: 64 };

function facts(changes: { availableGib?: number; groups?: readonly CacheGroup[]; name?: 'cpu' | 'reference'; weightBytes?: number } = {}): LoadFacts {
  const { availableGib = 16, groups = [full], name = 'cpu', weightBytes = GIB } = changes;
  return {
    machine: { numCpus: 4, totalMemoryBytes: 16 * GIB, availableMemoryBytes: availableGib * GIB, reasons: ['memory = as said'] },
    backend: { name, isa: 'avx2', numThreads: 4, memoryBytes: null },
    model: { maxPositions: 32768, vocabSize: 150_000, groups, mainFormat: 'bf16', weightBytes, arenaBytes: ({ maxTokens }) => maxTokens * 1000 },
  };
}

function resolve(options: LoadOptions, given: LoadFacts = facts()) {
  return resolveConfig(checkOptions({ model: 'm', ...options }), given);
}

test('every auto has a reason with its figures', () => {
  const config = resolve({});
  expect(config.kvDtype).toBe('bf16');
  expect(config.maxModelLen).toBe(32768);
  const text = config.reasons.join('\n');
  for (const name of ['maxNumSeqs', 'maxNumBatchedTokens', 'blockSize', 'kvCacheDtype', 'kvBlocks', 'maxModelLen'])
    expect(text).toContain(`${name} = `);
  expect(text).toContain('kvBlocks = 10,922: the bound of 4.0 GiB / 384 KiB a block of 32 tokens');
});

test('what is given is taken and needs no reason', () => {
  const config = resolve({
    maxModelLen: 1000,
    maxNumSeqs: 3,
    maxNumBatchedTokens: 77,
    blockSize: 16,
    kvCacheDtype: 'float32',
    kvCacheMemoryBytes: GIB,
  });
  expect(config).toMatchObject({ maxModelLen: 1000, maxNumSeqs: 3, maxNumBatchedTokens: 77, blockSize: 16, kvDtype: 'f32' });
  expect(config.numBlocks).toEqual([Math.floor(GIB / (2 * 24 * 2 * 64 * 4 * 16))]);
});

test.each([
  ['bf16', {}, 'bf16', 'bf16'],
  ['bf16', { kvCacheDtype: 'float16' }, 'f16', 'f32'],
  ['bf16', { kvCacheDtype: 'int8' }, 'int8', 'bf16'],
  ['bf16', { dtype: 'float32', kvCacheDtype: 'bfloat16' }, 'bf16', 'f32'],
  ['q8_0', { kvCacheDtype: 'bfloat16' }, 'bf16', 'bf16'],
  ['q8_0', { kvCacheDtype: 'int4', activation: 'float' }, 'int4', 'f32'],
  ['f32', {}, 'f32', 'f32'],
  ['f32', { kvCacheDtype: 'int8' }, 'int8', 'f32'],
  ['f16', {}, 'f16', 'f32'],
] as const)(
  'attention rounds what it multiplies only where K and V and the linears are as coarse: %s weights with %o',
  (mainFormat, options, kvDtype, expected) => {
    const given = facts();
    const config = resolve(options, { ...given, model: { ...given.model, mainFormat } });
    expect(config).toMatchObject({ kvDtype, attentionActivation: expected });
    expect(config.reasons.join('\n')).toContain(`attention = ${expected}`);
  },
);

test('no more KV is taken than all rows can fill', () => {
  const config = resolve({ maxModelLen: 64, maxNumSeqs: 4 });
  expect(config.numBlocks).toEqual([8]);
});

test('a context that the memory cannot hold is cut when it was not asked for, and refused when it was', () => {
  const small = facts({ availableGib: 1.4 });
  const config = resolve({}, small);
  expect(config.maxModelLen).toBeLessThan(32768);
  expect(config.maxModelLen).toBe(config.numBlocks[0] * 32);
  expect(() => resolve({ maxModelLen: 32768 }, small)).toThrow(expect.objectContaining({ code: 'MEMORY_INSUFFICIENT' }));
  expect(() => resolve({ maxModelLen: 32768 }, small)).toThrow(/32,768 tokens/);
});

test('a model that cannot fit is refused with the figures', () => {
  const huge = facts({ weightBytes: 30 * GIB });
  expect(() => resolve({}, huge)).toThrow(/30.0 GiB weights/);
  expect(() => resolve({ kvCacheMemoryBytes: 15.5 * GIB })).toThrow(expect.objectContaining({ code: 'MEMORY_INSUFFICIENT' }));
});

test('memory for the cache that holds next to nothing is refused with what would do', () => {
  expect(() => resolve({ kvCacheMemoryBytes: 1 })).toThrow(
    /two blocks.*Expected at least [\d,]+ bytes but received 1 bytes.*--kv-cache-memory-bytes/,
  );
});

test('a window group gets no more blocks than its rows can hold at once, the full group the rest', () => {
  const config = resolve({ maxNumSeqs: 4, maxNumBatchedTokens: 128, kvCacheMemoryBytes: GIB }, facts({ groups: [full, sliding] }));
  expect(config.numBlocks[1]).toBe(4 * (512 / 32 + 2) + 4);
  expect(config.numBlocks[0]).toBeGreaterThan(20 * config.numBlocks[1]);
});

test('a model of windows alone keeps its whole context whatever the memory', () => {
  const config = resolve({ maxNumSeqs: 2, maxNumBatchedTokens: 128, kvCacheMemoryBytes: 64 * 2 ** 20 }, facts({ groups: [sliding] }));
  expect(config.maxModelLen).toBe(32768);
});

test('a block that does not divide an attention split and a context beyond the model are refused', () => {
  expect(() => resolve({ blockSize: 48 })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(() => resolve({ maxModelLen: 40_000 })).toThrow(/at most 32768/);
});

test('the reference backend gets short steps', () => {
  expect(resolve({}, facts({ name: 'reference' })).maxNumBatchedTokens).toBeLessThan(resolve({}).maxNumBatchedTokens);
});

test('on a GPU, K and V take what is left of the share asked for; what does not fit is refused with the figures', () => {
  const given = facts({ weightBytes: 16 * GIB });
  const gpu = (memoryBytes: number): LoadFacts => ({ ...given, backend: { name: 'cuda', isa: 'sm_90', numThreads: 4, memoryBytes } });
  const config = resolve({}, gpu(40 * GIB));
  expect(config).toMatchObject({ maxNumSeqs: 256, maxNumBatchedTokens: 8192, maxInFlight: 2 });
  const free = 0.9 * 40 * GIB - 16 * GIB - 8192 * 1000 - GIB - 160 * 16 * 150_000;
  expect(config.kvCacheMemoryBytes).toBeGreaterThan(0.99 * free);
  expect(config.kvCacheMemoryBytes).toBeLessThanOrEqual(free);
  const half = resolve({ gpuMemoryUtilization: 0.5 }, gpu(40 * GIB));
  expect(half.kvCacheMemoryBytes).toBeLessThan(config.kvCacheMemoryBytes - 15 * GIB);
  expect(() => resolve({}, gpu(16 * GIB))).toThrow('does not fit');
});
