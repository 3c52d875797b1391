import { answer } from '../generation.ts';
import { CompletionResponse, promptText } from '../openai/completion-response.ts';
import { readCompletion } from '../openai/request.ts';
import { completionBody } from '../openai/schemas.ts';
import { post } from './route.ts';

export const completions = post(['/v1/completions'], 'Continues one or many prompts.', completionBody, (call) => {
  const {
    context: { models, options },
    body,
    exchange,
  } = call;
  exchange.rename(body.request_id);
  const model = models.find(body.model);
  const request = readCompletion(body, options.limits);
  return answer(
    {
      model,
      modelName: body.model || (model.names[0] ?? ''),
      request,
      idPrefix: 'cmpl',
      format: (head, sources) => {
        const echoText = (index: number, ids: Int32Array) => (request.shape.echo ? promptText(request.inputs[index], ids, head) : '');
        const withText = sources.map((source, index) => ({ ...source, echoText: echoText(index, source.promptTokenIds) }));
        return new CompletionResponse(head, withText, request.params.skipSpecialTokens ?? true);
      },
    },
    call,
  );
});
