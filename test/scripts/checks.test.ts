import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseSync } from 'vite';
import { expect, test } from 'vitest';
import type { ModelFamily } from '../../src/models/family.ts';

const repository = path.resolve(import.meta.dirname, '..', '..');
const script = (name: string): Promise<unknown> => import(path.join(repository, 'scripts', `${name}.mjs`));
const { lockfileProblems } = (await script('check-lockfile')) as { lockfileProblems(lock: unknown): string[] };
const imports = (await script('check-imports')) as {
  importProblem(from: string, to: string, typeOnly: boolean): string | null;
  packageProblem(from: string, specifier: string): string | null;
  fileProblems(file: string, text: string, parsed: unknown): { line: number; problem: string }[];
};
const size = (await script('check-size')) as {
  functionsOf(text: string, parsed: unknown): { name: string; line: number; lines: number }[];
  verdict(size: number, budget: number, excepted: boolean): string;
};
const docs = (await script('check-docs')) as {
  withTable(text: string, name: string, rows: string[]): string | null;
  mappedRooms(markdown: string): string[];
  relativeLinks(markdown: string): string[];
  namedTests(markdown: string): { file: string; title: string }[];
};

const parse = (text: string): unknown => parseSync('a.ts', text, { lang: 'ts' });
const goodLock = (): { packages: Record<string, Record<string, unknown>> } => ({
  packages: {
    '': { optionalDependencies: {} },
    'node_modules/a': { version: '1.0.0', integrity: 'sha512-x', resolved: 'https://registry.npmjs.org/a/-/a-1.0.0.tgz' },
    'node_modules/a-linux': { integrity: 'sha512-x', optional: true, os: ['linux'] },
    'node_modules/a-darwin': { integrity: 'sha512-x', optional: true, os: ['darwin'] },
    'node_modules/a-win32': { integrity: 'sha512-x', optional: true, os: ['win32'] },
  },
});

test('tests that a document names by file and title are found in it', () => {
  const row = '| a | b | [x](../src/x.test.ts): "what x does", [y](../y.test.ts): "50 % of y" and [z](../z.md): "no test" |';
  expect(docs.namedTests(row)).toEqual([
    { file: '../src/x.test.ts', title: 'what x does' },
    { file: '../y.test.ts', title: '50 % of y' },
  ]);
});

test('the lockfile of this repository installs on every system from the public registry', () => {
  expect(lockfileProblems(JSON.parse(readFileSync(path.join(repository, 'package-lock.json'), 'utf8')))).toEqual([]);
});

test('a lockfile that names another host, or lacks the packages of a system, is refused', () => {
  expect(lockfileProblems(goodLock())).toEqual([]);
  const otherHost = goodLock();
  otherHost.packages['node_modules/a'].resolved = 'https://mirror.example/a.tgz';
  expect(lockfileProblems(otherHost)).toEqual(['node_modules/a is resolved from https://mirror.example/a.tgz']);
  const noMac = goodLock();
  delete noMac.packages['node_modules/a-darwin'];
  expect(lockfileProblems(noMac)).toEqual(['no optional package for darwin']);
  const incomplete = goodLock();
  incomplete.packages['node_modules/a'].optionalDependencies = { 'a-freebsd': '1.0.0' };
  expect(lockfileProblems(incomplete)).toEqual(['node_modules/a lists a-freebsd, which the lockfile does not hold']);
});

test.each([
  ['scheduler/scheduler', 'plan/plan', false, false],
  ['scheduler/scheduler', 'kv/kv-cache', false, true],
  ['scheduler/scheduler', 'sampling/params', false, true],
  ['scheduler/scheduler', 'sampling/sampler', false, false],
  ['scheduler/scheduler', 'speculative/drafter', true, true],
  ['scheduler/scheduler', 'speculative/drafter', false, false],
  ['backends/reference/linear', 'weights/weight-source', true, true],
  ['backends/reference/linear', 'weights/safetensors', false, false],
  ['models/llama', 'backends/backend', true, false],
  ['server/routes/models', 'engine/engine', false, true],
  ['server/routes/models', 'engine/loop', false, false],
  ['fleet/router', 'engine/engine', true, false],
  ['engine/loop', 'cli/main', false, false],
  ['engine/load', 'models/index', false, true],
  ['engine/loop', 'models/index', false, false],
  ['nowhere/a', 'base/errors', false, false],
])('%s may import %s (types only: %s): %s', (from, to, typeOnly, allowed) => {
  expect(imports.importProblem(from, to, typeOnly) === null).toBe(allowed);
});

