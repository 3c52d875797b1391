/** A real engine behind the server, with a record of what each request became: what the cases of the conformance table run on. No test framework here. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ErrorCode } from '../../src/base/errors.ts';
import type { ChatMessage, ChatTemplateOptions } from '../../src/chat/messages.ts';
import type { LoadOptions } from '../../src/engine/config.ts';
import type { Engine, FinishedRequest, GenerateInput, GenerateOptions } from '../../src/engine/engine.ts';
import { loadEngine } from '../../src/engine/load.ts';
import type { LogitsProcessor } from '../../src/engine/logits-stage.ts';
import type { GenerationResult, RequestStream } from '../../src/engine/request-stream.ts';
import type { SamplingParams } from '../../src/sampling/params.ts';
import { createServer, type MillraceServer } from '../../src/server/server.ts';

/** One field, or a few that make sense together only, and what is shown of them. */
export interface Case {
  readonly fields: readonly string[];
  readonly shows: string;
  run(api: Api): Promise<void>;
}

export interface Generated {
  readonly input: GenerateInput;
  readonly params: SamplingParams;
  readonly options: GenerateOptions;
  readonly stream: RequestStream;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Parsed, of answers that are one JSON value. */
  readonly body: Json;
}

// biome-ignore lint/suspicious/noExplicitAny: answers of a server, which the cases look into
export type Json = any;

/** The pocket model's template, with documents and the effort of reasoning shown in front. */
const preface = '{%- if documents %}{%- for d in documents %}{{- "[doc] " + d.text + "\\n" }}{%- endfor %}{%- endif %}';
const effort =
  '{%- if reasoning_effort %}{{- "[effort " + reasoning_effort + "]\\n" }}{%- endif %}{%- if note %}{{- "[note " + note + "]\\n" }}{%- endif %}';
const speakers =
  '{%- for m in messages %}{%- if m.name %}{{- "[name " + m.name + "]\\n" }}{%- endif %}{%- if m.tool_call_id %}{{- "[answers " + m.tool_call_id + "]\\n" }}{%- endif %}{%- endfor %}';
const described = '{%- for t in tools or [] %}{{- "[tool " + (t.function.description or "") + "]\\n" }}{%- endfor %}';

export class Api implements AsyncDisposable {
  readonly engine: Engine;
  /** The same, with the record: what clients in this process are given. */
  readonly served: Engine;
  readonly server: MillraceServer;
  readonly url: string;
  readonly generated: Generated[] = [];
  readonly #script: Script;
  readonly #folder: string;

  /** The pocket model, with its template showing more than its own does. */
  static async open(more: Omit<LoadOptions, 'model'> = {}): Promise<Api> {
    const pocket = path.join(import.meta.dirname, '..', '..', 'pocket', 'model');
    const folder = mkdtempSync(path.join(tmpdir(), 'millrace-api-'));
    const chatTemplate = path.join(folder, 'template.jinja');
    const own: string = JSON.parse(readFileSync(path.join(pocket, 'tokenizer_config.json'), 'utf8')).chat_template;
    writeFileSync(chatTemplate, `${preface}${effort}${speakers}${described}${own}`);
    const engine = await loadEngine({ model: pocket, chatTemplate, servedModelName: ['pocket', 'org/pocket'], maxModelLen: 1024, ...more });
    const generated: Generated[] = [];
    const script: Script = { onGenerate: null, onAdmitted: null };
    const served = recording(engine, generated, script);
    const server = createServer({ engines: new Map([['pocket', served]]), options: { port: 0, drainMs: 2000 } });
    return new Api(engine, served, server, (await server.listen()).url, generated, script, folder);
  }

  private constructor(engine: Engine, served: Engine, server: MillraceServer, url: string, generated: Generated[], script: Script, folder: string) {
    this.engine = engine;
    this.served = served;
    this.server = server;
    this.url = url;
    this.generated = generated;
    this.#script = script;
    this.#folder = folder;
  }

  /** @param body as JSON, or text that is sent as it is */
  async send(
    at: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
    method = body === undefined ? 'GET' : 'POST',
  ): Promise<Answer> {
    const response = await fetch(this.url + at, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false;
    return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : null };
  }

  /** The answer of a request that is taken. */
  async ok(at: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    const answer = await this.send(at, body, headers);
    assert.equal(answer.status, 200, `${at}: ${answer.text.slice(0, 500)}`);
    return answer;
  }

