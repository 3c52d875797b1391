/**
 * Tools of MCP servers (modelcontextprotocol.io) for `llm.chat`:
 *
 * ```ts
 * await using tools = await mcpTools({ command: 'npx', args: ['-y', 'some-mcp-server'] });
 * const answer = await llm.chat('What is in the folder?', { tools });
 * ```
 *
 * Wants the package `@modelcontextprotocol/sdk` beside this one.
 */
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { MillraceError } from '../base/errors.ts';
import { version } from '../base/version.ts';
import type { RunnableTool } from '../engine/tool-loop.ts';
import { textOfResult } from './results.ts';

/** A program that talks MCP over its standard input and output. */
export interface McpCommand {
  readonly command: string;
  readonly args?: readonly string[];
  /** Variables beside the few harmless ones that it inherits. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Put before the names of its tools. */
  readonly prefix?: string;
}

/** A server that talks MCP over streamable HTTP. */
export interface McpAddress {
  readonly url: string | URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly prefix?: string;
}

/** A transport of the SDK, not yet started. */
export interface McpTransport {
  readonly transport: Transport;
  readonly prefix?: string;
}

export type McpSource = McpCommand | McpAddress | McpTransport;

export interface McpOptions {
  /** Milliseconds to connect and to list the tools; default 30,000. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds that one call may take, progress that the server reports starting them anew; default 60,000. */
  readonly callTimeoutMs?: number;
  /** Ends connecting. */
  readonly signal?: AbortSignal;
}

/** By name, as `llm.chat` takes them. Disposing of it ends the servers' connections, and programs that were started. */
export interface McpTools extends Readonly<Record<string, RunnableTool>>, AsyncDisposable {}

const MAX_PAGES = 100;
const MAX_TOOLS = 1024;
const MAX_ERRORS = 2000;

/**
 * Connects to one server or several and lists their tools. A tool that fails, takes too long or whose server has gone away throws, which `llm.chat` tells
 * to the model; what a tool returns beside text is named, not shown.
 * @throws TOOL_SOURCE_FAILED when a server cannot be reached, does not answer in time or lists what makes no sense; REQUEST_INVALID for names
 *   that collide and options that make no sense; REQUEST_ABORTED by the signal. Nothing stays connected then.
 */
export async function mcpTools(sources: McpSource | readonly McpSource[], options: McpOptions = {}): Promise<McpTools> {
  const { connectTimeoutMs = 30_000, callTimeoutMs = 60_000 } = options;
  checkTimeout('connectTimeoutMs', connectTimeoutMs);
  checkTimeout('callTimeoutMs', callTimeoutMs);
  const list = isMany(sources) ? sources : [sources];
  const opened = await Promise.allSettled(list.map((source) => Connection.open(source, connectTimeoutMs, options.signal)));
  const connections = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const close = async () => {
    await Promise.allSettled(connections.map((connection) => connection.close()));
  };
  try {
    for (const one of opened) if (one.status === 'rejected') throw one.reason;
    const tools: Record<string, RunnableTool> = Object.create(null);
    for (const connection of connections) {
      for (const [name, tool] of connection.tools(callTimeoutMs)) {
        if (Object.hasOwn(tools, name)) throw collision(name);
        tools[name] = tool;
      }
    }
    // not enumerable: the tools are all that there is to see
    return Object.defineProperty(tools, Symbol.asyncDispose, { value: close }) as McpTools;
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

type ListedTool = Awaited<ReturnType<Client['listTools']>>['tools'][number];

class Connection {
  readonly #client: Client;
  readonly #prefix: string;
  readonly #listed: readonly ListedTool[];

  private constructor(client: Client, prefix: string, listed: readonly ListedTool[]) {
    this.#client = client;
    this.#prefix = prefix;
    this.#listed = listed;
  }

  static async open(source: McpSource, timeoutMs: number, signal: AbortSignal | undefined): Promise<Connection> {
    const { transport, name, errors } = transportOf(source);
    const client = new Client({ name: 'millrace', version });
    const patience = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal === undefined ? [] : [signal])]);
    const left = new Promise<never>((_, reject) => {
      patience.addEventListener('abort', () => reject(patience.reason), { once: true });
      if (patience.aborted) reject(patience.reason);
    });
    left.catch(() => undefined);
    const limits = { signal: patience, timeout: timeoutMs };
    try {
      await Promise.race([client.connect(transport, limits), left]);
      return new Connection(client, source.prefix ?? '', await Promise.race([listTools(client, limits), left]));
    } catch (thrown) {
      await Promise.allSettled([client.close(), transport.close()]);
      throw signal?.aborted === true ? aborted(signal) : failed(name, thrown, errors());
    }
  }

  /** Names with the prefix, and what calls the tools. */
  *tools(timeoutMs: number): Generator<[string, RunnableTool]> {
    for (const { name, description, inputSchema } of this.#listed) {
      const execute: RunnableTool['execute'] = (args, { signal }) => this.#call(name, args, timeoutMs, signal);
      yield [this.#prefix + name, { ...(description === undefined ? {} : { description }), parameters: inputSchema, execute }];
    }
  }

  async #call(name: string, args: Readonly<Record<string, unknown>>, timeoutMs: number, signal: AbortSignal | undefined): Promise<string> {
    const result = await this.#client.callTool({ name, arguments: { ...args } }, undefined, {
      timeout: timeoutMs,
      resetTimeoutOnProgress: true,
      onprogress: () => undefined,
      ...(signal === undefined ? {} : { signal }),
    });
    const text = textOfResult(result);
    if (result.isError === true) throw new Error(text === '' ? 'the tool failed' : text);
    return text;
  }

  close(): Promise<void> {
    return this.#client.close();
  }
}

