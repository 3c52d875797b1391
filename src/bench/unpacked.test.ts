import { expect, test } from 'vitest';
import { PlanBuilder } from '../plan/builder.ts';
import { offlineText } from './report.ts';
import { countUnpacked } from './unpacked.ts';

test('weights whose kernel unpacks are counted, with their formats, and shown under the table', () => {
  const formats = { table: 'q8_0', a: 'iq2_xs', b: 'q4_k', c: 'tq1_0' } as const;
  const builder = new PlanBuilder({ formatOf: (name) => formats[name as keyof typeof formats] ?? 'f32', activationFor: () => 'f32' });
  const hidden = builder.value('hidden', 'tokens', 256);
  builder.emit('embedding', 'embedding', {
    inputs: [builder.tokenIds()],
    outputs: [hidden],
    weights: [builder.matrix('table', 64, 256)],
    attrs: { scale: 1 },
  });
  const out = (['a', 'b', 'c'] as const).reduce((input, name) => builder.linear(name, input, builder.matrix(name, 256, 256)), hidden);
  const plan = builder.build('test', { out });
  const kernels = [
    { node: 'embedding', kernel: 'embedding' },
    { node: 'a', kernel: 'linear_unpack_iq2_xs_by_int8_avx2' },
    { node: 'b', kernel: 'linear_q4_k_by_int8_avx2' },
    { node: 'c', kernel: 'linear_unpack_tq1_0_by_int8_avx2' },
  ];
  const unpacked = countUnpacked(plan, kernels);
  expect(unpacked).toEqual({ matrices: 4, unpacked: 2, formats: ['iq2_xs', 'tq1_0'] });
  const report = { engine: 'e', model: 'm', results: [], unpacked };
  expect(offlineText(report)).toContain('fallbacks: 2 of 4 matrices are unpacked a tile at a time (iq2_xs, tq1_0)');
  expect(offlineText({ ...report, unpacked: { ...unpacked, unpacked: 0 } })).toContain('fallbacks: none; all 4 matrices');
});
