import { describe, expect, test } from 'vitest';
import { decoderPlan } from '../../../test/fixtures/decoder.ts';
import { greedy, TestRows } from '../../../test/fixtures/rows.ts';
import { randomSource } from '../../../test/fixtures/weights.ts';
import { encodePlan } from '../../plan/encode.ts';
import { planMemory } from '../../plan/passes/memory.ts';
import { loadAddon, type NativeAddon, type WeightHandle } from './load-addon.ts';

const loaded = await loadAddon().catch(() => null);

/** Calls with anything at all, as a hostile or mistaken caller would. */
type Loose = Record<keyof NativeAddon, (...values: unknown[]) => unknown>;

describe.skipIf(loaded === null)('arguments that the addon cannot use', () => {
  const addon = loaded as unknown as Loose;
  const odd: unknown[] = [undefined, null, 0, -1, NaN, 2 ** 40, 'text', {}, [], new Float64Array(3), new Int32Array(0), () => 0, Symbol('s'), 7n];

  test('every function throws an error with a code, whatever it is given', () => {
    const functions = (Object.keys(addon) as (keyof NativeAddon)[]).filter((name) => name !== 'cpuFeatures');
    expect(functions.length).toBeGreaterThan(8);
    for (const name of functions) {
      expect(() => addon[name](), `${name}()`).toThrow(expect.objectContaining({ code: expect.stringMatching(/^[A-Z_]+$/) }));
      for (const value of odd) {
        const call = () => addon[name](value, value, value, value, value, value);
        expect(call, `${name}(${typeof value})`).toThrow(expect.objectContaining({ code: expect.stringMatching(/^[A-Z_]+$/) }));
      }
    }
  });

  test('a device needs a class that exists and a sensible number of threads', () => {
    expect(() => addon.createDevice('neon', 1)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    for (const threads of [0, -1, 1e6]) expect(() => addon.createDevice('', threads)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  test('a handle of one kind does not pass for another, and a closed one is refused', () => {
    const { device } = addon.createDevice('', 1) as { device: unknown };
    const { cache } = addon.createCache(device, Int32Array.of(1, 1, 16, 4, 0), 16, 0) as { cache: unknown };
    expect(() => addon.readCounters(cache)).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
    addon.closeHandle(cache);
    addon.closeHandle(cache);
    addon.closeHandle(device);
    expect(() => addon.readCounters(device)).toThrow(expect.objectContaining({ code: 'ENGINE_CLOSED' }));
    expect(() => addon.createCache(device, Int32Array.of(1, 1, 16, 4, 0), 16, 0)).toThrow(expect.objectContaining({ code: 'ENGINE_CLOSED' }));
  });

  test('a cache of impossible or unpayable size is refused', () => {
    const { device } = addon.createDevice('', 1) as { device: unknown };
    const create = (groups: number[], blockSize: number) => () => addon.createCache(device, Int32Array.from([...groups, 0]), blockSize, 0);
    expect(create([1, 1, 16, 4], 48)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    expect(create([0, 1, 16, 4], 16)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    expect(create([60000, 60000, 1024, 1 << 26], 16)).toThrow(expect.objectContaining({ code: 'MEMORY_INSUFFICIENT' }));
    addon.closeHandle(device);
  });

  test('files that do not exist, are empty or are folders are refused', () => {
    for (const path of ['/nonexistent/file', '/dev/null', '/']) {
      expect(() => addon.mapFile(path)).toThrow(expect.objectContaining({ code: 'WEIGHTS_FILE_INVALID' }));
    }
  });
});

describe.skipIf(loaded === null)('a plan that was damaged on its way', () => {
  test('is refused or harmless, whichever word is wrong', async () => {
    const addon = loaded as NativeAddon;
    const { device } = addon.createDevice('', 1);
    const plan = decoderPlan({ numLayers: 1, hiddenSize: 32, numHeads: 2, numKvHeads: 1, intermediateSize: 32, vocabSize: 40, bias: true });
    const source = randomSource(plan);
    const handles: WeightHandle[] = [];
    for (const weight of plan.weights) {
      const parts = weight.parts.map(({ tensor }) => {
        const stored = source.find(tensor)!;
        const bytes = source.read(stored);
        return { file: null, bytes, offset: 0, sizeBytes: bytes.length, format: 0, rows: stored.shape[0], ropeHeadDim: 0, shift: 0 };
      });
      handles.push((await addon.packWeight(device, 0, weight.shape.length, weight.shape[0], weight.shape[1] ?? 1, 1, 0, parts)).weight);
    }
    const limits = { maxTokens: 4, maxLogitRows: 4 };
    const words = encodePlan(plan, planMemory(plan, limits));
    const rows = new TestRows(plan.cacheGroups, { numBlocks: 4 });
    const { cache } = addon.createCache(device, Int32Array.of(1, 1, 16, 4, 0), 16, 0);
    const batch = rows.batch([{ row: 0, tokenIds: [1, 2, 39] }]);
    let refused = 0;
    for (let i = 0; i < words.length; i++) {
      for (const damage of [-1, 0, 1, 2 ** 30, -(2 ** 31), words[i] + 1]) {
        const damaged = words.slice();
        damaged[i] = damage;
        try {
          const { program } = addon.createProgram(device, damaged, handles, limits.maxTokens, limits.maxLogitRows);
          const entry = { program, cache, batch, embeddings: null, sourceEntry: -1, sourceOutput: -1 };
          const sampling = { batch: greedy(1), masks: null, program, output: 0, logits: null, vocabSize: 0 };
          await addon.forward(device, { entries: [entry], readOutputs: Int32Array.of(0), sampling });
          addon.closeHandle(program);
        } catch (error) {
          expect((error as { code?: string }).code).toMatch(/^[A-Z_]+$/);
          refused++;
        }
      }
    }
    expect(refused).toBeGreaterThan(words.length);
    expect(() => addon.createProgram(device, words.subarray(0, words.length - 1), handles, 4, 4)).toThrow(
      expect.objectContaining({ code: 'PLAN_INVALID' }),
    );
    addon.closeHandle(device);
  });
});
