/** From what a caller gives to prompt token ids: renders the chat template, encodes, checks. */
import { MillraceError } from '../base/errors.ts';
import { renderToIds } from '../chat/prompt.ts';
import type { ChatTemplate } from '../chat/template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerateInput } from './engine.ts';

export interface InputParts {
  readonly tokenizer: Tokenizer;
  /** null when the model has none. */
  readonly chatTemplate: ChatTemplate | null;
  /** Ids that the model's embedding has; may be more than the tokenizer's. */
  readonly vocabSize: number;
}

/** @throws PROMPT_EMPTY, PROMPT_TOKEN_UNKNOWN, CHAT_TEMPLATE_MISSING, CHAT_TEMPLATE_FAILED */
export async function promptTokenIds(input: GenerateInput, parts: InputParts): Promise<Int32Array> {
  if ('promptTokenIds' in input) return checkedIds(input.promptTokenIds, parts.vocabSize);
  if ('messages' in input) {
    const { tokenIds } = await renderToIds(parts.tokenizer, parts.chatTemplate, input.messages, input.template);
    return nonEmpty(tokenIds);
  }
  const addSpecialTokens = input.addSpecialTokens ?? true;
  return nonEmpty(await parts.tokenizer.encodeAsync(input.prompt, { addSpecialTokens, parseSpecial: true }));
}

/** The last `most` tokens of a prompt; -1: those that leave room for one of output; null: all. @throws SAMPLING_PARAM_INVALID */
export function lastTokens(prompt: Int32Array, most: number | null, maxModelLen: number): Int32Array {
  if (most === null) return prompt;
  if (!Number.isInteger(most) || most < -1 || most === 0 || most > maxModelLen) {
    throw new MillraceError('SAMPLING_PARAM_INVALID', {
      message: 'Sampling parameter truncate_prompt_tokens is out of range.',
      expected: `-1 or an integer from 1 to ${maxModelLen}`,
      received: String(most),
      param: 'truncate_prompt_tokens',
    });
  }
  return prompt.slice(-Math.min(prompt.length, most === -1 ? maxModelLen - 1 : most));
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
