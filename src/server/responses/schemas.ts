/** The body of OpenAI's Responses API. Unknown fields are ignored; `null` means absent. */
import { type Static, type TSchema, Type } from 'typebox';
import { chat_template_kwargs, commonFields, furtherSamplingFields, samplingFields, structureFields } from '../openai/schemas.ts';

function optional<T extends TSchema>(schema: T, description: string) {
  return Type.Optional(Type.Union([schema, Type.Null()], { description }));
}

const { top_k, min_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias, seed } = samplingFields;
const { min_tokens, stop, stop_token_ids, include_stop_str_in_output, ignore_eos, skip_special_tokens } = samplingFields;
const { priority, deadline_ms, target_first_token_ms, request_id } = commonFields;
/** What OpenAI's own API does not have here; its meaning is that of the chat completions. */
export const fieldsOfChats = {
  min_tokens,
  stop,
  stop_token_ids,
  include_stop_str_in_output,
  ignore_eos,
  skip_special_tokens,
  structured_outputs: structureFields.structured_outputs,
  chat_template_kwargs,
  priority,
  deadline_ms,
  target_first_token_ms,
  request_id,
  top_k,
  min_p,
  repetition_penalty,
  presence_penalty,
  frequency_penalty,
  logit_bias,
  seed,
  ...furtherSamplingFields,
};

const text = Type.String();
const number = Type.Number();
const integer = Type.Integer();
const flag = Type.Boolean();
const record = Type.Record(Type.String(), Type.Unknown());

const part = Type.Object({ type: Type.String({ maxLength: 64 }), text: optional(text, 'Text.') });
const texts = Type.Union([text, Type.Array(part)]);

/** Every kind of item in one; `request.ts` tells them apart. */
const item = Type.Object({
  id: optional(text, 'Given back.'),
  type: optional(Type.String({ maxLength: 64 }), '`message` when absent.'),
  role: optional(Type.String({ maxLength: 64 }), 'Of a message.'),
  content: optional(texts, 'Of a message, or of reasoning.'),
  call_id: optional(text, 'Of a call and its output.'),
  name: optional(text, 'Of a call.'),
  arguments: optional(text, 'Of a call: JSON.'),
  output: optional(texts, 'Of the output of a call.'),
});

const tool = Type.Object({
  type: Type.String({ maxLength: 64 }),
  name: optional(Type.String({ minLength: 1, maxLength: 256 }), 'Of a function.'),
  description: optional(text, 'What it does.'),
  parameters: optional(record, 'JSON Schema of the arguments.'),
  strict: optional(flag, 'Hold the arguments to the schema.'),
});

export const responsesBody = Type.Object({
  input: Type.Union([text, Type.Array(item)], {
    description:
      'Text, or items: messages, `function_call`, `function_call_output`, `reasoning`, and `item_reference` to an item of a stored response.',
  }),
  model: optional(text, 'Served name; may be left out when one model is served.'),
  instructions: optional(text, 'A system message ahead of the input.'),
  stream: optional(flag, 'Answer with server-sent events.'),
  max_output_tokens: optional(integer, 'Tokens to generate at most; clamped to the context.'),
  temperature: optional(number, '0 is greedy.'),
  top_p: optional(number, 'Smallest set of tokens with this probability.'),
  tools: optional(
    Type.Array(tool, { maxItems: 1024 }),
    'Functions that the model may call; with `strict` of one the arguments of all are held to their schemas.',
  ),
  tool_choice: optional(Type.Unknown(), 'As of the chat completions.'),
  parallel_tool_calls: optional(flag, 'Several calls in one turn (default true); else the first is reported.'),
  text: optional(
    Type.Object({
      format: optional(Type.Object({ type: text }), '`text`, `json_object`, or `json_schema` with `name`, `schema`, `strict` beside it.'),
      verbosity: optional(text, 'Refused but for `medium`.'),
    }),
    '`format`: as `response_format` of the chat completions.',
  ),
  reasoning: optional(
    Type.Object({ effort: optional(text, 'Effort.'), max_tokens: optional(integer, 'Budget.') }),
    '`effort` as `reasoning_effort` of the chat completions; `max_tokens` as `thinking_token_budget`.',
  ),
  metadata: optional(record, 'Given back.'),
  user: optional(Type.Unknown(), 'Ignored.'),
  cache_salt: optional(Type.String({ minLength: 1, maxLength: 1024 }), 'As of the chat completions.'),
  kv_cache: optional(record, 'As of the chat completions.'),
  store: optional(flag, 'Keep the response for a while, for `GET` and `previous_response_id` (default true).'),
  previous_response_id: optional(text, 'A stored response whose conversation this one continues; its `instructions` are not taken over.'),
  conversation: optional(Type.Unknown(), 'Refused.'),
  background: optional(flag, 'Answer at once with the status `queued`; ask for the rest with `GET`. Wants `store`.'),
  prompt: optional(Type.Unknown(), 'Refused.'),
  top_logprobs: optional(integer, 'Alternatives for each token, 0 to 20; the log probabilities stand in the parts of the message.'),
  stream_options: optional(Type.Unknown(), 'Ignored: nothing is added to hide the length of events.'),
  include: optional(Type.Array(text), '`message.output_text.logprobs`; what tools of OpenAI give is refused; reasoning is never encrypted.'),
  truncation: optional(text, 'Must be `disabled`.'),
  max_tool_calls: optional(integer, 'Refused: it counts tools that OpenAI runs.'),
  context_management: optional(Type.Unknown(), 'Refused.'),
  ...fieldsOfChats,
});

/** What the prompt of a response is made of. */
export const inputTokensBody = Type.Pick(responsesBody, [
  ...(['input', 'model', 'instructions', 'previous_response_id', 'tools', 'tool_choice', 'parallel_tool_calls'] as const),
  ...(['text', 'reasoning', 'chat_template_kwargs', 'conversation', 'truncation'] as const),
]);

export type ResponsesBody = Static<typeof responsesBody>;

export type InputItem = Static<typeof item>;
