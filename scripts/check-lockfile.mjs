/**
 * The lockfile must install anywhere: it may name no host but the public npm registry, and it must hold the optional packages that each
 * operating system needs, not only those of the machine that wrote it.
 */
import fs from 'node:fs';
import path from 'node:path';
import { isMain, repository } from './prepare.mjs';

const registry = 'https://registry.npmjs.org/';

/** Problems of a parsed lockfile, as sentences; none when it is good. */
export function lockfileProblems(lock) {
  const problems = [];
  const packages = lock.packages ?? {};
  const systems = new Set();
  for (const [name, entry] of Object.entries(packages)) {
    if (entry.resolved !== undefined && !entry.resolved.startsWith(registry)) problems.push(`${name} is resolved from ${entry.resolved}`);
    if (name !== '' && !entry.link && entry.integrity === undefined) problems.push(`${name} has no integrity`);
    if (entry.optional) for (const system of entry.os ?? []) systems.add(system);
    for (const optional of Object.keys(entry.optionalDependencies ?? {})) {
      if (packages[`${name}/node_modules/${optional}`] === undefined && packages[`node_modules/${optional}`] === undefined) {
        problems.push(`${name} lists ${optional}, which the lockfile does not hold`);
      }
    }
  }
  for (const system of ['linux', 'darwin', 'win32']) {
    if (!systems.has(system)) problems.push(`no optional package for ${system}`);
  }
  return problems;
}

export function main() {
  const problems = lockfileProblems(JSON.parse(fs.readFileSync(path.join(repository, 'package-lock.json'), 'utf8')));
  for (const problem of problems) console.error(`package-lock.json: ${problem}`);
  console.log(problems.length === 0 ? 'lockfile: good' : `lockfile: ${problems.length} problems`);
  if (problems.length > 0) process.exitCode = 1;
}

if (isMain(import.meta.url)) main();
