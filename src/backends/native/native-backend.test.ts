import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { decoderPlan } from '../../../test/fixtures/decoder.ts';
import { greedy, TestRows } from '../../../test/fixtures/rows.ts';
import { normals, randomSource } from '../../../test/fixtures/weights.ts';
import { startWorker } from '../../base/start-worker.ts';
import type { Plan, Weight, WeightFormat } from '../../plan/plan.ts';
import { weightFormats } from '../../quant/formats/index.ts';
import { readWeightAsF32 } from '../../quant/read-tensor.ts';
import { createDummySource } from '../../weights/dummy-source.ts';
import type { StoredTensor, WeightSource } from '../../weights/weight-source.ts';
import { ReferenceBackend } from '../reference/reference-backend.ts';
import { detectFeatures, isas, isasOf } from './isa.ts';
import { createNativeBackend } from './native-backend.ts';

const probe = await createNativeBackend({ numThreads: 1 }).catch(() => null);
const best = probe?.info.isa;
await probe?.close();

/** Logits of a small decoder for one prompt. */
async function logitsOf(
  backend: { compile: typeof ReferenceBackend.prototype.compile } & Pick<ReferenceBackend, 'createCache' | 'execute'>,
  plan: Plan,
) {
  const rows = new TestRows(plan.cacheGroups);
  const program = await backend.compile(plan, randomSource(plan), { maxTokens: 64, maxLogitRows: 8 });
  const cache = await backend.createCache(rows.spec);
  const batch = rows.batch([{ row: 0, tokenIds: [5, 9, 2, 60, 33] }]);
  const { outputs } = await backend.execute({ entries: [{ program, cache, batch }], sampling: greedy(1), readOutputs: ['logits'] });
  return outputs.logits;
}

describe.skipIf(best === undefined)('instruction-set classes', () => {
  test('each class that the machine has computes the reference’s logits nearly', { timeout: 300_000 }, async () => {
    const plan = decoderPlan({ bias: true, qkNorm: true });
    const expected = await logitsOf(new ReferenceBackend(), plan);
    for (const isa of isasOf(detectFeatures() ?? new Set())) {
      const backend = await createNativeBackend({ isa, numThreads: 2 });
      expect(backend.info.isa).toBe(isa);
      const actual = (await logitsOf(backend as never, plan)) as Float32Array;
      actual.forEach((value, i) => {
        expect(Math.abs(value - expected[i])).toBeLessThan(1e-4);
      });
      await backend.close();
    }
  });

  test('MILLRACE_CPU_ISA masks the best one', { timeout: 300_000 }, async () => {
    process.env.MILLRACE_CPU_ISA = 'portable';
    try {
      const backend = await createNativeBackend({ numThreads: 1 });
      expect(backend.info.isa).toBe('portable');
      await backend.close();
      process.env.MILLRACE_CPU_ISA = 'sse9';
      await expect(createNativeBackend()).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    } finally {
      delete process.env.MILLRACE_CPU_ISA;
    }
  });

  test('a class that the machine has not is an error, never a crash', async () => {
    const runs = isasOf(detectFeatures() ?? new Set());
    for (const isa of isas.filter((isa) => !runs.includes(isa))) {
      await expect(createNativeBackend({ isa }), isa).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    }
  });
});

test.skipIf(best === undefined)(
  'a program tells the time of each node that ran since it was last asked, and counts only once it was asked',
  async () => {
    const plan = decoderPlan();
    const rows = new TestRows(plan.cacheGroups);
    const backend = await createNativeBackend({ numThreads: 2 });
    const program = await backend.compile(plan, randomSource(plan), { maxTokens: 64, maxLogitRows: 8 });
    const cache = await backend.createCache(rows.spec);
    const step = async (tokenIds: number[]) =>
      (await backend.execute({ entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds }]) }], sampling: greedy(1) })).forwardMs;
    try {
      await step([5, 9]);
      const calls = () => program.profile().map((each) => each.calls);
      expect(new Set(calls())).toEqual(new Set([0]));
      const forwardMs = (await step([2])) + (await step([60]));
      const times = program.profile();
      expect(times.map(({ node, op }) => [node, op])).toEqual(plan.nodes.map(({ name, op }) => [name, op]));
      expect(times.every((each) => each.calls === 2 && each.microseconds > 0 && each.waitMicroseconds <= each.microseconds)).toBe(true);
      expect(times.reduce((sum, each) => sum + each.microseconds, 0)).toBeLessThanOrEqual(forwardMs * 1000);
      expect(new Set(calls())).toEqual(new Set([0]));
    } finally {
      program.close();
      cache.close();
      await backend.close();
    }
  },
);

