import { ChatReading } from '../choice-output.ts';
import { answer } from '../generation.ts';
import { ollama } from '../ollama/dialect.ts';
import { chatOfGenerate, completionOfGenerate, findModel } from '../ollama/request.ts';
import { loaded, OllamaResponse } from '../ollama/response.ts';
import { ollamaGenerateBody } from '../ollama/schemas.ts';
import { readChatCompletion, readCompletion } from '../openai/request.ts';
import { inDialect, post } from './route.ts';

export const ollamaGenerate = inDialect(
  ollama,
  post(['/api/generate'], "Answers or continues a prompt in Ollama's shape.", ollamaGenerateBody, (call) => {
    const {
      context: { models, options },
      body,
    } = call;
    const model = findModel(models, body.model);
    const modelName = body.model || (model.names[0] ?? '');
    if (!body.prompt) return loaded(modelName, 'response');
    const isPlain = body.raw === true || !model.engine.model.hasChatTemplate;
    const request = isPlain ? readCompletion(completionOfGenerate(body), options.limits) : readChatCompletion(chatOfGenerate(body), options.limits);
    const reading = new ChatReading(model, request, !isPlain);
    return answer(
      {
        model,
        modelName,
        idPrefix: 'ollama',
        dialect: ollama,
        ...reading.generating,
        format: (head, [prompt]) => new OllamaResponse(head, prompt, reading, 'response'),
      },
      call,
    );
  }),
);
