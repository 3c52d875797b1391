/** From what a caller gives to prompt token ids: renders the chat template, encodes, checks. */
import type { ChatMessage, ChatTemplateOptions } from '../chat/messages.ts';
import { MillraceError } from '../base/errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerateInput } from './engine.ts';

/** The model's chat template. */
export interface ChatRenderer {
  /** @throws CHAT_TEMPLATE_FAILED */
  render(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
}

export interface InputParts {
  readonly tokenizer: Tokenizer;
  /** null when the model has none. */
  readonly chatTemplate: ChatRenderer | null;
  /** Ids that the model's embedding has; may be more than the tokenizer's. */
  readonly vocabSize: number;
}

/** @throws PROMPT_EMPTY, PROMPT_TOKEN_UNKNOWN, CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_FAILED */
export async function promptTokenIds(input: GenerateInput, parts: InputParts): Promise<Int32Array> {
  if ('promptTokenIds' in input) return checkedIds(input.promptTokenIds, parts.vocabSize);
  if ('messages' in input) return (await renderChat(input.messages, input.template, parts)).tokenIds;
  const addSpecialTokens = input.addSpecialTokens ?? true;
  return nonEmpty(await parts.tokenizer.encodeAsync(input.prompt, { addSpecialTokens, parseSpecial: true }));
}

/** @throws CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_FAILED */
export async function renderChat(
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions | undefined,
  { tokenizer, chatTemplate }: InputParts,
): Promise<{ text: string; tokenIds: Int32Array }> {
  if (chatTemplate === null) {
    throw new MillraceError('CHAT_TEMPLATE_MISSING', {
      message: 'The model has no chat template, so messages cannot be turned into a prompt.',
      hint: 'Use /v1/completions (or generate) with a plain prompt.',
      param: 'messages',
    });
  }
  const text = chatTemplate.render(messages, options);
  // a template writes its own BOS and turn markers
  const tokenIds = await tokenizer.encodeAsync(text, { addSpecialTokens: false, parseSpecial: true });
  return { text, tokenIds: nonEmpty(tokenIds) };
}

function checkedIds(ids: ArrayLike<number>, vocabSize: number): Int32Array {
  for (let i = 0; i < ids.length; i++) {
    if (Number.isInteger(ids[i]) && ids[i] >= 0 && ids[i] < vocabSize) continue;
    throw new MillraceError('PROMPT_TOKEN_UNKNOWN', {
      message: `Token id at position ${i} of the prompt is not in the vocabulary.`,
      expected: `an integer from 0 to ${vocabSize - 1}`,
      received: String(ids[i]),
      param: 'prompt',
    });
  }
  return nonEmpty(Int32Array.from(ids));
}

function nonEmpty(ids: Int32Array): Int32Array {
  if (ids.length > 0) return ids;
  throw new MillraceError('PROMPT_EMPTY', { message: 'The prompt has no tokens.', expected: 'at least one token', param: 'prompt' });
}
