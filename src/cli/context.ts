/** What a command touches outside itself. Tests hand in streams and engines of their own. */
import type { Readable, Writable } from 'node:stream';
import type { NodeTime } from '../backends/backend.ts';
import type { LoadOptions } from '../engine/config.ts';
import type { Engine } from '../engine/engine.ts';
import type { ModelDescription } from '../engine/inspect.ts';
import type { LoadHooks } from '../engine/load.ts';
import type { EngineDescription } from '../engine/loaded-engine.ts';
import type { ServerOptions } from '../server/options.ts';

export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number };
export type InputStream = Readable & { readonly isTTY?: boolean };

/** An engine that can say what it is made of. */
export interface CliEngine extends Engine {
  describe(): EngineDescription;
  readonly totals?: { readonly numSteps: number; readonly totalForwardMs: number; readonly totalSampleMs: number; readonly totalHostMs: number };
  profile?(): readonly NodeTime[] | null;
}

/** What `serve` needs of a server. */
export interface ListeningServer {
  listen(): Promise<{ readonly url: string; readonly host: string; readonly port: number }>;
  /** Lets running requests finish, then ends them. */
  close(): Promise<void>;
}

export interface CliContext {
  readonly stdin: InputStream;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  loadEngine(options: LoadOptions, hooks?: LoadHooks): Promise<CliEngine>;
  /** A model on the hub by its headers, or an encoder; null for one that an engine loads. */
  describeRemote(options: LoadOptions, hooks?: LoadHooks): Promise<ModelDescription | null>;
  createServer(what: { engines: Map<string, Engine>; options: ServerOptions }): Promise<ListeningServer>;
  /** Calls `listener` at each SIGINT and SIGTERM instead of dying. Returns the function that ends it. */
  onSignal(listener: (signal: NodeJS.Signals) => void): () => void;
  /** Ends the process at once. */
  forceExit(code: number): void;
}

/** The real process. Engine and server are imported when they are first needed, so that `--help` is quick. */
export function processContext(): CliContext {
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    loadEngine: async (options, hooks) => (await import('../engine/load.ts')).loadEngine(options, hooks),
    describeRemote: async (options, hooks) => {
      const { describeEncoder, describeRemote } = await import('../engine/inspect.ts');
      return (await describeEncoder(options, hooks)) ?? describeRemote(options, hooks);
    },
    createServer: async (what) => (await import('../server/server.ts')).createServer(what),
    onSignal: (listener) => {
      process.on('SIGINT', listener);
      process.on('SIGTERM', listener);
      return () => {
        process.off('SIGINT', listener);
        process.off('SIGTERM', listener);
      };
    },
    forceExit: (code) => process.exit(code),
  };
}
