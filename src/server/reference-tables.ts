/** Tables of `docs/api.md` and `docs/metrics.md`, rendered from the code that they describe. The documents are checked against them. */
import { messagesBody } from './anthropic/schemas.ts';
import { ServerMetrics } from './metrics.ts';
import { ModelTable } from './model-table.ts';
import { ollamaChatBody, ollamaGenerateBody } from './ollama/schemas.ts';
import { describeSchema, type SchemaShape } from './openai/describe-schema.ts';
import { chatCompletionBody, completionBody, detokenizeBody, tokenizeBody } from './openai/schemas.ts';
import { unsupportedFieldNames } from './openai/unsupported.ts';
import { defaultLimits } from './options.ts';
import { responsesBody } from './responses/schemas.ts';
import { routes } from './routes/index.ts';

interface DescribedSchema extends SchemaShape {
  readonly description?: string;
}

/** Lines of each table by its name, heading included. */
export function referenceTables(): Readonly<Record<string, readonly string[]>> {
  return {
    endpoints: endpointRows(),
    'chat-completion-fields': fieldRows(chatCompletionBody),
    'completion-fields': fieldRows(completionBody),
    'responses-fields': fieldRows(responsesBody),
    'messages-fields': fieldRows(messagesBody),
    'ollama-chat-fields': fieldRows(ollamaChatBody),
    'ollama-generate-fields': fieldRows(ollamaGenerateBody),
    'tokenize-fields': fieldRows(tokenizeBody),
    'detokenize-fields': fieldRows(detokenizeBody),
    'unsupported-fields': [unsupportedFieldNames.map((name) => `\`${name}\``).join(', ')],
    limits: limitRows(),
    metrics: metricRows(),
  };
}

function endpointRows(): string[] {
  const rows = routes.map(({ method, paths, isOpen, summary }) => {
    const shown = paths.map((path) => `\`${path.replace('*', '{model}').replace(/:(\w+)/g, '{$1}')}\``).join(', ');
    return `| ${method} | ${shown} | ${isOpen ? 'no' : 'yes'} | ${summary} |`;
  });
  return ['| method | path | wants the API key | |', '|---|---|---|---|', ...rows];
}

function fieldRows(schema: { readonly properties: object; readonly required?: readonly string[] | undefined }): string[] {
  const rows = Object.entries(schema.properties as Record<string, DescribedSchema>).map(([name, field]) => {
    const isRequired = schema.required?.includes(name) ?? false;
    return `| \`${name}\` | ${describeSchema(field)}${isRequired ? ', required' : ''} | ${field.description ?? ''} |`;
  });
  return ['| field | takes | meaning |', '|---|---|---|', ...rows];
}

const limitMeanings: Readonly<Record<keyof typeof defaultLimits, string>> = {
  bodyBytes: 'Bytes of a request body; beyond it 413.',
  prompts: 'Prompts in one `/v1/completions` request.',
  choices: 'Prompts times `n`.',
  messages: 'Messages in one conversation.',
  logitBiasEntries: 'Entries of `logit_bias`.',
  detokenizeIds: 'Ids in one `/detokenize` request.',
  responses: 'Stored responses (`--max-responses`); the oldest go first.',
  responseBytes: 'JSON of all stored responses (`--max-response-bytes`).',
  keptStreams: 'Streams that may be taken up, responses in the background among them; beyond it 429.',
  keptStreamBytes: 'Frames that one such stream holds; the oldest go first.',
};

function limitRows(): string[] {
  const rows = Object.entries(defaultLimits).map(([name, most]) => {
    const meaning = limitMeanings[name as keyof typeof limitMeanings];
    return `| \`${name}\` | ${String(most)} | ${meaning} |`;
  });
  return ['| limit | default | |', '|---|---|---|', ...rows];
}

function metricRows(): string[] {
  const metrics = new ServerMetrics(new ModelTable(new Map()));
  try {
    const rows = metrics.describe().map(({ name, type, labels, help }) => {
      const shown = labels.map((label) => `\`${label}\``).join(', ');
      return `| \`${name}\` | ${type} | ${shown} | ${help} |`;
    });
    return ['| metric | type | labels | meaning |', '|---|---|---|---|', ...rows];
  } finally {
    metrics.close();
  }
}
