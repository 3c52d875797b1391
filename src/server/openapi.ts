import type { TSchema } from 'typebox';
import { version } from '../base/version.ts';
import type { Route } from './routes/route.ts';

/** An OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0) of these endpoints: their bodies are the schemas that requests are checked by. */
export function openApiDocument(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const [path] = route.paths;
    const shown = path.replace('*', '{model}').replace(/:(\w+)/g, '{$1}');
    paths[shown] = { ...paths[shown], [route.method.toLowerCase()]: operation(route, shown) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Millrace', version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    paths,
    components: {
      securitySchemes: { apiKey: { type: 'http', scheme: 'bearer' } },
      schemas: { Error: errorSchema },
    },
  };
}

const text = { type: 'string' };
const errorSchema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: { message: text, type: text, param: { type: ['string', 'null'] }, code: text },
    },
  },
};

function operation({ summary, body, isOpen, dialect }: Route, path: string): object {
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: 'path', required: true, schema: text }));
  const error = { description: 'Refused or failed.', content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } } };
  return {
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === null ? {} : { requestBody: { required: true, content: { 'application/json': { schema: plain(body) } } } }),
    responses: {
      200: { description: 'Answered.' },
      ...(dialect === undefined ? { default: error } : { default: { description: error.description } }),
    },
    security: isOpen ? [] : [{ apiKey: [] }],
  };
}

/** Without what only TypeBox knows. */
const plain = (schema: TSchema): object => JSON.parse(JSON.stringify(schema)) as object;
