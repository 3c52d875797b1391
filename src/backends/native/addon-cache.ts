/** Where binaries of the addon lie, and what they are called: by a hash of everything that they are made from. */
import { createHash } from 'node:crypto';
import { accessSync, constants, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { MillraceError } from '../../base/errors.ts';
import type { Compiler } from './compiler.ts';
import type { Isa } from './isa.ts';
import { baseSources, commonFlags, isaFlags, kernelSources, packageRoot } from './sources.ts';

/** Everything but the compiler that decides what comes out: sources, headers, flags, platform, variants. 12 hexadecimal digits. */
export function inputsHash(variants: readonly Isa[]): string {
  const hash = createHash('sha256');
  const native = join(packageRoot(), 'native');
  for (const folder of ['addon', 'common', 'cpu']) {
    for (const name of readdirSync(join(native, folder)).sort()) {
      if (/\.(cc|h)$/.test(name)) hash.update(`${folder}/${name}\n`).update(readFileSync(join(native, folder, name)));
    }
  }
  hash.update(JSON.stringify([baseSources, kernelSources, commonFlags, variants.map((isa) => isaFlags[isa]), process.platform, process.arch]));
  return hash.digest('hex').slice(0, 12);
}

/** `millrace-<platform>-<arch>-<variants>-<inputs>-`: what the name of every fitting binary starts with; the compiler's hash follows. */
export function addonPrefix(variants: readonly Isa[]): string {
  return `millrace-${process.platform}-${process.arch}-${variants.join('+')}-${inputsHash(variants)}-`;
}

/** Binaries that fit and exist, best first. */
export function cachedAddons(variants: readonly Isa[], folders: readonly string[] = cacheFolders()): string[] {
  const prefix = addonPrefix(variants);
  return folders.flatMap((folder) => {
    try {
      return readdirSync(folder)
        .filter((name) => name.startsWith(prefix) && name.endsWith('.node'))
        .map((name) => join(folder, name));
    } catch {
      return [];
    }
  });
}

/** Where binaries may lie, in the order of preference: in the package, or where that is read-only, in the user's cache. */
export function cacheFolders(environment: NodeJS.ProcessEnv = process.env): string[] {
  const user = environment.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  return [join(packageRoot(), 'build', 'native'), join(user, 'millrace', 'native'), join(tmpdir(), `millrace-${process.getuid?.() ?? 'user'}`)];
}

/** What one object is made from: the source, every header of ours that it includes, the flags and the compiler. */
export function unitHash(source: string, flags: readonly string[], compiler: Compiler): string {
  const hash = createHash('sha256').update(JSON.stringify([flags, identityOf(compiler)]));
  const seen = new Set<string>();
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(file, 'utf8');
    hash.update(`${seen.size}\n`).update(text);
    for (const [, name] of text.matchAll(/^#include "([^"]+)"/gm)) visit(join(dirname(file), name));
  };
  visit(source);
  return hash.digest('hex').slice(0, 24);
}

function identityOf({ command, prefix, version }: Compiler): string {
  return `${command} ${prefix.join(' ')} ${version}`;
}

const DAY_MS = 24 * 3600 * 1000;

/** Drops what nobody has used for a month, and what ended builds have left behind. */
export function pruneCache(folder: string): void {
  const drop = (path: string, ageMs: number) => {
    try {
      if (Date.now() - statSync(path).mtimeMs > ageMs) rmSync(path, { recursive: true, force: true });
    } catch {
      // another process was quicker
    }
  };
  for (const name of readdirSync(folder)) {
    if (name.startsWith('.build-')) drop(join(folder, name), DAY_MS / 24);
    else if (name.endsWith('.node')) drop(join(folder, name), 30 * DAY_MS);
  }
  for (const name of readdirSync(join(folder, 'objects'))) drop(join(folder, 'objects', name), 30 * DAY_MS);
}

/** Name of the binary that this compiler makes. */
export function addonName(variants: readonly Isa[], compiler: Compiler): string {
  return `${addonPrefix(variants)}${createHash('sha256').update(identityOf(compiler)).digest('hex').slice(0, 8)}.node`;
}

/** The first folder that can be made and written. @throws NATIVE_ADDON_UNAVAILABLE */
export function writableFolder(folders: readonly string[]): string {
  const outcomes: string[] = [];
  for (const folder of folders) {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      accessSync(folder, constants.W_OK | constants.X_OK);
      // In a shared temporary folder, another user's folder of that name could hold another user's code.
      if (process.getuid === undefined || lstatSync(folder).uid === process.getuid() || folder.startsWith(packageRoot())) return folder;
      outcomes.push(`${folder}: owned by another user`);
    } catch (error) {
      outcomes.push(`${folder}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`);
    }
  }
  throw new MillraceError('NATIVE_ADDON_UNAVAILABLE', {
    message: `No folder can be written for the native addon (${outcomes.join('; ')}).`,
    hint: 'set XDG_CACHE_HOME to a folder that can be written',
  });
}
