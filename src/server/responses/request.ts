/** Requests of the Responses API in the words of the chat completions: what they mean, and what they may ask for, is decided there. */
import { MillraceError } from '../../base/errors.ts';
import type { ChatCompletionBody } from '../openai/schemas.ts';
import { notSupported, refuseUnsupported } from '../openai/unsupported.ts';
import { fieldsOfChats, type InputItem, type ResponsesBody } from './schemas.ts';

type Message = ChatCompletionBody['messages'][number];

const refused = ['conversation', 'prompt', 'max_tool_calls', 'context_management'] as const;
const LOGPROBS = 'message.output_text.logprobs';
/** Of `include`: what is answered anyway, or is nothing here. */
const included: ReadonlySet<string> = new Set(['reasoning.encrypted_content', LOGPROBS]);

/** @throws NOT_SUPPORTED, REQUEST_INVALID */
export function chatOfResponse(body: ResponsesBody): ChatCompletionBody {
  refuseUnsupported(body);
  for (const field of refused) if (body[field]) throw notSupported(field);
  if (body.truncation && body.truncation !== 'disabled') throw notSupported('truncation');
  if (body.include?.some((what) => !included.has(what))) throw notSupported('include');
  if (body.text?.verbosity && body.text.verbosity !== 'medium') throw notSupported('text.verbosity');
  const { input, instructions, tools, text, reasoning } = body;
  const system: Message[] = instructions ? [{ role: 'system', content: instructions }] : [];
  const format = text?.format;
  return {
    messages: [...system, ...(typeof input === 'string' ? [{ role: 'user', content: input }] : chatMessages(input))],
    model: body.model ?? null,
    stream: body.stream ?? false,
    max_tokens: body.max_output_tokens ?? null,
    temperature: body.temperature ?? null,
    top_p: body.top_p ?? null,
    ...(tools && tools.length > 0 ? { tools: tools.map(chatTool) } : {}),
    tool_choice: toolChoice(body.tool_choice),
    parallel_tool_calls: body.parallel_tool_calls ?? null,
    user: body.user,
    cache_salt: body.cache_salt ?? null,
    kv_cache: body.kv_cache ?? null,
    ...sameFields(body),
    ...(wantsLogprobs(body) ? { logprobs: true, top_logprobs: body.top_logprobs ?? 0 } : {}),
    ...(format && format.type !== 'text' ? { response_format: responseFormat(format) } : {}),
    ...(reasoning?.effort ? { reasoning_effort: reasoning.effort } : {}),
    ...(typeof reasoning?.max_tokens === 'number' ? { thinking_token_budget: reasoning.max_tokens } : {}),
  };
}

/**
 * The input as items, each with an id.
 * @param itemOf finds what a reference names, or throws
 */
export function inputItems({ input }: ResponsesBody, responseId: string, itemOf: (id: string, param: string) => InputItem): readonly InputItem[] {
  const items: readonly InputItem[] = typeof input === 'string' ? [{ type: 'message', role: 'user', content: input }] : input;
  const meant = items.map((item, index) => (isReference(item) ? itemOf(required(item.id, `input[${index}].id`), `input[${index}].id`) : item));
  return meant.map((item, index) => ({ ...item, type: item.type ?? 'message', id: item.id ?? `in_${responseId.replace(/^resp_/, '')}_${index}` }));
}

/** An item as a list of items shows it: texts in parts, and all that clients look for. */
export function shownItem(item: InputItem): object {
  const { type, role, content } = item;
  if (type === 'reasoning') return { summary: [], ...item };
  if (type !== 'message') return { status: 'completed', ...item };
  const part = role === 'assistant' ? { type: 'output_text', annotations: [], logprobs: [] } : { type: 'input_text' };
  return { status: 'completed', ...item, content: typeof content === 'string' ? [{ ...part, text: content }] : (content ?? []) };
}

/** By its type, or as an id and nothing else. */
function isReference({ type, id, role, content }: InputItem): boolean {
  return type === 'item_reference' || ((type ?? null) === null && typeof id === 'string' && !role && content === undefined);
}

