import { MillraceError } from '../../base/errors.ts';
import type { ServedModel } from '../model-table.ts';
import { readMessages, readTemplateOptions } from '../openai/request.ts';
import { type TokenizeBody, tokenizeBody } from '../openai/schemas.ts';
import type { ServerLimits } from '../options.ts';
import { post } from './route.ts';

export const tokenize = post(
  ['/tokenize', '/v1/tokenize'],
  'Token ids of a text or a conversation.',
  tokenizeBody,
  async ({ context: { models, options }, body }) => {
    const model = models.find(body.model);
    const { tokenizer } = model.engine;
    const ids = await encode(model, body, options.limits);
    return {
      count: ids.length,
      max_model_len: model.engine.model.maxModelLen,
      tokens: Array.from(ids),
      ...(body.return_token_strs ? { token_strs: Array.from(ids, (id) => tokenizer.tokenText(id)) } : {}),
    };
  },
);

async function encode({ engine }: ServedModel, body: TokenizeBody, limits: ServerLimits): Promise<Int32Array> {
  const { prompt, messages } = body;
  if (typeof prompt === 'string' && !messages) {
    return engine.tokenizer.encodeAsync(prompt, { addSpecialTokens: body.add_special_tokens ?? true, parseSpecial: true });
  }
  if (messages && typeof prompt !== 'string') {
    const { tokenIds } = await engine.renderChat(readMessages(messages, limits), readTemplateOptions(body));
    return tokenIds;
  }
  throw new MillraceError('REQUEST_INVALID', {
    message: 'Nothing, or too much, to tokenize.',
    expected: 'either prompt or messages',
    param: 'prompt',
  });
}
