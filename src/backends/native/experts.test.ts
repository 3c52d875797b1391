/** Experts that stay in their file: the same bits as packed ones, without memory of their own. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { BUILD_TIMEOUT_MS } from '../../../test/backends.ts';
import { compile, plainBatch } from '../../../test/conformance/single-op.ts';
import { singleOpPlan } from '../../../test/fixtures/decoder.ts';
import { normals, randomSource } from '../../../test/fixtures/weights.ts';
import { MillraceError } from '../../base/errors.ts';
import type { Activation, Plan, WeightFormat } from '../../plan/plan.ts';
import type { StoredTensor, WeightSource } from '../../weights/weight-source.ts';
import type { NativeBackend } from './native-backend.ts';
import { createNativeBackend } from './native-backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'millrace-experts-'));
afterAll(() => rmSync(folder, { recursive: true }));

const [experts, slots, rows, columns] = [5, 2, 90, 256];
/** Tensors begin where no cache line does. */
const ALIGNMENT = 36;

const open = async (placement: 'packed' | 'mapped'): Promise<NativeBackend | string> => {
  try {
    return await createNativeBackend({ numThreads: 2, experts: placement });
  } catch (error) {
    if (error instanceof MillraceError && error.code === 'NATIVE_ADDON_UNAVAILABLE') return error.message;
    throw error;
  }
};
const packed = await open('packed');
const mapped = await open('mapped');
afterAll(async () => {
  for (const backend of [packed, mapped]) if (typeof backend !== 'string') await backend.close();
}, BUILD_TIMEOUT_MS);

/** Gate and up in a tensor each, 45 rows of either in the matrix of an expert: the second tile of 64 outputs has rows of both. */
function expertsPlan(format: WeightFormat, activation: Activation): Plan {
  return singleOpPlan(experts + columns, { format, activation }, (builder, input) => {
    const [ids, weights] = [builder.value('ids', 'tokens', slots, 'i32'), builder.value('weights', 'tokens', slots)];
    const attrs = { score: 'softmax', normalise: 'sum', groups: 1, keptGroups: 1, groupScore: 'max', scale: 1 } as const;
    builder.emit('moe-route', 'route', { inputs: [builder.view('logits', input, 0, experts)], outputs: [ids, weights], attrs });
    const parts = Array.from({ length: experts }, (_, index) =>
      ['gate', 'up'].map((tensor) => ({ tensor, shape: [experts, rows / 2, columns], index })),
    ).flat();
    const matrices = builder.expertMatrices('gate-up', [experts, rows, columns], parts);
    const [out] = builder.expertLinear('e', builder.view('x', input, experts, columns), ids, matrices, null, [['out', rows]]);
    return { out };
  });
}

/** The same tensors in a file. */
function inFile(plan: Plan, name: string): WeightSource {
  const source = randomSource(plan);
  const path = join(folder, name);
  const tensors = new Map<string, StoredTensor>();
  const chunks: Uint8Array[] = [];
  let offset = 0;
  for (const tensor of source.names()) {
    const stored = source.find(tensor)!;
    const bytes = source.read(stored);
    const padding = ALIGNMENT - (offset % ALIGNMENT);
    chunks.push(new Uint8Array(padding), bytes);
    tensors.set(tensor, { ...stored, file: path, offset: offset + padding });
    offset += padding + bytes.length;
  }
  const whole = Buffer.concat(chunks);
  writeFileSync(path, whole);
  return {
    ...source,
    mappable: true,
    files: [{ path, sizeBytes: whole.length }],
    find: (tensor) => tensors.get(tensor),
    read: (tensor) => whole.subarray(tensor.offset, tensor.offset + tensor.sizeBytes),
  };
}

describe.skipIf(typeof packed === 'string' || typeof mapped === 'string')(
  `experts in a mapped file${typeof packed === 'string' ? ` (not here: ${packed})` : ''}`,
  () => {
    const backends = [packed, mapped] as NativeBackend[];

    test.each<[WeightFormat, Activation]>([
      ['f32', 'f32'],
      ['f16', 'f32'],
      ['bf16', 'bf16'],
      ['q8_0', 'int8-group32'],
      ['q4_0', 'int8-group32'],
      ['q4_k', 'int8-group32'],
      ['q6_k', 'f32'],
      ['mxfp4', 'int8-group32'],
      ['q3_k', 'f32'],
    ])('%s under %s: the same bits as packed, at every number of rows', async (format, activation) => {
      const plan = expertsPlan(format, activation);
      const source = inFile(plan, `${format}.bin`);
      const x = normals(7, 70 * (experts + columns));
      const programs = await Promise.all(backends.map((backend) => backend.compile(plan, source, { maxTokens: 70, maxLogitRows: 70 })));
      expect(programs.map(({ weightBytes }) => weightBytes > 0)).toEqual([true, false]);
      expect(programs[1].kernels.find(({ op }) => op === 'expert-linear')?.kernel).toMatch(/^expert_mapped_linear_/);
      for (const numRows of [1, 7, 70]) {
        const outputs = await Promise.all(
          programs.map(async (program, i) => {
            const entries = [{ program, cache: null, batch: plainBatch(numRows), embeddings: x }];
            return (await backends[i].execute({ entries, sampling: null, readOutputs: ['out'] })).outputs.out;
          }),
        );
        expect(outputs[1], `${numRows} rows`).toEqual(outputs[0]);
      }
      for (const program of programs) program.close();
    });

    test('tensors that no file holds as they are wanted are packed all the same', async () => {
      const plan = expertsPlan('q8_0', 'int8-group32');
      const { program } = await compile(backends[1], plan, 8);
      expect(program.weightBytes).toBeGreaterThan(0);
      program.close();
    });
  },
);
