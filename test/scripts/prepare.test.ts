import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';

const repository = path.resolve(import.meta.dirname, '..', '..');
const prepare = (await import(path.join(repository, 'scripts', 'prepare.mjs'))) as {
  installReason(root: string): string | null;
  installStamp(root: string): string;
  compile(root: string): Promise<boolean>;
  workingTree(root: string, options?: { writable?: boolean; cacheDir?: string }): string;
  userCacheDir(env: Record<string, string>, home: string): string;
  isWritable(dir: string): boolean;
};
const { totals } = (await import(path.join(repository, 'scripts', 'test.mjs'))) as {
  totals(report: unknown): { passed: number; failed: number; skipped: number };
};

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A folder whose name has a space, with the given files. */
function tree(files: Record<string, string>): string {
  const root = mkdtempSync(path.join(tmpdir(), 'mill race '));
  folders.push(root);
  put(root, files);
  return root;
}

function put(root: string, files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), text);
  }
}

const lock = (versions: Record<string, string>, optional: string[] = []): string =>
  JSON.stringify({
    packages: Object.fromEntries(
      Object.entries(versions).map(([name, version]) => [
        `node_modules/${name}`,
        { version, ...(optional.includes(name) ? { optional: true } : {}) },
      ]),
    ),
  });

test('a clone without node_modules needs an install', () => {
  expect(prepare.installReason(tree({ 'package-lock.json': lock({ a: '1.0.0' }) }))).toBe('packages are not installed yet');
});

test('packages that somebody installed by hand in the right versions are left alone, whatever optional ones lack', () => {
  const root = tree({
    'package-lock.json': lock({ a: '1.0.0', other: '2.0.0' }, ['other']),
    'node_modules/.package-lock.json': lock({ a: '1.0.0' }),
  });
  expect(prepare.installReason(root)).toBeNull();
});

test('a package in another version than the lockfile names needs an install', () => {
  const root = tree({ 'package-lock.json': lock({ a: '1.0.1' }), 'node_modules/.package-lock.json': lock({ a: '1.0.0' }) });
  expect(prepare.installReason(root)).toBe('a 1.0.1 is not installed');
});

test('an install is repeated only when the lockfile changes', () => {
  const root = tree({ 'package-lock.json': lock({ a: '1.0.0' }), 'node_modules/.package-lock.json': lock({ a: '1.0.0' }) });
  put(root, { 'node_modules/.millrace-install': prepare.installStamp(root) });
  expect(prepare.installReason(root)).toBeNull();
  put(root, { 'package-lock.json': lock({ a: '1.0.0', b: '1.0.0' }) });
  expect(prepare.installReason(root)).toMatch(/changed/);
});

test('TypeScript is compiled when a source changed and not otherwise, in a path with spaces', async () => {
  const root = tree({
    'package.json': '{"type":"module"}',
    'tsconfig.build.json': JSON.stringify({
      compilerOptions: { module: 'NodeNext', target: 'ES2022', outDir: 'dist', rootDir: 'src', types: [] },
      include: ['src'],
    }),
    'src/a.ts': 'export const a: number = 1;\n',
    'src/old.ts': 'export const old = 1;\n',
    'src/page/index.html': '<p>',
  });
  symlinkSync(path.join(repository, 'node_modules'), path.join(root, 'node_modules'), 'junction');
  expect(await prepare.compile(root)).toBe(true);
  expect(existsSync(path.join(root, 'dist/a.js'))).toBe(true);
  expect(readFileSync(path.join(root, 'dist/page/index.html'), 'utf8')).toBe('<p>');
  expect(await prepare.compile(root)).toBe(false);

  put(root, { 'src/a.ts': 'export const a: number = 2;\n' });
  rmSync(path.join(root, 'src/old.ts'));
  expect(await prepare.compile(root)).toBe(true);
  expect(readFileSync(path.join(root, 'dist/a.js'), 'utf8')).toContain('a = 2');
  expect(existsSync(path.join(root, 'dist/old.js'))).toBe(false);

  put(root, { 'src/a.ts': 'export const a: number = "two";\n' });
  await expect(prepare.compile(root)).rejects.toThrow(/Compiling TypeScript failed/);
});

test('a read-only clone is worked on as a copy in the user cache, which follows its changes', () => {
  const root = tree({ 'package.json': '{}', 'src/a.ts': '1', 'src/b.ts': '2', 'pocket/model/config.json': '{}', 'notes.txt': 'not part of it' });
  const cacheDir = tree({});
  const copy = prepare.workingTree(root, { writable: false, cacheDir });
  expect(copy.startsWith(cacheDir)).toBe(true);
  expect(readFileSync(path.join(copy, 'src/a.ts'), 'utf8')).toBe('1');
  expect(existsSync(path.join(copy, 'pocket/model/config.json'))).toBe(true);
  expect(existsSync(path.join(copy, 'notes.txt'))).toBe(false);

  put(root, { 'src/a.ts': '3' });
  rmSync(path.join(root, 'src/b.ts'));
  put(copy, { 'dist/a.js': 'kept' });
  expect(prepare.workingTree(root, { writable: false, cacheDir })).toBe(copy);
  expect(readFileSync(path.join(copy, 'src/a.ts'), 'utf8')).toBe('3');
  expect(existsSync(path.join(copy, 'src/b.ts'))).toBe(false);
  expect(existsSync(path.join(copy, 'dist/a.js'))).toBe(true);
});

test('a writable clone is worked on in place, and a folder that takes no files is known as such', () => {
  const root = tree({ 'package.json': '{}', file: '' });
  expect(prepare.workingTree(root)).toBe(root);
  expect(prepare.isWritable(path.join(root, 'file'))).toBe(false);
});

test('caches go to the cache folder of the user', () => {
  expect(prepare.userCacheDir({}, '/home/me')).toBe('/home/me/.cache/millrace');
  expect(prepare.userCacheDir({ XDG_CACHE_HOME: '/c' }, '/home/me')).toBe('/c/millrace');
});

test('a file of tests that cannot even be loaded counts as a failure', () => {
  const report = {
    numPassedTests: 3,
    numFailedTests: 1,
    numPendingTests: 2,
    numTodoTests: 0,
    testResults: [
      { status: 'failed', assertionResults: [] },
      { status: 'failed', assertionResults: [{}] },
    ],
  };
  expect(totals(report)).toEqual({ passed: 3, failed: 2, skipped: 2 });
});

test('an old Node is told what to install instead of a syntax error', () => {
  const script = path.join(repository, 'scripts', 'run.cjs');
  const code = `Object.defineProperty(process.versions, 'node', { value: '0.10.48' }); require(${JSON.stringify(script)})`;
  const { status, stderr } = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toMatch(/needs Node\.js 20 or newer; this is Node\.js 0\.10\.48/);
});

test('the first script uses no syntax that an old Node cannot parse', () => {
  const code = readFileSync(path.join(repository, 'scripts', 'run.cjs'), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  expect(code).not.toMatch(/=>|`|\?\.|\?\?|\b(?:const|let|class|async|await|import|export)\b|\.\.\.|,\s*\)/);
});

test('every shell and script file that people start is executable or started through node', () => {
  expect(() => execFileSync('bash', ['-n', path.join(repository, '.ci', 'run')])).not.toThrow();
});
