/**
 * `npm start`: prepares the clone and serves. Arguments after `--` go to `millrace serve`: `npm start -- --model PATH --port 9000`.
 * The server runs in this process, so that signals reach it directly.
 */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { prepare } from './prepare.mjs';

export async function main(args) {
  // Without the addon the engine says so itself when it takes the slower backend.
  const { tree } = await prepare();
  const load = (file) => import(pathToFileURL(path.join(tree, 'dist', 'cli', file)).href);
  const [{ runCli }, { processContext }] = await Promise.all([load('program.js'), load('context.js')]);
  const code = await runCli(['serve', '--measure', ...args], processContext());
  process.exit(code);
}