  /** What the engine was given for a request that is taken, and what it made of it. */
  async generate(at: string, body: unknown): Promise<Generated & { readonly result: GenerationResult; readonly answer: Answer }> {
    const answer = await this.ok(at, body);
    const last = this.generated.at(-1);
    assert.ok(last, 'the engine was asked');
    return { ...last, result: await last.stream, answer };
  }

  /** Ids of the tokens that a request is answered with. */
  async tokens(at: string, body: unknown): Promise<readonly number[]> {
    return (await this.generate(at, body)).result.choices[0]?.tokenIds ?? [];
  }

  /** What the model was shown for a request. */
  async prompt(at: string, body: unknown): Promise<string> {
    const { result } = await this.generate(at, body);
    return this.engine.tokenizer.decode(result.promptTokenIds, { skipSpecialTokens: false });
  }

  async refused(at: string, body: unknown, code: ErrorCode, param?: string): Promise<Answer> {
    const answer = await this.send(at, body);
    const { body: told } = answer;
    const error = told?.error?.code === undefined ? told : told.error;
    assert.equal(error?.code, code, `${at}: ${answer.text.slice(0, 500)}`);
    if (param !== undefined && error.param !== undefined) assert.equal(error.param, param);
    assert.ok(answer.status >= 400);
    return answer;
  }

  /** The values of an answer in server-sent events, or in lines. */
  async frames(at: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Json[]> {
    const { text } = await this.ok(at, body, headers);
    const lines = text.split('\n').map((line) => (line.startsWith('data: ') ? line.slice(6) : line));
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  }

  /** While `run` does, each answer is this text, token by token, and then its end: through the model and the sampler, by a processor of logits. */
  async dictating<T>(text: string, run: () => Promise<T>): Promise<T> {
    const { tokenizer } = this.engine;
    const [eos = 0] = tokenizer.eosTokenIds;
    const tokenIds = [...tokenizer.encode(text, { addSpecialTokens: false, parseSpecial: true }), eos];
    return this.intercepting((options) => ({ ...options, logitsProcessors: [dictation(tokenIds)] }), null, run);
  }

  /** While `run` does, each request goes through this. */
  async intercepting<T>(onGenerate: OnGenerate | null, onAdmitted: OnAdmitted | null, run: () => Promise<T>): Promise<T> {
    Object.assign(this.#script, { onGenerate, onAdmitted });
    try {
      return await run();
    } finally {
      Object.assign(this.#script, { onGenerate: null, onAdmitted: null });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
    await this.engine.close();
    rmSync(this.#folder, { recursive: true });
  }
}

/** Called with each request on its way to the engine: may change how it is run. */
export type OnGenerate = (options: GenerateOptions) => GenerateOptions;
/** Called with each request that runs. */
export type OnAdmitted = (engine: Engine) => void;

interface Script {
  onGenerate: OnGenerate | null;
  onAdmitted: OnAdmitted | null;
}

function dictation(script: readonly number[]): LogitsProcessor {
  let start = -1;
  return (tokenIds, logits) => {
    if (start < 0) start = tokenIds.length;
    const wanted = script[tokenIds.length - start] ?? script.at(-1) ?? 0;
    logits.fill(-1e9);
    logits[wanted] = 0;
  };
}

/** The engine, with a fixed seed where none is given, so that answers can be compared at endpoints that take none. */
function recording(engine: Engine, generated: Generated[], script: Script): Engine {
  return {
    model: engine.model,
    tokenizer: engine.tokenizer,
    config: engine.config,
    generate(input: GenerateInput, params: SamplingParams = {}, options: GenerateOptions = {}): RequestStream {
      const seeded = { ...params, seed: params.seed ?? 5 };
      const stream = engine.generate(input, seeded, script.onGenerate?.(options) ?? options);
      const { onAdmitted } = script;
      if (onAdmitted !== null) stream.admitted.then(() => onAdmitted(engine)).catch(() => undefined);
      generated.push({ input, params, options, stream });
      return stream;
    },
    renderChat: (messages: readonly ChatMessage[], options?: ChatTemplateOptions) => engine.renderChat(messages, options),
    stats: () => engine.stats(),
    requests: () => engine.requests(),
    useSchedulingPolicy: (name: string) => engine.useSchedulingPolicy(name),
    onFinished: (listener: (event: FinishedRequest) => void) => engine.onFinished(listener),
    close: () => engine.close(),
    [Symbol.asyncDispose]: () => engine.close(),
  };
}

/** Fields as a case lists them. */
export const one = (fields: string | readonly string[], shows: string, run: Case['run']): Case => ({
  fields: typeof fields === 'string' ? [fields] : fields,
  shows,
  run,
});
