/**
 * The request bodies, each written once: validation (Ajv), TypeScript types and the tables of `docs/api.md` come from here.
 * Unknown fields are ignored; `null` means absent, as OpenAI's clients send it. Ranges of sampling values are `sampling/params.ts`'s.
 */
import { type Static, type TSchema, Type } from 'typebox';

function optional<T extends TSchema>(schema: T, description: string) {
  return Type.Optional(Type.Union([schema, Type.Null()], { description }));
}

const text = Type.String();
const flag = Type.Boolean();
const number = Type.Number();
const integer = Type.Integer();
const tokenIds = Type.Array(Type.Integer({ minimum: 0 }));
const stopString = Type.String({ maxLength: 4096 });
const record = Type.Record(Type.String(), Type.Unknown());

const contentPart = Type.Object({ type: Type.String(), text: optional(text, 'Text of a `text` part.') });

const message = Type.Object({
  role: Type.String({ maxLength: 64 }),
  content: optional(Type.Union([text, Type.Array(contentPart)]), 'Text, or a list of `text` parts.'),
  name: optional(text, 'Name of the speaker.'),
  tool_calls: optional(Type.Array(Type.Unknown()), 'Earlier calls; `arguments` as JSON.'),
  tool_call_id: optional(text, 'The call that a tool message answers.'),
  function_call: optional(Type.Unknown(), 'Refused: `tool_calls` is its newer name.'),
  reasoning_content: optional(text, 'Earlier reasoning.'),
  reasoning: optional(text, 'As `reasoning_content`.'),
});

const messages = Type.Array(message, { description: 'The conversation: `role` and `content` (text, or a list of `text` parts) each.' });

const tool = Type.Object({
  type: Type.Literal('function'),
  function: Type.Object({
    name: Type.String({ minLength: 1, maxLength: 256 }),
    description: optional(text, 'What it does.'),
    parameters: optional(record, 'JSON Schema of the arguments.'),
    strict: optional(flag, 'Hold its arguments to the schema.'),
  }),
});

const streamOptions = Type.Object({
  include_usage: optional(flag, 'A last chunk with `usage` and no choices.'),
  continuous_usage_stats: optional(flag, '`usage` on every chunk.'),
});

/** Sampling beyond what OpenAI has, in the words of vLLM and llama.cpp; see sampling.md. */
export const furtherSamplingFields = {
  typical_p: optional(number, 'Locally typical sampling: probability kept; 1 is off.'),
  top_n_sigma: optional(number, 'Keeps logits within this many standard deviations of the best; 0 is off.'),
  xtc_probability: optional(number, 'XTC: how often the likeliest tokens are dropped; 0 is off.'),
  xtc_threshold: optional(number, 'XTC: the probability that makes a token likely (default 0.1).'),
  dry_multiplier: optional(number, 'DRY: strength of the penalty on repetitions; 0 is off.'),
  dry_base: optional(number, 'DRY: what one more repeated token multiplies the penalty by (default 1.75).'),
  dry_allowed_length: optional(integer, 'DRY: repetitions below this length are free (default 2).'),
  dry_range: optional(integer, 'DRY: how many of the last tokens are looked at; 0 or -1: all.'),
  dry_sequence_breakers: optional(Type.Array(Type.String({ maxLength: 256 }), { maxItems: 1024 }), 'DRY: texts that end a repetition.'),
  mirostat_mode: optional(integer, '0 (off) or 2.'),
  mirostat_tau: optional(number, 'Mirostat: bits of surprise aimed at (default 5).'),
  mirostat_eta: optional(number, 'Mirostat: how fast it gets there (default 0.1).'),
  dynatemp_range: optional(number, 'The temperature moves this far either way with the entropy; 0 is off.'),
  dynatemp_exponent: optional(number, 'How (default 1).'),
  allowed_token_ids: optional(Type.Array(integer), 'Nothing but these tokens may come.'),
  bad_words: optional(
    Type.Array(Type.String({ maxLength: 4096 }), { maxItems: 1024 }),
    'Texts that must not come, each as at the start and as behind a space.',
  ),
  thinking_token_budget: optional(integer, 'Tokens of reasoning at most, then its end is forced; 0: none.'),
  thinking_budget: optional(integer, 'As `thinking_token_budget`.'),
  truncate_prompt_tokens: optional(integer, 'Keeps only this many of the last tokens of the prompt; -1: what fits.'),
};

