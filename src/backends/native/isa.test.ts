import { execFileSync, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildAddon } from './build-addon.ts';
import { bestIsaOf, checkIsaRuns, detectFeatures, featuresFromMacros, type Isa, isasOf, requestedIsa } from './isa.ts';
import type { NativeAddon } from './load-addon.ts';
import { isaFlags, packageRoot } from './sources.ts';

const avx2 = ['avx2', 'fma', 'f16c', 'bmi2'];
const avx512 = [...avx2, 'avx512f', 'avx512bw', 'avx512vl', 'avx512dq', 'avx512_vnni', 'avx512_bf16', 'avx512vbmi'];
const without = (features: readonly string[], hidden: string) => new Set(features.filter((feature) => feature !== hidden));

test('a class is chosen only when the machine has all of its features', () => {
  expect(bestIsaOf(new Set(avx512))).toBe('avx512');
  expect(bestIsaOf(new Set([...avx2, 'avx_vnni']))).toBe('avxvnni');
  for (const feature of avx512.slice(avx2.length)) {
    expect(bestIsaOf(without(avx512, feature))).toBe('avx2');
    expect(bestIsaOf(without([...avx512, 'avx_vnni'], feature))).toBe('avxvnni');
  }
  for (const feature of avx2) expect(bestIsaOf(without([...avx512, 'avx_vnni'], feature))).toBe('portable');
  expect(bestIsaOf(new Set())).toBe('portable');
  expect(isasOf(new Set(avx512))).toEqual(['portable', 'avx2', 'avx512']);
  expect(bestIsaOf(new Set(['fp', 'asimd', 'asimddp']))).toBe('neon_dotprod');
  expect(bestIsaOf(new Set(['fp', 'asimd']))).toBe('neon');
});

test('the macros of a compiler name the same class as the features', () => {
  const bestOf = (text: string) => bestIsaOf(featuresFromMacros(text, {}));
  expect(bestOf('#define __AVX2__ 1\n#define __FMA__ 1\n#define __F16C__ 1\n#define __BMI2__ 1\n')).toBe('avx2');
  expect(bestOf('#define __AVX2__ 1\n#define __FMA__ 1\n#define __F16C__ 1\n#define __BMI2__ 1\n#define __AVXVNNI__ 1\n')).toBe('avxvnni');
  expect(bestOf('#define __SSE2__ 1\n')).toBe('portable');
  expect(bestOf('#define __ARM_NEON 1\n')).toBe('neon');
});

test('the option goes before the variable, and auto means the best', () => {
  expect(requestedIsa(undefined, {})).toBeUndefined();
  expect(requestedIsa(undefined, { MILLRACE_CPU_ISA: 'avx2' })).toBe('avx2');
  expect(requestedIsa('portable', { MILLRACE_CPU_ISA: 'avx2' })).toBe('portable');
  expect(requestedIsa('auto', { MILLRACE_CPU_ISA: 'avx2' })).toBeUndefined();
});

