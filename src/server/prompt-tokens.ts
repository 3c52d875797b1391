import { ChatReading } from './choice-output.ts';
import type { ServedModel } from './model-table.ts';
import { readChatCompletion } from './openai/request.ts';
import type { ChatCompletionBody } from './openai/schemas.ts';
import type { ServerLimits } from './options.ts';

/** How many tokens the prompt of a chat has. @throws what the chat itself would be refused with, but for its length */
export async function countPromptTokens(model: ServedModel, chat: ChatCompletionBody, limits: ServerLimits): Promise<number> {
  const request = readChatCompletion(chat, limits);
  new ChatReading(model, request);
  const [input] = request.inputs;
  if (input === undefined || !('messages' in input)) return 0;
  const { tokenIds } = await model.engine.renderChat(input.messages, input.template);
  return tokenIds.length;
}
