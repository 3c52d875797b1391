/** Starts a worker thread of this package, from the built JavaScript or, in tests and with tsx, from the TypeScript sources. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';

/**
 * @param name of the module beside the caller, without its ending: `./encode-worker`
 * @param caller `import.meta.url` of the caller, whose ending tells which of the two runs
 */
export function startWorker(name: string, caller: string, options: WorkerOptions = {}): Worker {
  if (!caller.endsWith('.ts')) return new Worker(new URL(`${name}.js`, caller), options);
  // Loaders of the main thread are not passed on, and `--import tsx` does nothing in a worker on Node 20.
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx/esm/api')).href.replace(/\.cjs$/, '.mjs');
  const entry = new URL(`${name}.ts`, caller).href;
  const script = `import(${JSON.stringify(loader)}).then((tsx) => { tsx.register(); return import(${JSON.stringify(entry)}); });`;
  return new Worker(script, { ...options, eval: true });
}