/** A checkpoint in one file, tensors one after the other at offsets that nothing aligns. */
function fileSource(path: string, tensors: { name: string; format: WeightFormat; shape: number[]; extra?: Partial<StoredTensor> }[]): WeightSource {
  const chunks: Uint8Array[] = [new Uint8Array(3)];
  const stored = new Map<string, StoredTensor>();
  let offset = 3;
  tensors.forEach(({ name, format, shape, extra = {} }, i) => {
    const bytes = weightFormats[format].quantize(
      normals(
        i + 1,
        shape.reduce((a, b) => a * b, 1),
      ),
      shape[shape.length - 1],
    );
    stored.set(name, { name, format, shape, file: path, offset, sizeBytes: bytes.length, ...extra });
    chunks.push(bytes);
    offset += bytes.length;
  });
  const all = Buffer.concat(chunks);
  writeFileSync(path, all);
  return {
    files: [{ path, sizeBytes: all.length }],
    mappable: true,
    find: (name) => stored.get(name),
    names: () => stored.keys(),
    read: (tensor) => all.subarray(tensor.offset, tensor.offset + tensor.sizeBytes),
    close: () => undefined,
  };
}

describe.skipIf(best === undefined)('weights', () => {
  const width = 64;
  const folder = mkdtempSync(join(tmpdir(), 'millrace weights '));
  const interleaved = { rowOrder: { kind: 'rope-interleaved', headDim: 16 } } as const;

  /** A table that is looked up row by row: what comes out is what was packed. */
  function tablePlan(format: WeightFormat): Plan {
    const parts = [
      { tensor: 'a', shape: [32, width] },
      { tensor: 'b', shape: [48, width] },
      { tensor: 'c', shape: [130, width] },
    ];
    const weights: Weight[] = [
      { id: 0, name: 'table', shape: [210, width], format, parts },
      { id: 1, name: 'norm', shape: [width], format: 'f32', parts: [{ tensor: 'norm', shape: [width] }] },
    ];
    const norm = { epsilon: 1e-5, weightOffset: 0, groupWidth: width };
    return {
      name: 'table',
      values: [
        { id: 0, name: 'ids', axis: 'tokens', width: 1, dtype: 'i32' },
        { id: 1, name: 'out', axis: 'tokens', width, dtype: 'f32' },
        { id: 2, name: 'normed', axis: 'tokens', width, dtype: 'f32' },
      ],
      weights,
      constants: [],
      nodes: [
        { op: 'embedding', name: 'lookup', inputs: [0], outputs: [1], weights: [0], constants: [], attrs: { scale: 1 } },
        { op: 'rms-norm', name: 'norm', inputs: [1], outputs: [2], weights: [1], constants: [], attrs: norm },
      ],
      input: { kind: 'tokenIds', value: 0 },
      outputs: { out: 1, normed: 2 },
      cacheGroups: [],
      numPositionAxes: 1,
      worldSize: 1,
    };
  }

  const kinds: [WeightFormat, WeightFormat][] = [
    ['f32', 'f32'],
    ['f16', 'f16'],
    ['bf16', 'bf16'],
    ['q8_0', 'q8_0'],
    ['f32', 'bf16'],
    ['bf16', 'f16'],
    ['f16', 'q8_0'],
    ['q8_0', 'f32'],
  ];

  test.each(kinds)('%s tensors of a mapped file, packed as %s in parts and rotary order, are read back exactly', async (stored, wanted) => {
    const source = fileSource(join(folder, `${stored}-${wanted}`), [
      { name: 'a', format: stored, shape: [32, width], extra: interleaved },
      { name: 'b', format: stored, shape: [48, width] },
      { name: 'c', format: stored, shape: [130, width], extra: { shift: 0.25 } },
      { name: 'norm', format: stored, shape: [width], extra: { shift: -1 } },
    ]);
    const plan = tablePlan(wanted);
    const expected = readWeightAsF32(source, plan.weights[0]);
    const backend = await createNativeBackend({ numThreads: 2 });
    const program = await backend.compile(plan, source, { maxTokens: 256, maxLogitRows: 1 });
    const ids = Int32Array.from({ length: 210 }, (_, i) => i);
    const empty = new Int32Array(0);
    const batch = {
      numTokens: 210,
      numRows: 1,
      numLogitRows: 0,
      tokenIds: ids,
      positions: ids,
      rowStart: Int32Array.of(0, 210),
      cacheIndex: ids,
      visibleEnd: ids,
      blockTables: empty,
      maxBlocks: 0,
      slotMapping: empty,
      logitTokens: empty,
      copies: empty,
      numCopies: 0,
    };
    const { outputs } = await backend.execute({ entries: [{ program, cache: null, batch }], sampling: null, readOutputs: ['out', 'normed'] });
    expect(outputs.out).toEqual(expected);
    const reference = new ReferenceBackend();
    const same = await reference.compile(plan, source, { maxTokens: 256, maxLogitRows: 1 });
    const wantedNorm = (await reference.execute({ entries: [{ program: same, cache: null, batch }], sampling: null, readOutputs: ['normed'] }))
      .outputs.normed;
    outputs.normed.forEach((value, i) => {
      expect(Math.abs(value - wantedNorm[i])).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(wantedNorm[i])));
    });
    await backend.close();
    rmSync(join(folder, `${stored}-${wanted}`));
  });

  test('packing a file takes no more memory than the file and a seventh', { timeout: 120_000 }, async () => {
    const path = join(folder, 'large');
    const shape = { numLayers: 6, hiddenSize: 1024, numHeads: 16, numKvHeads: 4, headDim: 64, intermediateSize: 2816, vocabSize: 32_000 };
    const plan = decoderPlan({ ...shape, format: 'bf16', activation: 'bf16' });
    const made = createDummySource(plan);
    const tensors = new Map<string, StoredTensor>();
    let sizeBytes = 0;
    for (const name of made.names()) {
      const tensor = made.find(name) as StoredTensor;
      writeFileSync(path, made.read(tensor), { flag: 'a' });
      tensors.set(name, { ...tensor, file: path, offset: sizeBytes });
      sizeBytes += tensor.sizeBytes;
    }
    const source: WeightSource = {
      ...made,
      files: [{ path, sizeBytes }],
      mappable: true,
      find: (name) => tensors.get(name),
      names: () => tensors.keys(),
    };
    const backend = await createNativeBackend({ numThreads: 2 });
    const before = process.memoryUsage().rss;
    let peak = before;
    const onProgress = () => {
      peak = Math.max(peak, process.memoryUsage().rss);
    };
    const program = await backend.compile(plan, source, { maxTokens: 64, maxLogitRows: 8, onProgress });
    expect(sizeBytes).toBeGreaterThan(150e6);
    expect(program.weightBytes).toBeGreaterThan(0.99 * sizeBytes);
    expect(peak - before).toBeLessThan(1.15 * sizeBytes);
    await backend.close();
    rmSync(path);
  });

  test('programs of one source share weights by name; the last to close gives them up', async () => {
    const plan = decoderPlan();
    const source = randomSource(plan);
    const backend = await createNativeBackend({ numThreads: 1 });
    const first = await backend.compile(plan, source, { maxTokens: 8, maxLogitRows: 8 });
    const second = await backend.compile(plan, source, { maxTokens: 16, maxLogitRows: 8 });
    expect(first.weightBytes).toBeGreaterThan(0);
    expect(second.weightBytes).toBe(0);
    first.close();
    first.close();
    expect((await backend.compile(plan, source, { maxTokens: 8, maxLogitRows: 8 })).weightBytes).toBe(0);
    await backend.close();
  });

  test('a missing tensor, a wrong shape and a file that is cut off are told apart, and the backend goes on', async () => {
    const plan = decoderPlan();
    const good = randomSource(plan);
    const backend = await createNativeBackend({ numThreads: 1 });
    const with_ = (find: WeightSource['find']): WeightSource => ({ ...good, find });
    const options = { maxTokens: 8, maxLogitRows: 8 };
    await expect(
      backend.compile(
        plan,
        with_(() => undefined),
        options,
      ),
    ).rejects.toMatchObject({ code: 'WEIGHTS_TENSOR_MISSING' });
    const wrong = (name: string) => ({ ...(good.find(name) as StoredTensor), shape: [1, 2] });
    await expect(backend.compile(plan, with_(wrong), options)).rejects.toMatchObject({ code: 'WEIGHTS_SHAPE_MISMATCH' });
    const path = join(folder, 'short');
    writeFileSync(path, 'short');
    const cut = { ...with_((name) => ({ ...(good.find(name) as StoredTensor), file: path })), mappable: true };
    await expect(backend.compile(plan, cut, options)).rejects.toMatchObject({ code: 'WEIGHTS_FILE_INVALID' });
    expect((await backend.compile(plan, good, options)).weightBytes).toBeGreaterThan(0);
    await backend.close();
  });
});

