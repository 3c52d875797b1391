import { Readable, Writable } from 'node:stream';
import type { CliContext, CliEngine } from '../../src/cli/context.ts';
import { runCli } from '../../src/cli/program.ts';
import type { LoadOptions } from '../../src/engine/config.ts';
import type { ServerOptions } from '../../src/server/options.ts';

export interface CliRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** What the command asked `loadEngine` for. */
  readonly loaded: readonly LoadOptions[];
  readonly served: readonly ServerOptions[];
}

export interface CliSurroundings {
  readonly engine?: CliEngine;
  readonly stdin?: string;
  readonly loadError?: Error;
  /** Called with what sends a signal, once the command listens for it. */
  onListening?(send: (signal: NodeJS.Signals) => void): void;
}

class Collector extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** Runs the command line in this process, with streams, engine and server of the test. */
export async function cli(args: readonly string[], surroundings: CliSurroundings = {}): Promise<CliRun> {
  const stdout = new Collector();
  const stderr = new Collector();
  const loaded: LoadOptions[] = [];
  const served: ServerOptions[] = [];
  const listeners = new Set<(signal: NodeJS.Signals) => void>();
  const context: CliContext = {
    stdin: Readable.from(surroundings.stdin === undefined ? [] : [surroundings.stdin]),
    stdout,
    stderr,
    describeRemote: async () => null,
    loadEngine: async (options, hooks) => {
      loaded.push(options);
      hooks?.onProgress?.('loading weights', 1, 2);
      if (surroundings.loadError) throw surroundings.loadError;
      if (surroundings.engine === undefined) throw new Error('the test gave no engine');
      return surroundings.engine;
    },
    createServer: async ({ options }) => {
      served.push(options);
      return { listen: async () => ({ url: 'http://127.0.0.1:1234', host: options.host ?? '127.0.0.1', port: 1234 }), close: async () => undefined };
    },
    onSignal: (listener) => {
      listeners.add(listener);
      surroundings.onListening?.((signal) => {
        for (const each of listeners) each(signal);
      });
      return () => listeners.delete(listener);
    },
    forceExit: (code) => {
      throw new Error(`forced exit ${code}`);
    },
  };
  const code = await runCli(args, context);
  return { code, stdout: stdout.text, stderr: stderr.text, loaded, served };
}
