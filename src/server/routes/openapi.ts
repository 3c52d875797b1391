import { openApiDocument } from '../openapi.ts';
import { get, type Route } from './route.ts';

/** @param routes those that it describes */
export function openApi(routes: readonly Route[]): Route {
  const document = openApiDocument(routes);
  return get(['/openapi.json'], 'These endpoints as an OpenAPI document.', () => document, { isOpen: true });
}
