import { MillraceError } from '../../base/errors.ts';
import type { ChatMessage, ChatTemplateOptions, ContentPart } from '../../chat/messages.ts';
import { thinkingVariables } from '../../chat/reasoning.ts';
import type { GenerateInput, GenerateOptions, RequestKvCache } from '../../engine/engine.ts';
import { MAX_TOP_LOGPROBS, type SamplingParams } from '../../sampling/params.ts';
import { noTools, type ToolUse } from '../choice-output.ts';
import type { ServerLimits } from '../options.ts';
import type { ChatCompletionBody, CompletionBody, SamplingBody, TokenizeBody } from './schemas.ts';
import { readStructuredOutput } from './structured-output.ts';
import { offered, readToolUse } from './tool-use.ts';
import { notSupported, refuseUnsupported } from './unsupported.ts';

/** How the answer is to be shaped; what to compute is in `inputs` and `params`. */
export interface ResponseShape {
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly continuousUsage: boolean;
  readonly returnTokenIds: boolean;
  readonly tokensAsIds: boolean;
  /** Show the reasoning of a chat. */
  readonly includeReasoning: boolean;
  /** Alternatives to show for each token of the prompt, -1: all; null: nothing of the kind. */
  readonly promptLogprobs: number | null;
  /** As it, with the log probabilities of an echo. */
  readonly echoLogprobs: number | null;
  /** Begin each text with its prompt (plain completions). */
  readonly echo: boolean;
}

/** A body, understood: one generation per input, `params.n` choices each. */
export interface GenerationRequest {
  /** What a chat may call. */
  readonly toolUse: ToolUse;
  readonly inputs: readonly GenerateInput[];
  readonly params: SamplingParams;
  readonly scheduling?: Scheduling;
  readonly shape: ResponseShape;
}

/** When a request should run, and for whom. */
export type Scheduling = Pick<GenerateOptions, 'priority' | 'deadlineMs' | 'targetFirstTokenMs' | 'cacheSalt' | 'kvCache'> & {
  readonly user: string;
};

/** OpenAI's default of the older endpoint. */
const COMPLETION_MAX_TOKENS = 16;

/** @throws REQUEST_INVALID, NOT_SUPPORTED, SAMPLING_PARAM_INVALID */
export function readChatCompletion(body: ChatCompletionBody, limits: ServerLimits): GenerationRequest {
  refuseUnsupported(body);
  const toolUse = readToolUse(body);
  const topLogprobs = body.top_logprobs ?? 0;
  if (topLogprobs > 0 && body.logprobs !== true) {
    throw new MillraceError('REQUEST_INVALID', { message: 'top_logprobs wants "logprobs": true.', param: 'top_logprobs' });
  }
  return {
    toolUse,
    inputs: [{ messages: readMessages(body.messages, limits), template: { ...readTemplateOptions(body), ...offered(toolUse, body.tools) } }],
    params: {
      ...readSampling(body, limits),
      structuredOutput: toolUse.forced === null ? readStructuredOutput(body) : undefined,
      maxTokens: body.max_completion_tokens ?? body.max_tokens ?? undefined,
      logprobs: body.logprobs ?? undefined,
      topLogprobs: body.top_logprobs ?? undefined,
    },
    scheduling: readScheduling(body),
    shape: { ...readShape(body, false), includeReasoning: body.include_reasoning ?? true },
  };
}

/** @throws REQUEST_INVALID, NOT_SUPPORTED, PROMPT_EMPTY, SAMPLING_PARAM_INVALID */
export function readCompletion(body: CompletionBody, limits: ServerLimits): GenerationRequest {
  refuseUnsupported(body);
  const logprobs = body.logprobs ?? null;
  const echoesLogprobs = body.echo === true && logprobs !== null;
  if (logprobs !== null && (logprobs < 0 || logprobs > MAX_TOP_LOGPROBS)) {
    throw new MillraceError('SAMPLING_PARAM_INVALID', {
      message: 'Sampling parameter logprobs is out of range.',
      expected: `an integer from 0 to ${MAX_TOP_LOGPROBS}`,
      received: String(logprobs),
      param: 'logprobs',
    });
  }
  const prompts = readPrompts(body.prompt);
  limit('prompt', prompts.length, limits.prompts, 'prompts');
  limit('n', prompts.length * Math.max(body.n ?? 1, body.best_of ?? 1, body.beam_width ?? 1), limits.choices, 'choices in all (prompts times n)');
  const addSpecialTokens = body.add_special_tokens ?? true;
  return {
    toolUse: noTools,
    inputs: prompts.map((prompt) => (typeof prompt === 'string' ? { prompt, addSpecialTokens } : { promptTokenIds: prompt })),
    params: {
      ...readSampling(body, limits),
      structuredOutput: readStructuredOutput(body),
      maxTokens: body.max_tokens ?? COMPLETION_MAX_TOKENS,
      ...(logprobs === null ? {} : { logprobs: true, topLogprobs: logprobs }),
      ...(echoesLogprobs ? { promptLogprobs: body.prompt_logprobs === -1 ? -1 : Math.max(logprobs, body.prompt_logprobs ?? 0) } : {}),
    },
    scheduling: readScheduling(body),
    shape: { ...readShape(body, body.echo ?? false), echoLogprobs: echoesLogprobs ? logprobs : null },
  };
}

