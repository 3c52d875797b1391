import { ChatReading } from '../choice-output.ts';
import { answer } from '../generation.ts';
import { ollama } from '../ollama/dialect.ts';
import { chatOfOllama, findModel } from '../ollama/request.ts';
import { loaded, OllamaResponse } from '../ollama/response.ts';
import { ollamaChatBody } from '../ollama/schemas.ts';
import { readChatCompletion } from '../openai/request.ts';
import { inDialect, post } from './route.ts';

export const ollamaChat = inDialect(
  ollama,
  post(['/api/chat'], "Answers a conversation in Ollama's shape.", ollamaChatBody, (call) => {
    const {
      context: { models, options },
      body,
    } = call;
    const model = findModel(models, body.model);
    const modelName = body.model || (model.names[0] ?? '');
    if (!body.messages || body.messages.length === 0) return loaded(modelName, 'message');
    const request = readChatCompletion(chatOfOllama(body), options.limits);
    const reading = new ChatReading(model, request);
    return answer(
      {
        model,
        modelName,
        idPrefix: 'ollama',
        dialect: ollama,
        ...reading.generating,
        format: (head, [conversation]) => new OllamaResponse(head, conversation, reading, 'message'),
      },
      call,
    );
  }),
);
