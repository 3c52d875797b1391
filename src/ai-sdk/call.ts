import type { LanguageModelV4CallOptions, LanguageModelV4Message, LanguageModelV4ToolResultPart, SharedV4Warning } from '@ai-sdk/provider';
import { MillraceError } from '../base/errors.ts';
import type { ChatCompletionBody } from '../server/openai/schemas.ts';

type Message = ChatCompletionBody['messages'][number];

/**
 * A call of the AI SDK as a body of `/v1/chat/completions`.
 * @throws NOT_SUPPORTED for files and for tools that a provider runs
 */
export function chatOfCall(options: LanguageModelV4CallOptions): { readonly body: ChatCompletionBody; readonly warnings: SharedV4Warning[] } {
  const { prompt, tools = [], toolChoice, responseFormat, reasoning } = options;
  const isJson = responseFormat?.type === 'json';
  const { schema, name = 'answer' } = isJson ? responseFormat : {};
  const effort = reasoning === undefined || reasoning === 'provider-default' ? undefined : reasoning;
  const body: ChatCompletionBody = {
    messages: prompt.flatMap(messagesOf),
    max_tokens: options.maxOutputTokens ?? null,
    temperature: options.temperature ?? null,
    top_p: options.topP ?? null,
    top_k: options.topK ?? null,
    presence_penalty: options.presencePenalty ?? null,
    frequency_penalty: options.frequencyPenalty ?? null,
    seed: options.seed ?? null,
    stop: options.stopSequences ?? null,
    ...(tools.length === 0 ? {} : { tools: tools.map(toolOf) }),
    ...(toolChoice === undefined ? {} : { tool_choice: toolChoice.type === 'tool' ? namedTool(toolChoice.toolName) : toolChoice.type }),
    ...(isJson
      ? {
          response_format:
            schema === undefined ? { type: 'json_object' } : ({ type: 'json_schema', json_schema: { name, schema } } as { type: string }),
        }
      : {}),
    ...(effort === undefined ? {} : { reasoning_effort: effort }),
    ...(options.providerOptions?.millrace as Partial<ChatCompletionBody> | undefined),
  };
  return { body, warnings: [] };
}

const namedTool = (name: string) => ({ type: 'function', function: { name } });

function toolOf(tool: NonNullable<LanguageModelV4CallOptions['tools']>[number]): NonNullable<ChatCompletionBody['tools']>[number] {
  if (tool.type !== 'function') throw unsupported(`The tool ${JSON.stringify(tool.name)}, which a provider has to run,`);
  const { name, description, inputSchema } = tool;
  return {
    type: 'function',
    function: { name, ...(description === undefined ? {} : { description }), parameters: inputSchema as Record<string, unknown> },
  };
}

function messagesOf(message: LanguageModelV4Message): Message[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }];
    case 'user': {
      const texts = message.content.map((part) => {
        if (part.type === 'text') return part.text;
        throw unsupported(`A part of type ${part.type}`);
      });
      return [{ role: 'user', content: texts.join('\n') }];
    }
    case 'assistant':
      return [assistantMessage(message)];
    case 'tool':
      return message.content.map((part) => {
        if (part.type === 'tool-result') return { role: 'tool', tool_call_id: part.toolCallId, name: part.toolName, content: resultText(part) };
        throw unsupported(`A part of type ${part.type}`);
      });
  }
}

function assistantMessage({ content }: LanguageModelV4Message & { role: 'assistant' }): Message {
  const message: Message = { role: 'assistant', content: '' };
  for (const part of content) {
    if (part.type === 'text') message.content = String(message.content) + part.text;
    else if (part.type === 'reasoning') message.reasoning_content = (message.reasoning_content ?? '') + part.text;
    else if (part.type === 'tool-call') {
      const call = { id: part.toolCallId, type: 'function', function: { name: part.toolName, arguments: JSON.stringify(part.input) } };
      message.tool_calls = [...(message.tool_calls ?? []), call];
    } else throw unsupported(`A part of type ${part.type}`);
  }
  return message;
}

function resultText({ output }: LanguageModelV4ToolResultPart): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value;
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value);
    case 'execution-denied':
      return output.reason ?? 'The call was not allowed.';
    case 'content':
      return output.value.map((part) => (part.type === 'text' ? part.text : JSON.stringify(part))).join('\n');
  }
}

function unsupported(what: string): MillraceError {
  return new MillraceError('NOT_SUPPORTED', { message: `${what} is not supported: the model reads text.` });
}
