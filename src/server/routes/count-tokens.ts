import { anthropic } from '../anthropic/dialect.ts';
import { chatOfPrompt } from '../anthropic/request.ts';
import { countTokensBody } from '../anthropic/schemas.ts';
import { countPromptTokens } from '../prompt-tokens.ts';
import { inDialect, post } from './route.ts';

export const countTokens = inDialect(
  anthropic,
  post(
    ['/v1/messages/count_tokens'],
    "Counts the prompt tokens of a conversation in Anthropic's shape.",
    countTokensBody,
    async ({ context: { models, options }, body }) => ({
      input_tokens: await countPromptTokens(models.find(body.model), chatOfPrompt(body), options.limits),
    }),
  ),
);
