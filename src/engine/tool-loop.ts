/** A conversation with tools that run here: generate, run what the model calls, tell it the results, until it answers. */
import { MillraceError } from '../base/errors.ts';
import type { ChatMessage, ChatTemplateOptions } from '../chat/messages.ts';
import type { OutputEvent } from '../chat/output-events.ts';
import { type OutputFormats, OutputParser, outputFormats } from '../chat/output-parser.ts';
import { beginsInReasoning, reasoningFormatNamed } from '../chat/reasoning.ts';
import type { ToolDefinition } from '../chat/tool-calls/format.ts';
import { toolCallFormatNamed } from '../chat/tool-calls/index.ts';
import type { SamplingParams } from '../sampling/params.ts';
import type { Engine } from './engine.ts';
import type { FinishReason } from './request-stream.ts';

/** A function that the model may call. */
export interface RunnableTool {
  readonly description?: string;
  /** JSON Schema of the arguments. It is shown to the model; what the model makes of it is for `execute` to check. */
  readonly parameters?: Readonly<Record<string, unknown>>;
  /** What it returns, or the message of what it throws, is told to the model: texts as they are, the rest as JSON. */
  execute(args: Readonly<Record<string, unknown>>, context: { readonly callId: string; readonly signal: AbortSignal | undefined }): unknown;
}

export interface ToolChatOptions {
  /** By name; none is a conversation whose reasoning is told apart. */
  readonly tools: Readonly<Record<string, RunnableTool>>;
  readonly params?: SamplingParams;
  readonly template?: Omit<ChatTemplateOptions, 'tools'>;
  /** Generations at most, 8 unless told otherwise. */
  readonly maxTurns?: number;
  /** Ends the generation that runs, and no other begins; tools are given it. */
  readonly signal?: AbortSignal;
  /** Told of content, reasoning and calls as they come. */
  readonly onEvent?: (event: OutputEvent) => void;
}

export interface ToolAnswer {
  /** Of the last turn. */
  readonly text: string;
  readonly reasoning: string;
  /** `turns`: the limit came before the answer. */
  readonly finishReason: FinishReason | 'turns';
  /** The conversation with all that was added to it, the answer included. */
  readonly messages: readonly ChatMessage[];
  readonly numTurns: number;
  readonly usage: { readonly promptTokens: number; readonly completionTokens: number };
}

interface Call {
  readonly id: string;
  readonly name: string;
  arguments: string;
}

interface Turn {
  readonly text: string;
  readonly reasoning: string;
  readonly calls: readonly Call[];
  readonly finishReason: FinishReason;
}

const DEFAULT_MAX_TURNS = 8;

/**
 * @throws NOT_SUPPORTED when nobody knows how the model writes calls, REQUEST_INVALID for options that make no sense, REQUEST_ABORTED,
 *   and what generating throws
 */
export async function chatWithTools(engine: Engine, messages: readonly ChatMessage[], options: ToolChatOptions): Promise<ToolAnswer> {
  const { maxTurns = DEFAULT_MAX_TURNS, signal } = options;
  if (!Number.isInteger(maxTurns) || maxTurns < 1) throw invalid('maxTurns', 'a whole number of at least 1', maxTurns);
  if ((options.params?.n ?? 1) !== 1) throw invalid('n', '1 with tools', options.params?.n);
  const formats = formatsOf(engine, Object.keys(options.tools).length > 0);
  const conversation = [...messages];
  const usage = { promptTokens: 0, completionTokens: 0 };
  for (let numTurns = 1; ; numTurns++) {
    const turn = await generateTurn(engine, [...conversation], options, formats, usage);
    conversation.push(assistantMessage(turn));
    const { text, reasoning, calls } = turn;
    if (calls.length === 0 || turn.finishReason !== 'stop')
      return { text, reasoning, finishReason: turn.finishReason, messages: conversation, numTurns, usage };
    const results = await Promise.all(calls.map((call) => run(call, options)));
    if (signal?.aborted) throw aborted(signal);
    conversation.push(...results);
    if (numTurns === maxTurns) return { text, reasoning, finishReason: 'turns', messages: conversation, numTurns, usage };
  }
}

function formatsOf({ model: { outputFormats: names }, tokenizer }: Engine, hasTools: boolean): OutputFormats {
  // Without tools a call in the model's format is text as any other.
  const toolCalls = hasTools ? toolCallFormatNamed(names?.toolCalls ?? null) : null;
  if (toolCalls !== null || !hasTools) return outputFormats(tokenizer, reasoningFormatNamed(names?.reasoning ?? null), toolCalls);
  throw new MillraceError('NOT_SUPPORTED', {
    message: "The model's chat template teaches no format of tool calls that is known here.",
    hint: 'name one with --tool-call-format (toolCallFormat)',
    param: 'tools',
  });
}