/** A string, strings, ids or lists of ids -> a list of prompts. */
function readPrompts(prompt: CompletionBody['prompt']): readonly (string | readonly number[])[] {
  if (typeof prompt === 'string') return [prompt];
  if (prompt.length === 0) throw new MillraceError('PROMPT_EMPTY', { message: 'The prompt is an empty list.', param: 'prompt' });
  return typeof prompt[0] === 'number' ? [prompt as number[]] : (prompt as (string | number[])[]);
}

/** Copies messages without their nulls and refuses what a text model cannot read. */
export function readMessages(messages: ChatCompletionBody['messages'], limits: ServerLimits): readonly ChatMessage[] {
  if (messages.length === 0) throw new MillraceError('REQUEST_INVALID', { message: 'The list of messages is empty.', param: 'messages' });
  limit('messages', messages.length, limits.messages, 'messages');
  return messages.map((message, index) => {
    const { content } = message;
    if (message.function_call) throw notSupported(`messages[${index}].function_call`);
    if (Array.isArray(content)) for (const [at, part] of content.entries()) checkPart(part, `messages[${index}].content[${at}]`);
    const fields = Object.entries(message).filter(([name, value]) => (value !== null && name !== 'function_call') || name === 'content');
    const { reasoning, ...shown } = Object.fromEntries(fields);
    return { content: null, ...(reasoning === undefined ? {} : { reasoning_content: reasoning }), ...shown } as ChatMessage;
  });
}

function checkPart(part: { type: string; text?: string | null }, path: string): asserts part is ContentPart {
  if (part.type !== 'text') throw notSupported(`${path}.type`, `Content of type ${JSON.stringify(part.type.slice(0, 64))}`);
  if (typeof part.text !== 'string') {
    throw new MillraceError('REQUEST_INVALID', { message: `The field ${path}.text is missing.`, param: `${path}.text` });
  }
}

/** @throws REQUEST_INVALID when both ways of ending the prompt are asked for */
export function readTemplateOptions(body: ChatCompletionBody | TokenizeBody): ChatTemplateOptions {
  const continueFinalMessage = body.continue_final_message ?? false;
  if (continueFinalMessage && body.add_generation_prompt === true) {
    throw new MillraceError('REQUEST_INVALID', {
      message: 'continue_final_message and add_generation_prompt exclude each other.',
      param: 'continue_final_message',
    });
  }
  const documents = 'documents' in body ? body.documents : undefined;
  const isOff = 'thinking_token_budget' in body && (body.thinking_token_budget ?? body.thinking_budget) === 0;
  const given = 'reasoning_effort' in body && body.reasoning_effort ? effortVariables(body.reasoning_effort) : null;
  const effort = isOff ? { ...given, ...thinkingVariables(false) } : given;
  return {
    addGenerationPrompt: continueFinalMessage ? false : (body.add_generation_prompt ?? true),
    continueFinalMessage,
    ...(body.chat_template_kwargs || effort ? { kwargs: { ...effort, ...body.chat_template_kwargs } } : {}),
    ...(documents ? { documents } : {}),
  };
}

/** Templates differ in what they go by; one that knows neither leaves them alone. */
function effortVariables(effort: string): Readonly<Record<string, unknown>> {
  return effort === 'none' ? thinkingVariables(false) : { reasoning_effort: effort, ...thinkingVariables(true) };
}

function readShape(body: ChatCompletionBody | CompletionBody, echo: boolean): ResponseShape {
  const stream = body.stream ?? false;
  if (!stream && body.stream_options) {
    throw new MillraceError('REQUEST_INVALID', { message: 'stream_options wants "stream": true.', param: 'stream_options' });
  }
  return {
    stream,
    includeUsage: body.stream_options?.include_usage ?? false,
    continuousUsage: body.stream_options?.continuous_usage_stats ?? false,
    returnTokenIds: body.return_token_ids ?? false,
    tokensAsIds: body.return_tokens_as_token_ids ?? false,
    includeReasoning: true,
    promptLogprobs: body.prompt_logprobs ?? null,
    echoLogprobs: null,
    echo,
  };
}