/** Sampling, in the words of OpenAI and vLLM. */
export const samplingFields = {
  max_tokens: optional(integer, 'Tokens to generate at most; clamped to the context.'),
  min_tokens: optional(integer, 'No end before this many tokens.'),
  temperature: optional(number, '0 is greedy.'),
  top_p: optional(number, 'Smallest set of tokens with this probability.'),
  top_k: optional(integer, 'Most probable tokens kept; 0 or -1: all.'),
  min_p: optional(number, 'Least probability, relative to the best token.'),
  repetition_penalty: optional(number, 'Above 1 discourages tokens of the prompt and the output.'),
  presence_penalty: optional(number, 'Above 0 discourages tokens of the output.'),
  frequency_penalty: optional(number, 'As `presence_penalty`, times the count.'),
  logit_bias: optional(Type.Record(Type.String(), number), 'Token id -> added to its logit, -100 to 100.'),
  seed: optional(integer, 'Same seed, same tokens. Drawn and returned when absent.'),
  stop: optional(Type.Union([stopString, Type.Array(stopString)]), 'Ends the text before this string (or one of these).'),
  stop_token_ids: optional(Type.Array(integer, { maxItems: 1024 }), 'Token ids that end the output.'),
  include_stop_str_in_output: optional(flag, 'Keep the stop string in the text.'),
  ignore_eos: optional(flag, "Go on after the model's end token."),
  skip_special_tokens: optional(flag, 'Leave special tokens out of the text (default true).'),
  n: optional(integer, 'Independent continuations.'),
  best_of: optional(integer, 'Continuations generated, of which the `n` likeliest per token are answered; not with `stream`. Default: `n`.'),
  use_beam_search: optional(flag, 'Search for the likeliest continuations; the `n` best are answered, best first, at the end; not with `stream`.'),
  beam_width: optional(integer, 'With `use_beam_search`: hypotheses followed side by side. Default: `best_of`, or else `n`.'),
  length_penalty: optional(number, 'With `use_beam_search`: scores are divided by the length to this power (default 1).'),
  early_stopping: optional(
    Type.Union([Type.Boolean(), Type.Literal('never')]),
    'With `use_beam_search`: `true` ends it when `beam_width` hypotheses have ended, `"never"` when none can get better, `false` (default) when none looks like it.',
  ),
  logprob_token_ids: optional(Type.Array(integer, { maxItems: 1024 }), 'Tokens whose log probabilities stand behind the alternatives.'),
  prompt_logprobs: optional(
    integer,
    'Log probabilities and ranks of the tokens of the prompt, with this many alternatives, 0 to 20 (more, and -1 for all, with `--max-prompt-logprobs`); not with `stream`.',
  ),
  ...furtherSamplingFields,
};

export const commonFields = {
  model: optional(text, 'Served name; may be left out when one model is served.'),
  stream: optional(flag, 'Answer with server-sent events.'),
  stream_options: optional(streamOptions, 'With `stream`: `include_usage`, `continuous_usage_stats`.'),
  ...samplingFields,
  request_id: optional(Type.String({ maxLength: 128 }), 'Names the request in logs and answers (header `x-request-id` does too).'),
  return_token_ids: optional(flag, 'Add `token_ids` to choices, and `prompt_token_ids`.'),
  return_tokens_as_token_ids: optional(flag, 'In logprobs, write tokens as `token_id:N`.'),
  user: optional(Type.Unknown(), 'A text: whom the request counts for (policy `fair`, `--max-tenant-seqs`) where no API key is wanted.'),
  priority: optional(integer, 'Lower starts first, with `--scheduling-policy priority`; default 0.'),
  deadline_ms: optional(number, 'Milliseconds after which the request is ended with an error (503), wherever it stands.'),
  cache_salt: optional(
    Type.String({ minLength: 1, maxLength: 1024 }),
    'Only requests with an equal one share prefixes in the KV cache, so that nobody can tell from the time of an answer what others have asked.',
  ),
  kv_cache: optional(
    Type.Object({
      sinks: optional(integer, 'With `window`: first tokens that stay, in whole blocks; default 4.'),
      window: optional(integer, 'Tokens that each one sees before it. The output may then be longer than the context.'),
      compress_prompt: optional(integer, 'Keys that stay of a longer prompt, for each KV head those that its last tokens attend to most.'),
      observation_window: optional(integer, 'With `compress_prompt`: those last tokens, which stay too; 1 to 256, default 32.'),
      kernel: optional(integer, 'With `compress_prompt`: neighbours over which attention is pooled, odd; default 7.'),
    }),
    'Lossy: the request does not keep all of its keys (docs/kv-cache.md). Either `window` or `compress_prompt`; shares no prefixes.',
  ),
  target_first_token_ms: optional(number, 'Milliseconds by which the first token is wanted; `--scheduling-policy deadline` goes by it.'),
};

