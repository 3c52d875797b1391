import { anthropic } from '../anthropic/dialect.ts';
import { chatOfMessages } from '../anthropic/request.ts';
import { MessageResponse } from '../anthropic/response.ts';
import { messagesBody } from '../anthropic/schemas.ts';
import { ChatReading } from '../choice-output.ts';
import { answer } from '../generation.ts';
import { readChatCompletion } from '../openai/request.ts';
import { inDialect, post } from './route.ts';

export const messages = inDialect(
  anthropic,
  post(['/v1/messages'], "Answers a conversation in Anthropic's shape.", messagesBody, (call) => {
    const {
      context: { models, options },
      body,
    } = call;
    const model = models.find(body.model);
    const request = readChatCompletion(chatOfMessages(body), options.limits);
    const reading = new ChatReading(model, request);
    return answer(
      {
        model,
        modelName: body.model || (model.names[0] ?? ''),
        idPrefix: 'msg',
        dialect: anthropic,
        ...reading.generating,
        format: (head, [conversation]) => new MessageResponse(head, conversation, reading),
      },
      call,
    );
  }),
);
