import { ChatReading } from '../choice-output.ts';
import { answer } from '../generation.ts';
import { ChatResponse } from '../openai/chat-response.ts';
import { readChatCompletion } from '../openai/request.ts';
import { chatCompletionBody } from '../openai/schemas.ts';
import { post } from './route.ts';

export const chatCompletions = post(['/v1/chat/completions'], 'Answers a conversation.', chatCompletionBody, (call) => {
  const {
    context: { models, options },
    body,
    exchange,
  } = call;
  exchange.rename(body.request_id);
  const model = models.find(body.model);
  const request = readChatCompletion(body, options.limits);
  const reading = new ChatReading(model, request);
  return answer(
    {
      model,
      modelName: body.model || (model.names[0] ?? ''),
      idPrefix: 'chatcmpl',
      ...reading.generating,
      format: (head, [conversation]) => new ChatResponse(head, conversation, reading),
    },
    call,
  );
});