async function generateTurn(
  engine: Engine,
  messages: readonly ChatMessage[],
  { tools, params, template, signal, onEvent }: ToolChatOptions,
  formats: OutputFormats,
  usage: { promptTokens: number; completionTokens: number },
): Promise<Turn> {
  const shown = Object.entries(tools).map(([name, { description, parameters }]) => ({
    type: 'function',
    function: { name, description: description ?? '', parameters: parameters ?? { type: 'object', properties: {} } },
  }));
  const definitions: ToolDefinition[] = Object.entries(tools).map(([name, { parameters }]) => ({ name, ...(parameters ? { parameters } : {}) }));
  // an answer that is held leaves room for calls only where the grammar knows of them
  const isEither = formats.toolCalls !== null && (params?.structuredOutput ?? null) !== null;
  const stream = engine.generate({ messages, template: { ...template, ...(shown.length === 0 ? {} : { tools: shown }) } }, params, {
    markerTokenIds: new Set(formats.markers.keys()),
    ...(signal === undefined ? {} : { signal }),
    ...(isEither && formats.toolCalls !== null
      ? { calls: { format: formats.toolCalls, tools: definitions, allowsMany: true, mode: 'instead' } }
      : {}),
  });
  const { promptTokenIds } = await stream.admitted;
  const tail = engine.tokenizer.decode(promptTokenIds.slice(-16), { skipSpecialTokens: false });
  const parser = new OutputParser(formats, {
    beginsInReasoning: formats.reasoning !== null && beginsInReasoning(formats.reasoning, tail),
    tools: definitions,
    isEither,
  });
  const turn = { text: '', reasoning: '', calls: [] as Call[], finishReason: 'abort' as FinishReason };
  for await (const delta of stream) {
    const events = parser.push(delta.text, delta.markers);
    if (delta.finishReason !== null) events.push(...parser.end());
    turn.finishReason = delta.finishReason ?? turn.finishReason;
    for (const event of events) {
      addEvent(turn, event);
      onEvent?.(event);
    }
  }
  usage.promptTokens += stream.usage.promptTokens;
  usage.completionTokens += stream.usage.completionTokens;
  return turn;
}

function addEvent(turn: { text: string; reasoning: string; calls: Call[] }, event: OutputEvent): void {
  if (event.type === 'content') turn.text += event.text;
  else if (event.type === 'reasoning') turn.reasoning += event.text;
  else if (event.type === 'toolCallStart') turn.calls.push({ id: event.id, name: event.name, arguments: '' });
  else if (event.type === 'toolCallArguments') {
    const call = turn.calls[event.index];
    if (call !== undefined) call.arguments += event.text;
  }
}

function assistantMessage({ text, reasoning, calls }: Turn): ChatMessage {
  return {
    role: 'assistant',
    content: text === '' && calls.length > 0 ? null : text,
    ...(reasoning === '' ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0
      ? {}
      : { tool_calls: calls.map((call) => ({ id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } })) }),
  };
}

/** What goes wrong is told to the model, which may do better the next time. */
async function run(call: Call, { tools, signal }: ToolChatOptions): Promise<ChatMessage> {
  const tell = (content: string): ChatMessage => ({ role: 'tool', tool_call_id: call.id, name: call.name, content });
  if (signal?.aborted) throw aborted(signal);
  const tool = Object.hasOwn(tools, call.name) ? tools[call.name] : undefined;
  if (tool === undefined) return tell(`Error: there is no tool '${call.name}'.`);
  const args = argumentsOf(call);
  if (args === null) return tell('Error: the arguments are not a JSON object.');
  try {
    const result: unknown = await tool.execute(args, { callId: call.id, signal });
    return tell(typeof result === 'string' ? result : (JSON.stringify(result) ?? ''));
  } catch (thrown) {
    if (signal?.aborted) throw aborted(signal);
    return tell(`Error: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
  }
}

function argumentsOf(call: Call): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(call.arguments);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function aborted({ reason }: AbortSignal): MillraceError {
  return reason instanceof MillraceError
    ? reason
    : new MillraceError('REQUEST_ABORTED', { message: 'The chat was aborted by its signal.', cause: reason });
}

function invalid(param: string, expected: string, received: unknown): MillraceError {
  return new MillraceError('REQUEST_INVALID', { message: `The option ${param} cannot be that.`, expected, received: String(received), param });
}
