/** Ollama's requests in the words of the chat completions: what they mean, and what they may ask for, is decided there. */
import { MillraceError } from '../../base/errors.ts';
import { thinkingVariables } from '../../chat/reasoning.ts';
import type { ModelTable, ServedModel } from '../model-table.ts';
import type { ChatCompletionBody, CompletionBody } from '../openai/schemas.ts';
import { notSupported } from '../openai/unsupported.ts';
import type { OllamaChatBody, OllamaGenerateBody } from './schemas.ts';

type Message = ChatCompletionBody['messages'][number];

/** Ollama's clients put a tag behind a name that has none. @throws MODEL_UNKNOWN, REQUEST_INVALID */
export function findModel(models: ModelTable, name: string | null | undefined): ServedModel {
  try {
    return models.find(name);
  } catch (thrown) {
    if (!(thrown instanceof MillraceError) || thrown.code !== 'MODEL_UNKNOWN' || !name?.endsWith(':latest')) throw thrown;
    return models.find(name.slice(0, -':latest'.length));
  }
}

/** @throws NOT_SUPPORTED */
export function chatOfOllama(body: OllamaChatBody): ChatCompletionBody {
  return {
    ...commonFields(body),
    messages: chatMessages(body.messages ?? []),
    ...(body.tools ? { tools: body.tools } : {}),
    ...thinking(body.think),
  };
}

/** A prompt as a conversation of one message. @throws NOT_SUPPORTED */
export function chatOfGenerate(body: OllamaGenerateBody): ChatCompletionBody {
  refuseExtras(body);
  const system: Message[] = body.system ? [{ role: 'system', content: body.system }] : [];
  return { ...commonFields(body), messages: [...system, { role: 'user', content: body.prompt ?? '' }], ...thinking(body.think) };
}

/** A prompt as it is. @throws NOT_SUPPORTED */
export function completionOfGenerate(body: OllamaGenerateBody): CompletionBody {
  refuseExtras(body);
  const fields = commonFields(body);
  // Clamped to the context: the plain completions would stop at 16.
  return { ...fields, max_tokens: fields.max_tokens ?? 2 ** 31 - 1, prompt: (body.system ? `${body.system}\n\n` : '') + (body.prompt ?? '') };
}

function refuseExtras({ images, suffix, template, context }: OllamaGenerateBody): void {
  if (images && images.length > 0) throw notSupported('images');
  if (suffix) throw notSupported('suffix');
  if (template) throw notSupported('template');
  if (context && context.length > 0) throw notSupported('context');
}

function commonFields({ model, stream, format, options }: OllamaChatBody | OllamaGenerateBody) {
  if (options?.mirostat === 1) throw notSupported('options.mirostat', 'The first version of mirostat');
  const most = options?.num_predict ?? -1;
  return {
    model: model ?? null,
    stream: stream ?? true,
    max_tokens: most < 0 ? null : most,
    temperature: options?.temperature ?? null,
    top_p: options?.top_p ?? null,
    top_k: options?.top_k ?? null,
    min_p: options?.min_p ?? null,
    repetition_penalty: options?.repeat_penalty ?? null,
    presence_penalty: options?.presence_penalty ?? null,
    frequency_penalty: options?.frequency_penalty ?? null,
    seed: options?.seed ?? null,
    stop: options?.stop ?? null,
    typical_p: options?.typical_p ?? null,
    mirostat_mode: options?.mirostat ?? null,
    mirostat_tau: options?.mirostat_tau ?? null,
    mirostat_eta: options?.mirostat_eta ?? null,
    ...responseFormat(format),
  };
}

function responseFormat(format: OllamaChatBody['format']): Pick<ChatCompletionBody, 'response_format'> {
  if (!format) return {};
  if (format === 'json') return { response_format: { type: 'json_object' } };
  if (typeof format !== 'string')
    return { response_format: { type: 'json_schema', json_schema: { name: 'format', schema: format } } as { type: string } };
  throw new MillraceError('REQUEST_INVALID', {
    message: 'The field format has a value that it cannot take.',
    expected: '"json" or a JSON Schema',
    param: 'format',
  });
}

function thinking(think: OllamaChatBody['think']): Pick<ChatCompletionBody, 'chat_template_kwargs'> {
  if (think === null || think === undefined) return {};
  return { chat_template_kwargs: typeof think === 'string' ? { ...thinkingVariables(true), reasoning_effort: think } : thinkingVariables(think) };
}

/** Calls get ids by their order, and so do the results that follow: Ollama's messages have none, some templates want them. */
function chatMessages(messages: NonNullable<OllamaChatBody['messages']>): Message[] {
  const unanswered: string[] = [];
  let numCalls = 0;
  return messages.map(({ role, content, thinking, images, tool_calls: calls, tool_name: toolName, tool_call_id: callId }, index) => {
    if (images && images.length > 0) throw notSupported(`messages[${index}].images`);
    const written = calls?.map((call) => {
      const id = `call${String(numCalls++).padStart(5, '0')}`;
      unanswered.push(id);
      return { id, type: 'function', function: { name: call.function.name, arguments: call.function.arguments ?? {} } };
    });
    return {
      role,
      content: !content && written !== undefined && written.length > 0 ? null : (content ?? ''),
      ...(thinking ? { reasoning_content: thinking } : {}),
      ...(written === undefined || written.length === 0 ? {} : { tool_calls: written }),
      ...(role === 'tool' ? { tool_call_id: callId ?? unanswered.shift() ?? '' } : {}),
      ...(toolName ? { name: toolName } : {}),
    };
  });
}
