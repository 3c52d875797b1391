import { version } from '../../base/version.ts';
import { ollama } from '../ollama/dialect.ts';
import { loadedEntry, modelDescription, modelEntry } from '../ollama/model-card.ts';
import { findModel } from '../ollama/request.ts';
import { ollamaShowBody } from '../ollama/schemas.ts';
import { get, inDialect, post } from './route.ts';

export const ollamaTags = inDialect(
  ollama,
  get(['/api/tags'], "Lists the served models in Ollama's shape.", ({ context: { models } }) => ({
    models: models.served.flatMap((model) => model.names.map((name) => modelEntry(model, name))),
  })),
);

export const ollamaPs = inDialect(
  ollama,
  get(['/api/ps'], "Lists the models in memory, which are all that are served, in Ollama's shape.", ({ context: { models } }) => ({
    models: models.served.flatMap((model) => model.names.map((name) => loadedEntry(model, name))),
  })),
);

export const ollamaShow = inDialect(
  ollama,
  post(['/api/show'], "Describes one model in Ollama's shape.", ollamaShowBody, ({ context: { models }, body }) =>
    modelDescription(findModel(models, body.model ?? body.name)),
  ),
);

export const ollamaVersion = inDialect(
  ollama,
  get(['/api/version'], "Version of the server in Ollama's shape.", () => ({ version }), { isOpen: true }),
);
