import { execFile } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cacheFolders, writableFolder } from './addon-cache.ts';
import { buildAddon } from './build-addon.ts';
import { lockBuild } from './build-lock.ts';
import { findCompiler, installHint } from './compiler.ts';
import { loadAddon } from './load-addon.ts';
import { packageRoot } from './sources.ts';

const built = await buildAddon().catch(() => null);

describe('without a compiler', () => {
  const nowhere = { PATH: '', HOME: '/nonexistent' };

  test('the error says what was tried and what to install', () => {
    const attempt = () => findCompiler(nowhere);
    expect(attempt).toThrow(expect.objectContaining({ code: 'NATIVE_ADDON_UNAVAILABLE' }));
    expect(attempt).toThrow(/c\+\+: not in PATH; g\+\+: not in PATH; clang\+\+: not in PATH/);
    expect(attempt).toThrow(installHint());
  });

  test('a CXX that does not run is named', () => {
    expect(() => findCompiler({ ...nowhere, CXX: '/no/such/compiler' })).toThrow(/\/no\/such\/compiler: not in PATH/);
  });

  test('building fails with that error when nothing is cached', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'millrace-none-'));
    await expect(buildAddon({ environment: nowhere, folders: [folder] })).rejects.toMatchObject({ code: 'NATIVE_ADDON_UNAVAILABLE' });
    rmSync(folder, { recursive: true });
  });

  test.skipIf(built === null)('a binary of the same sources is used', async () => {
    expect(await buildAddon({ environment: nowhere, folders: cacheFolders() })).toBe(built);
  });
});

test('every operating system gets a hint of its own', () => {
  const hints = (['linux', 'darwin', 'win32'] as const).map(installHint);
  expect(new Set(hints).size).toBe(3);
});

test('the cache goes to the next folder where one cannot be made, and says so when none can', () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace cache '));
  const file = join(folder, 'a file');
  writeFileSync(file, '');
  expect(writableFolder([join(file, 'below'), join(folder, 'good')])).toBe(join(folder, 'good'));
  expect(() => writableFolder([join(file, 'below')])).toThrow(expect.objectContaining({ code: 'NATIVE_ADDON_UNAVAILABLE' }));
  rmSync(folder, { recursive: true });
});

test('a lock whose holder is gone is broken, and one that is held is waited for', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-lock-'));
  const path = join(folder, 'a.lock');
  writeFileSync(path, 'another-host 1');
  utimesSync(path, new Date(0), new Date(0));
  const release = await lockBuild(path, () => false);
  expect(release).not.toBeNull();
  let done = false;
  const second = lockBuild(path, () => done);
  done = true;
  release?.();
  expect(await second).toBeNull();
  expect(existsSync(path)).toBe(false);
  rmSync(folder, { recursive: true });
});

describe.skipIf(built === null)('the cache', () => {
  const folder = join(mkdtempSync(join(tmpdir(), 'millrace build ')), 'with space');
  beforeAll(() => {
    // The objects are taken over, so that only linking is left.
    mkdirSync(folder, { recursive: true });
    cpSync(join(dirname(built ?? ''), 'objects'), join(folder, 'objects'), { recursive: true });
  });
  afterAll(() => rmSync(join(folder, '..'), { recursive: true, force: true }));
  const binaries = () => readdirSync(folder).filter((name) => name.endsWith('.node'));
  const script = (source: string) => ['--import', 'tsx', '--input-type=module', '-e', source];
  const module = pathToFileURL(join(packageRoot(), 'src/backends/native/load-addon.ts')).href;
  const loading = script(`
    const { loadAddon } = await import(${JSON.stringify(module)});
    const addon = await loadAddon({ folders: [${JSON.stringify(folder)}] });
    console.log(addon.cpuFeatures().compiled.join());`);

  test('processes that build at once, in a path with spaces, all load one whole binary', async () => {
    const runs = [1, 2, 3].map(() => promisify(execFile)(process.execPath, loading, { cwd: packageRoot() }));
    const outputs = (await Promise.all(runs)).map(({ stdout }) => stdout.trim());
    expect(new Set(outputs).size).toBe(1);
    expect(binaries()).toHaveLength(1);
    expect(readdirSync(folder).filter((name) => name.startsWith('.build') || name.endsWith('.lock'))).toEqual([]);
  });

  test('a second build is the first one’s binary, untouched', async () => {
    const lines: string[] = [];
    const path = await buildAddon({ folders: [folder], log: (line) => lines.push(line) });
    expect(path).toBe(join(folder, binaries()[0]));
    expect(lines).toEqual([]);
  });

  test('a binary that does not load is built again', async () => {
    const [name] = binaries();
    writeFileSync(join(folder, name), 'not a binary');
    const { stdout } = await promisify(execFile)(process.execPath, loading, { cwd: packageRoot() });
    expect(stdout.trim()).not.toBe('');
    expect(binaries()).toEqual([name]);
  });

  test('CXX may be a path with spaces, and a compiler that fails is quoted', async () => {
    const compiler = join(folder, 'my compiler');
    writeFileSync(compiler, '#!/bin/sh\ncase "$1" in --version) echo "broken 1.0";; *) echo "cannot compile today" >&2; exit 3;; esac\n');
    chmodSync(compiler, 0o755);
    const attempt = loadAddon({ folders: [folder], environment: { ...process.env, CXX: compiler } });
    await expect(attempt).rejects.toMatchObject({ code: 'NATIVE_ADDON_UNAVAILABLE', message: expect.stringContaining('cannot compile today') });
  });
});