test('an unknown class, or one that the machine has not, is an error', () => {
  expect(() => requestedIsa(undefined, { MILLRACE_CPU_ISA: 'sse9' })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(() => checkIsaRuns('avx512', new Set(avx2))).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  // AVX-512 does not hold AVX-VNNI
  expect(() => checkIsaRuns('avxvnni', new Set(avx512))).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  expect(() => checkIsaRuns('portable', new Set(avx2))).not.toThrow();
});

/** The binary that this machine uses, or null without a compiler. Its code runs on any processor but for the kernels of its one variant. */
const built = await buildAddon().catch(() => null);
const features = detectFeatures({});
const native = built === null || features === null ? null : { path: built, features: [...features] };
const maskable = [...avx512, 'avx_vnni', 'asimd', 'asimddp'].filter((feature) => native?.features.includes(feature));

/** Runs `script` in a process of its own, with `addon` and `mask(text)`, and returns what it prints as JSON. */
function inChild(script: string, mask = ''): unknown {
  const source = `const addon = require(${JSON.stringify(native?.path)}); const mask = (text) => { process.env.MILLRACE_CPU_MASK = text; };
    console.log(JSON.stringify((() => { ${script} })()));`;
  return JSON.parse(execFileSync(process.execPath, ['-e', source], { encoding: 'utf8', env: { ...process.env, MILLRACE_CPU_MASK: mask } }));
}

describe.skipIf(native === null)('the addon', () => {
  test('picks what the system’s list of features stands for, whatever is hidden', () => {
    const masks = ['', ...maskable, ...maskable.slice(1).map((_, i) => maskable.slice(i).join(',')), maskable.join(',')];
    const found = inChild(`return ${JSON.stringify(masks)}.map((text) => { mask(text); return addon.cpuFeatures().runs; });`) as Isa[][];
    masks.forEach((text, i) => {
      const left = detectFeatures({ MILLRACE_CPU_MASK: text }) ?? new Set();
      expect(found[i], `without ${text}`).toEqual(isasOf(left));
    });
    expect(new Set(found.map((runs) => runs.join())).size).toBeGreaterThan(maskable.length > 0 ? 1 : 0);
  });

  test('opens no device on a processor that has not what its kernels need, and says so', () => {
    const [isa] = (createRequire(import.meta.url)(native?.path ?? '') as NativeAddon).cpuFeatures().compiled;
    const tried = inChild(
      `try { return addon.createDevice(${JSON.stringify(isa)}, 1).isa; } catch (error) { return error.code; }`,
      maskable.join(','),
    );
    expect(tried).toBe(isa === 'portable' ? 'portable' : 'CONFIG_INVALID');
  });
});

describe.skipIf(native === null || process.arch !== 'x64' || spawnSync('qemu-x86_64', ['--version']).status !== 0)('in an emulator', () => {
  test.each([
    ['Nehalem', 'portable'],
    ['Haswell', 'avx2'],
  ])('of %s, which has less than was compiled for, the binary loads and finds the class %s', { timeout: 120_000 }, (cpu, best) => {
    const script = `console.log(require(${JSON.stringify(native?.path)}).cpuFeatures().best)`;
    const { stdout, signal } = spawnSync('qemu-x86_64', ['-cpu', cpu, process.execPath, '-e', script], { encoding: 'utf8' });
    expect([stdout.trim(), signal]).toEqual([best, null]);
  });
});

const armCompiler = 'aarch64-linux-gnu-g++';
describe.skipIf(spawnSync(armCompiler, ['--version']).status !== 0)('a compiler for Armv8', () => {
  test('takes the sources whose code is its own, and finds dot products in them', { timeout: 120_000 }, () => {
    const compile = (isa: Isa, source: string) =>
      execFileSync(
        armCompiler,
        [
          ...isaFlags[isa],
          `-DMILLRACE_ISA=${isa}`,
          `-DMILLRACE_VARIANTS=X(${isa})`,
          '-std=c++17',
          '-O1',
          '-S',
          join(packageRoot(), 'native', source),
          '-o',
          '-',
        ],
        { encoding: 'utf8', maxBuffer: 2 ** 28 },
      );
    for (const isa of ['neon', 'neon_dotprod'] as const) {
      compile(isa, 'cpu/cpu_features.cc');
      for (const source of ['cpu/linear_q4_0.cc', 'cpu/linear_q8_0.cc'])
        expect(/\bsdot\b/.test(compile(isa, source)), `${isa} ${source}`).toBe(isa === 'neon_dotprod');
    }
  });
});

/** Registers that only AVX-512 has; registers and instructions that only AVX has. */
const patterns = { avx512: /%(?:zmm\d|[xy]mm(?:1[6-9]|2\d|3[01])|k[0-7])\b/, avx: /%[yz]mm\d|^\s*v[a-z]/ };

/** Functions of a binary whose code matches, by pattern. */
function functionsWith(path: string): Record<keyof typeof patterns, Set<string>> {
  const { stdout } = spawnSync('objdump', ['-d', '--no-show-raw-insn', '--demangle', path], { encoding: 'utf8', maxBuffer: 2 ** 30 });
  const found = { avx512: new Set<string>(), avx: new Set<string>() };
  let name = '';
  for (const line of stdout.split('\n')) {
    const header = /^[0-9a-f]+ <(.*)>:$/.exec(line);
    const code = line.slice(line.indexOf('\t') + 1);
    if (header !== null) name = header[1];
    else if (patterns.avx.test(code)) {
      found.avx.add(name);
      if (patterns.avx512.test(code)) found.avx512.add(name);
    }
  }
  return found;
}

// One definition of an inline function or a template serves all objects: compiled for a wide set and kept for all, it is an illegal instruction elsewhere.
describe.skipIf(native === null || process.arch !== 'x64' || spawnSync('objdump', ['--version']).status !== 0)('outside the kernels', () => {
  test('no code uses what only AVX has: not at startup, not in functions that objects share', { timeout: 60_000 }, () => {
    const { avx, avx512 } = functionsWith(native?.path ?? '');
    // also as mangled: some names are too long to be put back
    expect([...avx].filter((name) => !/millrace::cpu::avx\w*::|N8millrace3cpu.*\davx/.test(name))).toEqual([]);
    expect([...avx512].filter((name) => !name.includes('avx512'))).toEqual([]);
    expect(avx.size > 0).toBe(bestIsaOf(new Set(native?.features)) !== 'portable');
  });
});
