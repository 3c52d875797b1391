import { MillraceError } from '../../base/errors.ts';
import { detokenizeBody } from '../openai/schemas.ts';
import { post } from './route.ts';

export const detokenize = post(
  ['/detokenize', '/v1/detokenize'],
  'Text of token ids, special tokens included.',
  detokenizeBody,
  ({ context: { models, options }, body: { model, tokens } }) => {
    const { tokenizer } = models.find(model).engine;
    const most = options.limits.detokenizeIds;
    if (tokens.length > most) {
      throw new MillraceError('REQUEST_INVALID', {
        message: 'The field tokens asks for too much.',
        expected: `at most ${most} ids`,
        received: String(tokens.length),
        param: 'tokens',
      });
    }
    const unknown = tokens.find((id) => id < 0 || id >= tokenizer.vocabSize);
    if (unknown !== undefined) {
      throw new MillraceError('PROMPT_TOKEN_UNKNOWN', {
        message: 'A token id is outside the vocabulary.',
        expected: `an integer from 0 to ${tokenizer.vocabSize - 1}`,
        received: String(unknown),
        param: 'tokens',
      });
    }
    return { prompt: tokenizer.decode(tokens, { skipSpecialTokens: false }) };
  },
);