/** What the whole output is held to. */
export const structureFields = {
  response_format: optional(
    Type.Object({
      type: Type.String(),
      json_schema: optional(Type.Unknown(), 'With `json_schema`: `name`, `schema`, `strict`.'),
      structures: optional(Type.Unknown(), 'With `structural_tag`: `begin`, `schema` and `end` of each.'),
      triggers: optional(Type.Unknown(), 'With `structural_tag` and `structures`: texts that open one.'),
      format: optional(Type.Unknown(), "With `structural_tag`: xgrammar's form."),
    }),
    '`{"type": "text"}`, `{"type": "json_object"}` `{"type": "json_schema", "json_schema": {"name", "schema"}}` or `{"type": "structural_tag", ...}`.',
  ),
  structured_outputs: optional(
    Type.Object({
      json: optional(Type.Unknown(), 'A JSON Schema.'),
      json_object: optional(flag, 'Any JSON object.'),
      regex: optional(text, 'A pattern for the whole output.'),
      choice: optional(Type.Array(text, { maxItems: 10_000 }), 'One of these texts.'),
      grammar: optional(text, 'A grammar in GBNF.'),
      structural_tag: optional(Type.Unknown(), 'Free text with parts held to schemas: an object or its text.'),
      disable_any_whitespace: optional(flag, 'JSON without any white space.'),
      disable_fallback: optional(flag, 'Always so here.'),
    }),
    'Exactly one of `json`, `json_object`, `regex`, `choice`, `grammar`, `structural_tag`; see structured-output.md.',
  ),
};

export const chat_template_kwargs = optional(record, 'Extra variables for the chat template.');

export const chatCompletionBody = Type.Object({
  messages,
  ...commonFields,
  ...structureFields,
  max_completion_tokens: optional(integer, 'As `max_tokens`, and stronger. Default: the rest of the context.'),
  logprobs: optional(flag, 'Report the log probability of each token.'),
  top_logprobs: optional(integer, 'Alternatives per token, 0 to 20; wants `logprobs`.'),
  add_generation_prompt: optional(flag, "Open the assistant's turn (default true)."),
  continue_final_message: optional(flag, 'Go on with the last message; excludes `add_generation_prompt`.'),
  chat_template_kwargs,
  reasoning_effort: optional(
    text,
    'For templates that know `reasoning_effort`; those that know `enable_thinking` or `thinking` are told yes, or with `none` no.',
  ),
  documents: optional(Type.Array(Type.Unknown()), 'Documents for templates that take them.'),
  tools: optional(
    Type.Array(tool, { maxItems: 1024 }),
    'Functions that the model may call. With `strict` of one the arguments of all are held to their schemas.',
  ),
  tool_choice: optional(
    Type.Unknown(),
    '`none` (tools are not shown to the model), `auto`, `required`, or `{"type": "function", "function": {"name"}}`.',
  ),
  parallel_tool_calls: optional(flag, 'Several calls in one turn (default true); else the first is reported.'),
  include_reasoning: optional(flag, 'Answer with `reasoning` (default true).'),
});

export const completionBody = Type.Object({
  prompt: Type.Union([text, Type.Array(text), tokenIds, Type.Array(tokenIds)], {
    description: 'Text, token ids, or a list of either.',
  }),
  ...commonFields,
  ...structureFields,
  logprobs: optional(integer, 'Alternatives per token, 0 to 20; the sampled token is always reported.'),
  echo: optional(flag, 'Begin the text with the prompt.'),
  add_special_tokens: optional(flag, 'Begin the prompt as the tokenizer does, with BOS and kin (default true).'),
  suffix: optional(text, 'Must be empty.'),
});

export const tokenizeBody = Type.Object({
  model: commonFields.model,
  prompt: optional(text, 'Text to encode; this or `messages`.'),
  messages: optional(messages, 'Conversation to render and encode; this or `prompt`.'),
  add_special_tokens: optional(flag, 'With `prompt`: add BOS and kin (default true).'),
  add_generation_prompt: optional(flag, "With `messages`: open the assistant's turn (default true)."),
  continue_final_message: optional(flag, 'With `messages`: leave the last one open.'),
  chat_template_kwargs: optional(record, 'With `messages`: extra variables for the template.'),
  return_token_strs: optional(flag, 'Add `token_strs`, the spelling of each token.'),
});

export const detokenizeBody = Type.Object({
  model: commonFields.model,
  tokens: Type.Array(Type.Integer(), { description: 'Token ids.' }),
});

export type ChatCompletionBody = Static<typeof chatCompletionBody>;
export type CompletionBody = Static<typeof completionBody>;
export type TokenizeBody = Static<typeof tokenizeBody>;
export type DetokenizeBody = Static<typeof detokenizeBody>;
/** The sampling fields that chat and plain completions share. */
export type SamplingBody = Pick<CompletionBody, keyof typeof samplingFields & keyof CompletionBody>;
