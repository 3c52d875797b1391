/** Bodies of Anthropic's Messages API. Unknown fields are ignored; `null` means absent. */
import { type Static, type TSchema, Type } from 'typebox';

function optional<T extends TSchema>(schema: T, description: string) {
  return Type.Optional(Type.Union([schema, Type.Null()], { description }));
}

const text = Type.String();
const number = Type.Number();
const record = Type.Record(Type.String(), Type.Unknown());

/** Every kind of block in one; `request.ts` tells them apart. */
const block = Type.Object({
  type: Type.String({ maxLength: 64 }),
  text: optional(text, 'Of `text`.'),
  thinking: optional(text, 'Of `thinking`.'),
  id: optional(text, 'Of `tool_use`.'),
  name: optional(text, 'Of `tool_use`.'),
  input: optional(record, 'Of `tool_use`.'),
  tool_use_id: optional(text, 'Of `tool_result`.'),
  content: optional(Type.Union([text, Type.Array(Type.Object({ type: text, text: optional(text, 'Text.') }))]), 'Of `tool_result`.'),
  is_error: optional(Type.Boolean(), 'Of `tool_result`.'),
});

const message = Type.Object({
  role: Type.Union([Type.Literal('user'), Type.Literal('assistant')]),
  content: Type.Union([text, Type.Array(block)]),
});

const tool = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 256 }),
  description: optional(text, 'What it does.'),
  input_schema: optional(record, 'JSON Schema of the input.'),
  type: optional(text, 'Absent or `custom`.'),
});

const promptFields = {
  messages: Type.Array(message, {
    description: 'The conversation: `user` and `assistant` in turn; blocks `text`, `thinking`, `tool_use`, `tool_result`.',
  }),
  model: optional(text, 'Served name; may be left out when one model is served.'),
  system: optional(Type.Union([text, Type.Array(Type.Object({ type: text, text }))]), 'The system prompt.'),
  tools: optional(Type.Array(tool, { maxItems: 1024 }), 'Tools that the model may use; those that Anthropic runs are refused.'),
  tool_choice: optional(
    Type.Object({ type: text, name: optional(text, 'Of `tool`.'), disable_parallel_tool_use: optional(Type.Boolean(), 'One call a turn.') }),
    '`auto`, `any`, `tool` with its `name`, or `none`; `disable_parallel_tool_use`.',
  ),
  thinking: optional(
    Type.Object({ type: text, budget_tokens: optional(Type.Integer(), 'Tokens of thinking at most.') }),
    '`enabled` with `budget_tokens`, `adaptive` or `disabled` (no thinking).',
  ),
};

export const messagesBody = Type.Object({
  ...promptFields,
  max_tokens: optional(Type.Integer(), 'Tokens to generate at most; clamped to the context.'),
  stop_sequences: optional(Type.Array(Type.String({ maxLength: 4096 })), 'Ends the text before one of these.'),
  stream: optional(Type.Boolean(), 'Answer with server-sent events.'),
  temperature: optional(number, '0 is greedy.'),
  top_p: optional(number, 'Smallest set of tokens with this probability.'),
  top_k: optional(Type.Integer(), 'Most probable tokens kept.'),
  metadata: optional(Type.Object({ user_id: optional(text, 'Who asks.') }), 'Ignored, `user_id` aside.'),
});

export const countTokensBody = Type.Object(promptFields);

export type MessagesBody = Static<typeof messagesBody>;
export type PromptBody = Static<typeof countTokensBody>;
