/** Bodies of Ollama's API. Unknown fields are ignored; `null` means absent. */
import { type Static, type TSchema, Type } from 'typebox';

function optional<T extends TSchema>(schema: T, description: string) {
  return Type.Optional(Type.Union([schema, Type.Null()], { description }));
}

const text = Type.String();
const number = Type.Number();
const integer = Type.Integer();
const record = Type.Record(Type.String(), Type.Unknown());

const options = Type.Object({
  num_predict: optional(integer, 'Tokens to generate at most; below 0: to the end of the context.'),
  temperature: optional(number, '0 is greedy.'),
  top_p: optional(number, 'Smallest set of tokens with this probability.'),
  top_k: optional(integer, 'Most probable tokens kept.'),
  min_p: optional(number, 'Least probability, relative to the best token.'),
  repeat_penalty: optional(number, 'Above 1 discourages tokens of the prompt and the output.'),
  presence_penalty: optional(number, 'Above 0 discourages tokens of the output.'),
  frequency_penalty: optional(number, 'As `presence_penalty`, times the count.'),
  seed: optional(integer, 'Same seed, same tokens.'),
  stop: optional(Type.Union([text, Type.Array(Type.String({ maxLength: 4096 }))]), 'Ends the text.'),
  typical_p: optional(number, 'Locally typical sampling: probability kept; 1 is off.'),
  mirostat: optional(integer, '0 (off) or 2.'),
  mirostat_tau: optional(number, 'Mirostat: bits of surprise aimed at.'),
  mirostat_eta: optional(number, 'Mirostat: how fast it gets there.'),
});

const commonFields = {
  model: optional(text, 'Served name, with or without `:latest`; may be left out when one model is served.'),
  stream: optional(Type.Boolean(), 'Answer in lines of JSON (default true).'),
  format: optional(Type.Union([text, record]), '`json`, or a JSON Schema: as `response_format` of the chat completions.'),
  think: optional(Type.Union([Type.Boolean(), text]), 'For templates that know `enable_thinking`, or with a text `reasoning_effort`.'),
  options: optional(
    options,
    '`num_predict`, `temperature`, `top_p`, `top_k`, `min_p`, `repeat_penalty`, `seed`, `stop`, ... Those about memory are ignored.',
  ),
  keep_alive: optional(Type.Unknown(), 'Ignored: models stay.'),
};

const message = Type.Object({
  role: Type.String({ maxLength: 64 }),
  content: optional(text, 'Text.'),
  thinking: optional(text, 'Earlier reasoning.'),
  images: optional(Type.Array(text), 'Must be empty.'),
  tool_calls: optional(
    Type.Array(Type.Object({ function: Type.Object({ name: text, arguments: optional(record, 'Arguments.') }) })),
    'Earlier calls.',
  ),
  tool_name: optional(text, 'The tool that a tool message comes from.'),
  tool_call_id: optional(text, 'The call that a tool message answers; in order of the calls when absent.'),
});

const tool = Type.Object({
  type: Type.Literal('function'),
  function: Type.Object({
    name: Type.String({ minLength: 1, maxLength: 256 }),
    description: optional(text, 'What it does.'),
    parameters: optional(record, 'Schema.'),
  }),
});

export const ollamaChatBody = Type.Object({
  messages: optional(Type.Array(message), 'The conversation; none only asks whether the model is there.'),
  tools: optional(Type.Array(tool, { maxItems: 1024 }), 'Functions that the model may call.'),
  ...commonFields,
});

export const ollamaGenerateBody = Type.Object({
  prompt: optional(text, 'What to continue or, with a chat template, to answer; none only asks whether the model is there.'),
  system: optional(text, 'The system prompt.'),
  raw: optional(Type.Boolean(), 'Leave the chat template out.'),
  images: optional(Type.Array(text), 'Must be empty.'),
  suffix: optional(text, 'Must be empty.'),
  template: optional(text, 'Must be empty.'),
  context: optional(Type.Array(integer), 'Must be empty.'),
  ...commonFields,
});

export const ollamaShowBody = Type.Object({ model: commonFields.model, name: commonFields.model });

export type OllamaChatBody = Static<typeof ollamaChatBody>;
export type OllamaGenerateBody = Static<typeof ollamaGenerateBody>;