/** The sampling fields under our names; their ranges are checked where they are defined, at admission. */
function readSampling(body: SamplingBody & { readonly stream?: boolean | null }, limits: ServerLimits): SamplingParams {
  if (body.stream === true && (body.best_of ?? 1) > (body.n ?? 1)) {
    throw new MillraceError('REQUEST_INVALID', { message: 'best_of is decided at the end, so it excludes "stream": true.', param: 'best_of' });
  }
  if (body.stream === true && body.use_beam_search === true) {
    throw new MillraceError('REQUEST_INVALID', {
      message: 'A beam search is decided at the end, so it excludes "stream": true.',
      param: 'use_beam_search',
    });
  }
  const given = <T>(value: T | null | undefined): T | undefined => value ?? undefined;
  if (body.stream === true && typeof body.prompt_logprobs === 'number') {
    throw new MillraceError('REQUEST_INVALID', { message: 'prompt_logprobs excludes "stream": true.', param: 'prompt_logprobs' });
  }
  return {
    minTokens: given(body.min_tokens),
    temperature: given(body.temperature),
    topP: given(body.top_p),
    topK: given(body.top_k),
    minP: given(body.min_p),
    repetitionPenalty: given(body.repetition_penalty),
    presencePenalty: given(body.presence_penalty),
    frequencyPenalty: given(body.frequency_penalty),
    logitBias: readLogitBias(body.logit_bias, limits),
    seed: given(body.seed),
    stop: typeof body.stop === 'string' ? [body.stop] : given(body.stop),
    stopTokenIds: given(body.stop_token_ids),
    includeStopStringInOutput: given(body.include_stop_str_in_output),
    ignoreEos: given(body.ignore_eos),
    skipSpecialTokens: given(body.skip_special_tokens),
    n: given(body.n),
    bestOf: given(body.best_of),
    useBeamSearch: given(body.use_beam_search),
    beamWidth: given(body.beam_width),
    lengthPenalty: given(body.length_penalty),
    earlyStopping: given(body.early_stopping),
    typicalP: given(body.typical_p),
    topNSigma: given(body.top_n_sigma),
    xtcProbability: given(body.xtc_probability),
    xtcThreshold: given(body.xtc_threshold),
    dryMultiplier: given(body.dry_multiplier),
    dryBase: given(body.dry_base),
    dryAllowedLength: given(body.dry_allowed_length),
    dryRange: given(body.dry_range),
    drySequenceBreakers: given(body.dry_sequence_breakers),
    mirostatMode: given(body.mirostat_mode),
    mirostatTau: given(body.mirostat_tau),
    mirostatEta: given(body.mirostat_eta),
    dynatempRange: given(body.dynatemp_range),
    dynatempExponent: given(body.dynatemp_exponent),
    allowedTokenIds: given(body.allowed_token_ids),
    badWords: given(body.bad_words),
    logprobTokenIds: given(body.logprob_token_ids),
    promptLogprobs: given(body.prompt_logprobs),
    thinkingTokenBudget: thinkingBudget(body),
    truncatePromptTokens: given(body.truncate_prompt_tokens),
  };
}

/** Without effort there is no reasoning, even where the template has opened it. */
function thinkingBudget(body: SamplingBody & { readonly reasoning_effort?: string | null }): number | undefined {
  const given = body.thinking_token_budget ?? body.thinking_budget ?? undefined;
  return given === undefined && body.reasoning_effort === 'none' ? 0 : given;
}

function readScheduling(body: ChatCompletionBody | CompletionBody): Scheduling {
  return {
    priority: body.priority ?? undefined,
    deadlineMs: body.deadline_ms ?? undefined,
    targetFirstTokenMs: body.target_first_token_ms ?? undefined,
    cacheSalt: body.cache_salt ?? undefined,
    kvCache: body.kv_cache ? readKvCache(body.kv_cache) : undefined,
    // OpenAI's clients send a text; anything else has always been ignored
    user: typeof body.user === 'string' ? body.user.slice(0, 256) : '',
  };
}

/** Fields that are there, one by one: an unknown one is the engine's to refuse. */
function readKvCache(asked: NonNullable<CompletionBody['kv_cache']>): RequestKvCache {
  const given = Object.entries(asked).filter(([, value]) => value !== null && value !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()), value]));
}

function readLogitBias(bias: SamplingBody['logit_bias'], limits: ServerLimits): Readonly<Record<number, number>> | undefined {
  if (!bias) return undefined;
  const ids = Object.keys(bias);
  limit('logit_bias', ids.length, limits.logitBiasEntries, 'entries');
  const wrong = ids.find((id) => !/^\d{1,10}$/.test(id));
  if (wrong === undefined) return bias;
  throw new MillraceError('SAMPLING_PARAM_INVALID', {
    message: 'A key of logit_bias is not a token id.',
    expected: 'a whole number in decimal digits',
    received: JSON.stringify(wrong.slice(0, 40)),
    param: 'logit_bias',
  });
}

function limit(param: string, count: number, most: number, what: string): void {
  if (count <= most) return;
  throw new MillraceError('REQUEST_INVALID', {
    message: `The field ${param} asks for too much.`,
    expected: `at most ${most} ${what}`,
    received: String(count),
    param,
  });
}
