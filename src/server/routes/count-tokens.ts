import { anthropic } from '../anthropic/dialect.ts';
import { chatOfPrompt } from '../anthropic/request.ts';
import { countTokensBody } from '../anthropic/schemas.ts';
import { ChatReading } from '../choice-output.ts';
import { readChatCompletion } from '../openai/request.ts';
import { inDialect, post } from './route.ts';

export const countTokens = inDialect(
  anthropic,
  post(
    ['/v1/messages/count_tokens'],
    "Counts the prompt tokens of a conversation in Anthropic's shape.",
    countTokensBody,
    async ({ context: { models, options }, body }) => {
      const model = models.find(body.model);
      const request = readChatCompletion(chatOfPrompt(body), options.limits);
      new ChatReading(model, request); // refuses what the call itself would refuse
      const [input] = request.inputs;
      if (input === undefined || !('messages' in input)) return { input_tokens: 0 };
      const { tokenIds } = await model.engine.renderChat(input.messages, input.template);
      return { input_tokens: tokenIds.length };
    },
  ),
);
