import { expect, test } from 'vitest';
import { PlanBuilder } from '../plan/builder.ts';
import { weightFormats } from '../plan/encode.ts';
import type { Plan, WeightFormat } from '../plan/plan.ts';
import { weightFormats as definitions } from '../quant/formats/index.ts';
import { readTensor } from '../quant/read-tensor.ts';
import { checkWeights } from './check-weights.ts';
import { createDummySource } from './dummy-source.ts';

function planOf(format: WeightFormat, columns = 64): Plan {
  const builder = new PlanBuilder({ formatOf: () => format, activationFor: () => 'f32' });
  const hidden = builder.value('hidden', 'tokens', columns);
  builder.emit('embedding', 'embedding', {
    inputs: [builder.tokenIds()],
    outputs: [hidden],
    weights: [builder.matrix('table', 128, columns)],
    attrs: { scale: 1 },
  });
  const norm = builder.map('rms-norm', 'norm', hidden, {
    weights: [builder.vector('norm.weight', columns)],
    attrs: { epsilon: 1e-6, weightOffset: 0, groupWidth: columns },
  });
  const shifted = builder.map('rms-norm', 'shifted', norm, {
    weights: [builder.vector('shifted.weight', columns)],
    attrs: { epsilon: 1e-6, weightOffset: 1, groupWidth: columns },
  });
  const out = builder.linear('out', shifted, builder.matrix('out.weight', 2048, columns), builder.vector('out.bias', 2048));
  return builder.build('test', { out });
}

const mean = (values: Float32Array) => values.reduce((sum, x) => sum + x, 0) / values.length;

test.each(weightFormats)('random %s weights fit the plan and keep unit variance', (format) => {
  const columns = Math.max(64, definitions[format].blockElements);
  const plan = planOf(format, columns);
  const source = createDummySource(plan);
  checkWeights(plan, source);
  const matrix = readTensor(source, source.find('out.weight')!);
  expect(Math.abs(mean(matrix))).toBeLessThan(0.01);
  expect(mean(matrix.map((x) => x * x)) * columns).toBeGreaterThan(/^(int2|iq[123])/.test(format) ? 0.88 : 0.95);
  expect(mean(matrix.map((x) => x * x)) * columns).toBeLessThan(format.startsWith('tq') ? 1.6 : /^(q2_k|int2|iq1)/.test(format) ? 1.2 : 1.05); // three or four levels cannot do better
  expect(mean(readTensor(source, source.find('norm.weight')!))).toBeCloseTo(1, 1);
  expect(mean(readTensor(source, source.find('shifted.weight')!))).toBeCloseTo(0, 1);
  expect(source.files[0].sizeBytes).toBe([...source.names()].reduce((sum, name) => sum + source.find(name)!.sizeBytes, 0));
});

test('the same name and shape give the same bytes, another name gives others', () => {
  const one = createDummySource(planOf('bf16'));
  const two = createDummySource(planOf('bf16'));
  const read = (source: typeof one, name: string) => Buffer.from(source.read(source.find(name)!));
  expect(read(one, 'out.weight').equals(read(two, 'out.weight'))).toBe(true);
  expect(read(one, 'out.weight').equals(read(one, 'out.weight'))).toBe(true);
  const table = read(one, 'table');
  expect(table.equals(read(one, 'out.weight').subarray(0, table.length))).toBe(false);
});

test('a width that is not whole blocks is refused for 8-bit weights', () => {
  expect(() => createDummySource(planOf('q8_0', 48))).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
});
