/** The conformance table: endpoint x field x what is shown of it. docs/conformance.md is written from it; conformance.test.ts runs it. */
import { routes } from '../../src/server/routes/index.ts';
import type { Case } from './api.ts';
import { chatCases } from './chat-fields.ts';
import { completionCases } from './completion-fields.ts';
import { fieldPaths } from './field-paths.ts';
import { countTokensCases, messagesCases } from './messages-fields.ts';
import { ollamaChatCases, ollamaGenerateCases } from './ollama-fields.ts';
import { detokenizeCases, modelCases, ollamaModelCases, oneModelCases, operationCases, streamCases, tokenizeCases } from './other-endpoints.ts';
import { cancelCases, deleteCases, inputItemCases, inputTokenCases, responsesCases, retrieveCases } from './responses-fields.ts';

/** Cases by method and path of the route. */
export const conformance: Readonly<Record<string, readonly Case[]>> = {
  'POST /v1/chat/completions': chatCases,
  'POST /v1/completions': completionCases,
  'POST /v1/responses': responsesCases,
  'GET /v1/responses/:id': retrieveCases,
  'DELETE /v1/responses/:id': deleteCases,
  'POST /v1/responses/:id/cancel': cancelCases,
  'GET /v1/responses/:id/input_items': inputItemCases,
  'POST /v1/responses/input_tokens': inputTokenCases,
  'GET /v1/streams/:id': streamCases,
  'POST /v1/messages': messagesCases,
  'POST /v1/messages/count_tokens': countTokensCases,
  'POST /api/chat': ollamaChatCases,
  'POST /api/generate': ollamaGenerateCases,
  'GET /api/tags': ollamaModelCases.tags,
  'POST /api/show': ollamaModelCases.show,
  'GET /api/ps': ollamaModelCases.ps,
  'GET /api/version': ollamaModelCases.version,
  'GET /v1/models': modelCases,
  'GET /v1/models/*': oneModelCases,
  'POST /tokenize': tokenizeCases,
  'POST /detokenize': detokenizeCases,
  'GET /health': operationCases.health,
  'GET /version': operationCases.version,
  'GET /v1/requests': operationCases.requests,
  'POST /v1/scheduling-policy': operationCases.policy,
  'GET /metrics': operationCases.metrics,
  'GET /': operationCases.page,
  'GET /openapi.json': operationCases.openapi,
};

/** Fields of bodies, and whole endpoints, that no case names; and names in cases of fields that there are not. */
export function gaps(): readonly string[] {
  const found: string[] = [];
  const known = new Set(routes.map(({ method, paths }) => `${method} ${paths[0]}`));
  for (const { method, paths, body } of routes) {
    const name = `${method} ${paths[0]}`;
    const cases = conformance[name] ?? [];
    if (cases.length === 0) found.push(`${name} has no case`);
    const fields = body === null ? [] : fieldPaths(body);
    const shown = new Set(cases.flatMap((each) => each.fields));
    for (const field of fields) if (!shown.has(field)) found.push(`${name}: ${field} has no case`);
    for (const field of shown) if (/^[a-z]\S*$/i.test(field) && !fields.includes(field)) found.push(`${name}: there is no field ${field}`);
  }
  for (const name of Object.keys(conformance)) if (!known.has(name)) found.push(`there is no endpoint ${name}`);
  return found;
}

/** Lines of the table, heading included: one a field, in the order of the endpoints. */
export function conformanceRows(): readonly string[] {
  const rows = Object.entries(conformance).flatMap(([name, cases]) => {
    const [method, path] = name.split(' ') as [string, string];
    const endpoint = `${method} \`${path.replace('*', '{model}').replace(/:(\w+)/g, '{$1}')}\``;
    return cases.flatMap(({ fields, shows }) => fields.map((field) => `| ${endpoint} | \`${field}\` | ${shows} |`));
  });
  return ['| endpoint | field | what the test shows |', '|---|---|---|', ...rows];
}
