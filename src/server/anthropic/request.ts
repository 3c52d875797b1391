/** Anthropic's requests in the words of the chat completions: what they mean, and what they may ask for, is decided there. */
import { MillraceError } from '../../base/errors.ts';
import { thinkingVariables } from '../../chat/reasoning.ts';
import type { ChatCompletionBody } from '../openai/schemas.ts';
import { notSupported } from '../openai/unsupported.ts';
import type { MessagesBody, PromptBody } from './schemas.ts';

type Message = ChatCompletionBody['messages'][number];
type Block = Exclude<MessagesBody['messages'][number]['content'], string>[number];

/** @throws NOT_SUPPORTED, REQUEST_INVALID */
export function chatOfMessages(body: MessagesBody): ChatCompletionBody {
  const userId = body.metadata?.user_id;
  return {
    ...chatOfPrompt(body),
    stream: body.stream ?? false,
    max_tokens: body.max_tokens ?? null,
    stop: body.stop_sequences ?? null,
    temperature: body.temperature ?? null,
    top_p: body.top_p ?? null,
    top_k: body.top_k ?? null,
    ...(userId ? { user: userId } : {}),
  };
}

/** What becomes of the prompt. @throws NOT_SUPPORTED, REQUEST_INVALID */
export function chatOfPrompt({ model, messages, system, tools, tool_choice: choice, thinking }: PromptBody): ChatCompletionBody {
  const given = [...systemMessages(system), ...messages.flatMap(chatMessages)];
  const last = messages.at(-1);
  const continues = last?.role === 'assistant' && given.at(-1)?.tool_calls === undefined;
  return {
    messages: given,
    model: model ?? null,
    ...(tools && tools.length > 0 ? { tools: tools.map(chatTool) } : {}),
    ...toolChoice(choice),
    ...(thinking ? readThinking(thinking) : {}),
    ...(continues ? { continue_final_message: true, add_generation_prompt: false } : {}),
  };
}

/** A budget holds for any model; whether it thinks at all is for its template to say. */
function readThinking({ type, budget_tokens: budget }: NonNullable<PromptBody['thinking']>): Partial<ChatCompletionBody> {
  if (type === 'disabled') return { chat_template_kwargs: thinkingVariables(false), thinking_token_budget: 0 };
  return { chat_template_kwargs: thinkingVariables(true), thinking_token_budget: budget ?? null };
}

function systemMessages(system: PromptBody['system']): Message[] {
  if (!system || system.length === 0) return [];
  return [{ role: 'system', content: typeof system === 'string' ? system : system.map(({ text }) => text).join('\n') }];
}

/** Results of tools are messages of their own, ahead of what the user says. */
function chatMessages({ role, content }: MessagesBody['messages'][number], index: number): Message[] {
  if (typeof content === 'string') return [{ role, content }];
  for (const [at, block] of content.entries()) checkBlock(block, role, `messages[${index}].content[${at}]`);
  const text = textOf(content);
  if (role === 'user') {
    const results = content.filter(({ type }) => type === 'tool_result').map(toolMessage);
    return text === '' && results.length > 0 ? results : [...results, { role, content: text }];
  }
  const calls = content
    .filter(({ type }) => type === 'tool_use')
    .map(({ id, name, input }) => ({ id, type: 'function', function: { name, arguments: input ?? {} } }));
  const reasoning = content.map(({ type, thinking }) => (type === 'thinking' ? (thinking ?? '') : '')).join('');
  return [
    {
      role,
      content: text === '' && calls.length > 0 ? null : text,
      ...(reasoning === '' ? {} : { reasoning_content: reasoning }),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    },
  ];
}

const blocksOf: Readonly<Record<string, readonly string[]>> = {
  user: ['text', 'tool_result'],
  assistant: ['text', 'thinking', 'redacted_thinking', 'tool_use'],
};

function checkBlock({ type, text, id, name, tool_use_id: toolUseId, content }: Block, role: string, path: string): void {
  if (!blocksOf[role]?.includes(type)) throw notSupported(`${path}.type`, `A block of type ${JSON.stringify(type)} from the ${role}`);
  const missing =
    type === 'text' && typeof text !== 'string'
      ? 'text'
      : type === 'tool_use' && !id
        ? 'id'
        : type === 'tool_use' && !name
          ? 'name'
          : type === 'tool_result' && !toolUseId
            ? 'tool_use_id'
            : null;
  if (missing !== null)
    throw new MillraceError('REQUEST_INVALID', { message: `The field ${path}.${missing} is missing.`, param: `${path}.${missing}` });
  const parts = typeof content === 'object' && content !== null ? content : [];
  const other = parts.find((part) => part.type !== 'text');
  if (other !== undefined) throw notSupported(`${path}.content`, `A tool result of type ${JSON.stringify(other.type.slice(0, 64))}`);
}

function toolMessage({ tool_use_id: id, content, is_error: isError }: Block): Message {
  const text = typeof content === 'string' ? content : (content ?? []).map((part) => part.text ?? '').join('\n');
  return { role: 'tool', tool_call_id: id ?? '', content: isError ? `Error: ${text}` : text };
}

function textOf(content: readonly Block[]): string {
  return content.flatMap(({ type, text }) => (type === 'text' && text ? [text] : [])).join('\n');
}

function chatTool({ name, description, input_schema: schema, type }: NonNullable<PromptBody['tools']>[number], index: number) {
  if (type && type !== 'custom') throw notSupported(`tools[${index}].type`, `A tool of type ${JSON.stringify(type.slice(0, 64))}`);
  return {
    type: 'function' as const,
    function: { name, ...(description ? { description } : {}), parameters: schema ?? { type: 'object', properties: {} } },
  };
}

function toolChoice(choice: PromptBody['tool_choice']): Pick<ChatCompletionBody, 'tool_choice' | 'parallel_tool_calls'> {
  if (!choice) return {};
  const forced = choice.type === 'any' ? 'required' : choice.type === 'tool' ? { type: 'function', function: { name: choice.name } } : choice.type;
  return { tool_choice: forced, parallel_tool_calls: !choice.disable_parallel_tool_use };
}
