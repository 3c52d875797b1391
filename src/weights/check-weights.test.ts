import { expect, test } from 'vitest';
import { MillraceError } from '../base/errors.ts';
import { PlanBuilder } from '../plan/builder.ts';
import { checkWeights } from './check-weights.ts';
import type { StoredTensor } from './weight-source.ts';

const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
const hidden = builder.embeddings(8);
const [q, k] = builder.linears('qk', hidden, [
  { name: 'q', tensor: 'q.weight', rows: 8 },
  { name: 'k', tensor: 'k.weight', rows: 8 },
]);
const out = builder.linear('out', builder.add('sum', q, k), builder.matrix('out.weight', 4, 8));
const plan = builder.build('test', { out });

const stored = (name: string, shape: number[]): StoredTensor => ({ name, format: 'f32', shape, file: 'f', offset: 0, sizeBytes: 0 });
const source = (tensors: StoredTensor[], unread: string[] = []) => ({
  find(name: string) {
    if (unread.includes(name)) throw new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', { message: name, received: 'Q4_K' });
    return tensors.find((t) => t.name === name);
  },
});

test('a source that holds everything passes', () => {
  checkWeights(plan, source([stored('q.weight', [8, 8]), stored('k.weight', [8, 8]), stored('out.weight', [4, 8])]));
});

test('everything that is missing, misshapen or unreadable is reported at once', () => {
  const attempt = () => checkWeights(plan, source([stored('k.weight', [4, 8])], ['out.weight']));
  expect(attempt).toThrow(expect.objectContaining({ code: 'WEIGHTS_TENSOR_MISSING' }));
  expect(attempt).toThrow(/q\.weight \[8, 8\] is missing/);
  expect(attempt).toThrow(/k\.weight should be \[8, 8\] but is \[4, 8\]/);
  expect(attempt).toThrow(/out\.weight is stored as Q4_K/);
  expect(attempt).toThrow(/3 of 3 tensors/);
});

test('wrong shapes and unread formats have codes of their own', () => {
  const q8 = stored('q.weight', [8, 8]);
  const k8 = stored('k.weight', [8, 8]);
  expect(() => checkWeights(plan, source([q8, k8, stored('out.weight', [8, 4])]))).toThrow(
    expect.objectContaining({ code: 'WEIGHTS_SHAPE_MISMATCH' }),
  );
  expect(() => checkWeights(plan, source([q8, k8], ['out.weight']))).toThrow(expect.objectContaining({ code: 'WEIGHTS_FORMAT_UNSUPPORTED' }));
});
