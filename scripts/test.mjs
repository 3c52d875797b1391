/**
 * `npm test`: everything a bare clone needs, then every test that needs no GPU. Extra arguments go to vitest: `npm test -- src/plan`.
 * The last line is `N passed, N failed, N skipped`; the exit code says whether all is well.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { lockfileProblems } from './check-lockfile.mjs';
import { PlainError, prepare, repository, run, say, seconds } from './prepare.mjs';

export async function main(args) {
  const started = Date.now();
  const problems = lockfileProblems(JSON.parse(fs.readFileSync(path.join(repository, 'package-lock.json'), 'utf8')));
  if (problems.length > 0) throw new PlainError(`package-lock.json would not install everywhere:\n  ${problems.join('\n  ')}`);
  const { tree, nativeProblem } = await prepare();
  if (tree !== repository) throw new PlainError(`Tests write into the clone, and ${repository} is read-only; copy it somewhere first.`);
  if (nativeProblem !== null) say(`${nativeProblem} (tests of the native backend report themselves skipped)`);

  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-test-'));
  const report = path.join(folder, 'report.json');
  const vitest = path.join(tree, 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const env = { ...process.env, MILLRACE_BUILT: '1' };
  const code = await run(process.execPath, [vitest, 'run', ...reporters, ...args], { cwd: tree, env });
  const result = fs.existsSync(report) ? JSON.parse(fs.readFileSync(report, 'utf8')) : null;
  fs.rmSync(folder, { recursive: true, force: true });
  if (result === null) throw new PlainError(`vitest exited with ${code} and left no report`);

  const { passed, failed, skipped } = totals(result);
  say(`tests took ${seconds(started)} in all`);
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exitCode = code !== 0 ? code : failed > 0 || passed === 0 ? 1 : 0;
}

/** Counts of a vitest JSON report. A file that could not even be loaded counts as one failure. */
export function totals(result) {
  const broken = result.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0).length;
  return {
    passed: result.numPassedTests,
    failed: result.numFailedTests + broken,
    skipped: result.numPendingTests + (result.numTodoTests ?? 0),
  };
}