/** Log probabilities of the text. */
export function wantsLogprobs({ include, top_logprobs: most }: ResponsesBody): boolean {
  return include?.includes(LOGPROBS) === true || (most ?? 0) > 0;
}

function sameFields(body: ResponsesBody): Pick<ResponsesBody, keyof typeof fieldsOfChats> {
  return Object.fromEntries(Object.entries(body).filter(([field]) => Object.hasOwn(fieldsOfChats, field)));
}

/** The name stands beside the type here, and in a wrapper there. */
function toolChoice(choice: unknown): unknown {
  if (typeof choice !== 'object' || choice === null || !('name' in choice)) return choice ?? null;
  const { name, ...rest } = choice;
  return { ...rest, function: { name } };
}

/** What the assistant did in one turn (reasoning, text, calls) is one message of it. */
function chatMessages(items: readonly InputItem[]): Message[] {
  const messages: Message[] = [];
  const turn = (): Message => {
    const last = messages.at(-1);
    if (last?.role === 'assistant') return last;
    const message: Message = { role: 'assistant', content: null };
    messages.push(message);
    return message;
  };
  for (const [index, item] of items.entries()) {
    const path = `input[${index}]`;
    switch (item.type ?? 'message') {
      case 'message': {
        const content = textOf(item.content, `${path}.content`);
        if (item.role === 'assistant') turn().content = (turn().content ?? '') + content;
        else messages.push({ role: required(item.role, `${path}.role`), content });
        break;
      }
      case 'reasoning':
        turn().reasoning_content = (turn().reasoning_content ?? '') + textOf(item.content ?? '', `${path}.content`);
        break;
      case 'function_call': {
        const call = { name: required(item.name, `${path}.name`), arguments: item.arguments ?? '{}' };
        const message = turn();
        message.tool_calls = [...(message.tool_calls ?? []), { id: required(item.call_id, `${path}.call_id`), type: 'function', function: call }];
        break;
      }
      case 'function_call_output':
        messages.push({ role: 'tool', tool_call_id: required(item.call_id, `${path}.call_id`), content: textOf(item.output, `${path}.output`) });
        break;
      default:
        throw notSupported(`${path}.type`, `An item of type ${JSON.stringify(item.type)}`);
    }
  }
  return messages.map((message) => (message.content === null && !message.tool_calls ? { ...message, content: '' } : message));
}

const textTypes: ReadonlySet<string> = new Set(['input_text', 'output_text', 'text', 'reasoning_text']);

function textOf(content: InputItem['content'], path: string): string {
  if (typeof content === 'string') return content;
  const parts = (content ?? []).map(({ type, text }, at) => {
    if (!textTypes.has(type)) throw notSupported(`${path}[${at}].type`, `Content of type ${JSON.stringify(type)}`);
    return required(text, `${path}[${at}].text`, true);
  });
  return parts.join('\n');
}

function required(value: string | null | undefined, param: string, mayBeEmpty = false): string {
  if (typeof value === 'string' && (mayBeEmpty || value !== '')) return value;
  throw new MillraceError('REQUEST_INVALID', { message: `The field ${param} is missing.`, param });
}

function chatTool({ type, name, description, parameters, strict }: NonNullable<ResponsesBody['tools']>[number], index: number) {
  if (type !== 'function') throw notSupported(`tools[${index}].type`, `A tool of type ${JSON.stringify(type)}`);
  const shown = {
    name: required(name, `tools[${index}].name`),
    ...(description ? { description } : {}),
    ...(parameters ? { parameters } : {}),
    ...(strict ? { strict } : {}),
  };
  return { type: 'function' as const, function: shown };
}

/** The schema stands beside the type here, and in a wrapper there. */
function responseFormat(format: { type: string }): NonNullable<ChatCompletionBody['response_format']> {
  const { type, ...schema } = format;
  return type === 'json_schema' ? ({ type, json_schema: schema } as { type: string }) : { type };
}