test('each npm package has its rooms, and unknown ones have none', () => {
  expect(imports.packageProblem('server/server', 'fastify')).toBeNull();
  expect(imports.packageProblem('engine/engine', 'fastify')).toMatch(/belongs to server/);
  expect(imports.packageProblem('tokenizer/load-tokenizer', '@huggingface/tokenizers')).toBeNull();
  expect(imports.packageProblem('base/log', 'left-pad')).toMatch(/not in the table/);
  expect(imports.packageProblem('kv/pool', 'node:fs')).toBeNull();
});

test('every way of importing is seen, with its line', () => {
  const text = [
    "import type { Plan } from '../plan/plan.ts';",
    "export * from '../engine/engine.ts';",
    "const load = () => import('../cli/main.ts');",
    "type T = import('../models/llama.ts').T;",
    "import x from '../../outside.ts';",
    "import '../base/errors';",
  ].join('\n');
  const lines = imports.fileProblems('src/scheduler/a.ts', text, parse(text)).map(({ line }) => line);
  expect(lines.sort()).toEqual([1, 2, 3, 4, 5, 6]);
});

test('the length of functions and methods is counted from their first to their last line', () => {
  const text = 'export function long() {\n  return 1;\n}\nclass A {\n  #method(): number {\n    return 2;\n  }\n}\nconst arrow = () => {\n\n\n};\n';
  expect(size.functionsOf(text, parse(text))).toEqual([
    { name: 'long', line: 1, lines: 3 },
    { name: 'method', line: 5, lines: 3 },
    { name: 'arrow', line: 9, lines: 4 },
  ]);
});

test('sizes fail only far over the budget, and not where a reason is listed', () => {
  expect([300, 330, 450, 501].map((lines) => size.verdict(lines, 400, false))).toEqual(['fine', 'near', 'over', 'fail']);
  expect(size.verdict(501, 400, true)).toBe('over');
});

test('a table in a document is replaced between its marks', () => {
  const text = 'before\n<!-- table: x -->\nold\n<!-- end -->\nafter\n';
  expect(docs.withTable(text, 'x', ['new'])).toBe('before\n<!-- table: x -->\nnew\n<!-- end -->\nafter\n');
  expect(docs.withTable(text, 'y', ['new'])).toBeNull();
});

test('the folder map and relative links of documents are read', () => {
  expect(docs.mappedRooms('```\nsrc/\n  base/   leaves\n  kv/     blocks\nnative/\n```\n')).toEqual(['base', 'kv']);
  expect(docs.relativeLinks('[a](docs/x.md#top) [b](https://example.org) `[c](no.md)` [d](#here)')).toEqual(['docs/x.md']);
});

test('what the families call published is in the data that tests read', async (context) => {
  const data = path.join(process.env.MILLRACE_SHARED ?? path.join(repository, '..', 'shared'), 'data');
  if (!existsSync(data)) context.skip('the shared data are not here');
  const { families } = await import('../../src/models/index.ts');
  for (const { name, published } of Object.values(families) as ModelFamily[]) {
    for (const vocabulary of published?.vocabularies ?? []) {
      expect(existsSync(path.join(data, 'tok-llama.cpp-vocabs', `ggml-vocab-${vocabulary}.gguf.inp`)), `${name}: ${vocabulary}`).toBe(true);
    }
    for (const template of published?.templates ?? []) {
      expect(existsSync(path.join(data, 'chat-templates-llama.cpp', `${template}.jinja`)), `${name}: ${template}`).toBe(true);
    }
  }
});
