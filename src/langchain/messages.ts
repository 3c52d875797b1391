import { AIMessage, type BaseMessage, ToolMessage } from '@langchain/core/messages';
import { MillraceError } from '../base/errors.ts';
import type { ChatCompletionBody } from '../server/openai/schemas.ts';

const roles: Readonly<Record<string, string>> = {
  human: 'user',
  ai: 'assistant',
  system: 'system',
  developer: 'system',
  tool: 'tool',
  generic: 'user',
};

/** @throws NOT_SUPPORTED for kinds of messages and of content that a text model cannot read */
export function chatMessage(message: BaseMessage): ChatCompletionBody['messages'][number] {
  const role = roles[message.type];
  if (role === undefined) throw unsupported(`A message of type ${JSON.stringify(message.type)}`);
  const content = textOf(message);
  if (message instanceof ToolMessage) return { role, content, tool_call_id: message.tool_call_id, ...(message.name ? { name: message.name } : {}) };
  if (!(message instanceof AIMessage)) return { role, content };
  const reasoning = message.additional_kwargs.reasoning_content;
  const calls = (message.tool_calls ?? []).map(({ id, name, args }) => ({
    id,
    type: 'function',
    function: { name, arguments: JSON.stringify(args) },
  }));
  return {
    role,
    content,
    ...(typeof reasoning === 'string' ? { reasoning_content: reasoning } : {}),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
}

function textOf({ content }: BaseMessage): string {
  if (typeof content === 'string') return content;
  const texts = content.map((part) => {
    if (part.type === 'text' && typeof part.text === 'string') return part.text;
    throw unsupported(`Content of type ${JSON.stringify(part.type)}`);
  });
  return texts.join('\n');
}

function unsupported(what: string): MillraceError {
  return new MillraceError('NOT_SUPPORTED', { message: `${what} is not supported: the model reads text.` });
}
