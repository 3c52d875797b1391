import { answer } from '../generation.ts';
import { ChatResponse } from '../openai/chat-response.ts';
import { readChatCompletion } from '../openai/request.ts';
import { chatCompletionBody } from '../openai/schemas.ts';
import { post } from './route.ts';

export const chatCompletions = post(
  ['/v1/chat/completions'],
  'Answers a conversation.',
  chatCompletionBody,
  ({ context: { models, options }, body, exchange, reply }) => {
    exchange.rename(body.request_id);
    const model = models.find(body.model);
    return answer(
      {
        model,
        modelName: body.model || (model.names[0] ?? ''),
        request: readChatCompletion(body, options.limits),
        idPrefix: 'chatcmpl',
        format: (head, [conversation]) => new ChatResponse(head, conversation),
      },
      exchange,
      reply,
      options,
    );
  },
);