describe.skipIf(best === undefined)('life and death', () => {
  test('it works in a worker thread, and a worker that is ended in the middle of a step takes nothing down', { timeout: 120_000 }, async () => {
    const worker = startWorker('../../../test/fixtures/native-step-worker', import.meta.url);
    const [logits] = (await once(worker, 'message')) as [Float32Array];
    expect(logits).toEqual(await onThisThread());
    await once(worker, 'message'); // a long step has begun
    await worker.terminate();
    expect(logits).toEqual(await onThisThread());
  });

  async function onThisThread(): Promise<Float32Array> {
    const backend = await createNativeBackend({ numThreads: 2 });
    const logits = await logitsOf(backend as never, decoderPlan());
    await backend.close();
    return logits as Float32Array;
  }

  test('a cache that the machine cannot hold is refused with the figures, before it hurts', async () => {
    const backend = await createNativeBackend({ numThreads: 1 });
    const group = { name: 'full', kind: 'full', numLayers: 100, numKvHeads: 64, headDim: 128, numBlocks: 100_000 } as const;
    const attempt = backend.createCache({ groups: [group], blockSize: 16, dtype: 'f32' });
    await expect(attempt).rejects.toMatchObject({ code: 'MEMORY_INSUFFICIENT', message: expect.stringMatching(/[GM]iB/) });
    await backend.close();
  });

  test('closing waits for the step that runs; afterwards everything is refused', async () => {
    const plan = decoderPlan();
    const backend = await createNativeBackend({ numThreads: 2 });
    const rows = new TestRows(plan.cacheGroups);
    const program = await backend.compile(plan, randomSource(plan), { maxTokens: 64, maxLogitRows: 8 });
    const cache = await backend.createCache(rows.spec);
    const step = { entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds: [1, 2, 3] }]) }], sampling: greedy(1) };
    const running = backend.execute(step);
    await backend.close();
    expect((await running).tokenIds).toHaveLength(1);
    await expect(backend.execute(step)).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
    await expect(backend.createCache(rows.spec)).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
    await backend.close();
  });

  test('programs, caches and backends that come and go leave no memory behind', { timeout: 120_000 }, async () => {
    const plan = decoderPlan({ hiddenSize: 256, numHeads: 8, headDim: 32, vocabSize: 8192, intermediateSize: 512 });
    const source = createDummySource(plan);
    const rows = new TestRows(plan.cacheGroups, { numBlocks: 512 });
    const round = async () => {
      const backend = await createNativeBackend({ numThreads: 2 });
      const program = await backend.compile(plan, source, { maxTokens: 256, maxLogitRows: 64 });
      const cache = await backend.createCache(rows.spec);
      const batch = new TestRows(plan.cacheGroups, { numBlocks: 512 }).batch([{ row: 0, tokenIds: [1, 2, 3], logits: 'all' }]);
      await backend.execute({ entries: [{ program, cache, batch }], sampling: greedy(3), readOutputs: ['logits'] });
      program.close();
      cache.close();
      await backend.close();
      return program.weightBytes;
    };
    for (let i = 0; i < 10; i++) await round();
    const before = process.memoryUsage().rss;
    let bytes = 0;
    for (let i = 0; i < 50; i++) bytes += await round();
    const grown = process.memoryUsage().rss - before;
    expect(bytes).toBeGreaterThan(400e6);
    expect(grown).toBeLessThan(80e6);
  });
});
