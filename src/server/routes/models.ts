import type { ServedModel } from '../model-table.ts';
import { get } from './route.ts';

export const listModels = get(['/v1/models'], 'Lists the served models, one entry a name.', ({ context: { models } }) => ({
  object: 'list',
  data: models.served.flatMap((model) => model.names.map((name) => modelCard(model, name))),
}));

/** The name may hold slashes, plain or as %2F. */
export const retrieveModel = get(['/v1/models/*'], 'Describes one served model.', ({ context: { models }, request }) => {
  const { '*': name = '' } = request.params as { '*'?: string };
  return modelCard(models.find(name), name);
});

function modelCard({ engine: { model }, names, createdAt }: ServedModel, id: string): object {
  const [canonical] = names;
  return {
    id,
    object: 'model',
    created: createdAt,
    owned_by: 'millrace',
    root: canonical,
    parent: id === canonical ? null : canonical,
    max_model_len: model.maxModelLen,
    permission: [],
    architecture: model.architecture,
    num_parameters: model.numParameters,
    has_chat_template: model.hasChatTemplate,
    notice: model.notice,
  };
}
