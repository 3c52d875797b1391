import { createHash } from 'node:crypto';
import type { ServedModel } from '../model-table.ts';

/** An entry of `/api/tags`. Sizes on disk are not known to a server; the digest names what the fingerprint names. */
export function modelEntry(model: ServedModel, name: string): object {
  return {
    name,
    model: name,
    modified_at: new Date(model.createdAt * 1000).toISOString(),
    size: 0,
    digest: createHash('sha256').update(model.systemFingerprint).digest('hex'),
    details: details(model),
  };
}

/** An entry of `/api/ps`. Models stay until the server ends, which is given as a time that does not come. */
export function loadedEntry(model: ServedModel, name: string): object {
  const { modified_at: _, ...entry } = modelEntry(model, name) as { readonly modified_at: string };
  return { ...entry, expires_at: '2318-01-01T00:00:00Z', size_vram: 0, context_length: model.engine.model.maxModelLen };
}

/** The answer of `/api/show`. */
export function modelDescription(model: ServedModel): object {
  const { architecture, numParameters, maxModelLen, vocabSize, outputFormats } = model.engine.model;
  return {
    modified_at: new Date(model.createdAt * 1000).toISOString(),
    details: details(model),
    model_info: {
      'general.architecture': architecture,
      'general.parameter_count': numParameters,
      [`${architecture}.context_length`]: maxModelLen,
      [`${architecture}.vocab_size`]: vocabSize,
    },
    capabilities: ['completion', ...(outputFormats?.toolCalls ? ['tools'] : []), ...(outputFormats?.reasoning ? ['thinking'] : [])],
  };
}

function details({ engine: { model, config } }: ServedModel): object {
  const { architecture, numParameters } = model;
  const size = numParameters >= 1e9 ? `${(numParameters / 1e9).toFixed(1)}B` : `${(numParameters / 1e6).toFixed(1)}M`;
  const weightFormat = config.values.weightFormat;
  return {
    parent_model: '',
    format: '',
    family: architecture,
    families: [architecture],
    parameter_size: size,
    quantization_level: typeof weightFormat === 'string' ? weightFormat : '',
  };
}
