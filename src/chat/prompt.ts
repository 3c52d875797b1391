/** Messages to the ids of the prompt. */
import { MillraceError } from '../base/errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { LiteralText } from './literal-text.ts';
import type { ChatMessage, ChatTemplateOptions } from './messages.ts';
import type { ChatTemplate } from './template.ts';

export interface RenderedPrompt {
  readonly text: string;
  /** `[numTokens]` */
  readonly tokenIds: Int32Array;
}

/**
 * Renders and encodes a conversation. Special tokens come from the template alone: their spellings in messages, tools and other
 * values of the request are encoded as plain text.
 * @param template of the model; null when it has none
 * @throws CHAT_TEMPLATE_MISSING, and whatever `ChatTemplate.render` and `Tokenizer.encodeAsync` throw
 */
export async function renderToIds(
  tokenizer: Tokenizer,
  template: ChatTemplate | null,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions = {},
): Promise<RenderedPrompt> {
  const literal = new LiteralText(tokenizer);
  const rendered = requireTemplate(template).render(messages, options, (value) => literal.hide(value));
  const { text, literalRanges } = literal.reveal(rendered);
  const tokenIds = await tokenizer.encodeAsync(text, {
    addSpecialTokens: false,
    parseSpecial: true,
    ...(literalRanges.length > 0 ? { literalRanges } : {}),
  });
  return { text, tokenIds };
}

/** @throws CHAT_TEMPLATE_MISSING */
export function requireTemplate(template: ChatTemplate | null): ChatTemplate {
  if (template !== null) return template;
  throw new MillraceError('CHAT_TEMPLATE_MISSING', {
    message: 'The model has no chat template, so messages cannot be turned into a prompt.',
    hint: 'pass one with --chat-template FILE, or use the completions endpoint',
  });
}
