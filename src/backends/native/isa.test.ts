import { expect, test } from 'vitest';
import { bestIsaOf, checkIsaRuns, isaFromMacros, requestedIsa } from './isa.ts';

const avx2 = ['avx2', 'fma', 'f16c', 'bmi2'];
const avx512 = [...avx2, 'avx512f', 'avx512bw', 'avx512vl', 'avx512dq', 'avx512_vnni', 'avx512_bf16'];

test('a class is chosen only when the machine has all of its features', () => {
  expect(bestIsaOf(new Set(avx512))).toBe('avx512');
  expect(bestIsaOf(new Set(avx512.filter((feature) => feature !== 'avx512_bf16')))).toBe('avx2');
  expect(bestIsaOf(new Set(avx512.filter((feature) => feature !== 'fma')))).toBe('portable');
  expect(bestIsaOf(new Set())).toBe('portable');
});

test('the macros of a compiler name the same class as the features', () => {
  expect(isaFromMacros('#define __AVX2__ 1\n#define __FMA__ 1\n#define __F16C__ 1\n#define __BMI2__ 1\n')).toBe('avx2');
  expect(isaFromMacros('#define __SSE2__ 1\n')).toBe('portable');
});

test('the option goes before the variable, and auto means the best', () => {
  expect(requestedIsa(undefined, {})).toBeUndefined();
  expect(requestedIsa(undefined, { MILLRACE_CPU_ISA: 'avx2' })).toBe('avx2');
  expect(requestedIsa('portable', { MILLRACE_CPU_ISA: 'avx2' })).toBe('portable');
  expect(requestedIsa('auto', { MILLRACE_CPU_ISA: 'avx2' })).toBeUndefined();
});

test('an unknown class, or one above the machine, is an error', () => {
  expect(() => requestedIsa(undefined, { MILLRACE_CPU_ISA: 'neon' })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(() => checkIsaRuns('avx512', 'avx2')).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(() => checkIsaRuns('portable', 'avx2')).not.toThrow();
});