async function listTools(client: Client, limits: { signal: AbortSignal; timeout: number }): Promise<ListedTool[]> {
  if (client.getServerCapabilities()?.tools === undefined) return [];
  const tools: ListedTool[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < MAX_PAGES; page++) {
    const listed = await client.listTools(cursor === undefined ? {} : { cursor }, limits);
    tools.push(...listed.tools);
    if (tools.length > MAX_TOOLS) throw new Error(`it lists more than ${MAX_TOOLS} tools`);
    cursor = listed.nextCursor;
    if (cursor === undefined) return tools;
  }
  throw new Error(`its list of tools has more than ${MAX_PAGES} pages`);
}

/** The transport, what to call the server in errors, and the last of what it has said of errors itself. */
function transportOf(source: McpSource): { transport: Transport; name: string; errors: () => string } {
  if ('transport' in source) return { transport: source.transport, name: 'a transport', errors: () => '' };
  if ('url' in source) {
    const url = URL.canParse(String(source.url)) ? new URL(source.url) : null;
    if (url === null || !/^https?:$/.test(url.protocol)) throw invalid('url', 'an address that begins with http:// or https://', source.url);
    const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers: { ...source.headers } } });
    return { transport: transport as Transport, name: url.origin + url.pathname, errors: () => '' };
  }
  if (typeof source.command !== 'string' || source.command === '') throw invalid('command', 'a program to start', source.command);
  const { command, args = [], env, cwd } = source;
  const transport = new StdioClientTransport({
    command,
    args: [...args],
    stderr: 'pipe',
    ...(env === undefined ? {} : { env: { ...env } }),
    ...(cwd === undefined ? {} : { cwd }),
  });
  let errors = '';
  transport.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-MAX_ERRORS);
  });
  return { transport, name: command, errors: () => errors.trim() };
}

function isMany(sources: McpSource | readonly McpSource[]): sources is readonly McpSource[] {
  return Array.isArray(sources);
}

function checkTimeout(param: string, ms: number): void {
  if (!(ms > 0 && ms <= 2 ** 31 - 1)) throw invalid(param, 'milliseconds above 0', ms);
}

function collision(name: string): MillraceError {
  return new MillraceError('REQUEST_INVALID', {
    message: `Two tools are called ${JSON.stringify(name)}.`,
    hint: 'give one of the servers a prefix: { command, prefix: "files_" }',
    param: 'tools',
  });
}

function invalid(param: string, expected: string, received: unknown): MillraceError {
  return new MillraceError('REQUEST_INVALID', { message: `The option ${param} cannot be that.`, expected, received: String(received), param });
}

function aborted({ reason }: AbortSignal): MillraceError {
  return reason instanceof MillraceError
    ? reason
    : new MillraceError('REQUEST_ABORTED', { message: 'Connecting to an MCP server was aborted by its signal.', cause: reason });
}

function failed(name: string, thrown: unknown, errors: string): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  return new MillraceError('TOOL_SOURCE_FAILED', {
    message: `The MCP server ${name} gives no tools: ${why}`,
    ...(errors === '' ? {} : { hint: `it said: ${errors}` }),
    cause: thrown,
  });
}
