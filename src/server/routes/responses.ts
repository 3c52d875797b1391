import { ChatReading } from '../choice-output.ts';
import { answer } from '../generation.ts';
import { readChatCompletion } from '../openai/request.ts';
import { responsesDialect } from '../responses/dialect.ts';
import { chatOfResponse } from '../responses/request.ts';
import { ResponsesResponse } from '../responses/response.ts';
import { responsesBody } from '../responses/schemas.ts';
import { post } from './route.ts';

export const responses = post(
  ['/v1/responses'],
  'Answers a conversation, as items; nothing is stored.',
  responsesBody,
  ({ context: { models, options }, body, exchange, reply }) => {
    const model = models.find(body.model);
    const request = readChatCompletion(chatOfResponse(body), options.limits);
    const reading = new ChatReading(model, request);
    return answer(
      {
        model,
        modelName: body.model || (model.names[0] ?? ''),
        request,
        idPrefix: 'resp',
        dialect: responsesDialect,
        markerTokenIds: reading.markerTokenIds,
        format: (head, [conversation]) => new ResponsesResponse(head, conversation, reading, body),
      },
      exchange,
      reply,
      options,
    );
  },
);
