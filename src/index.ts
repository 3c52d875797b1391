/** The public surface of Millrace. */
export { type ErrorCode, type ErrorDetails, errorTable, MillraceError } from './base/errors.ts';
export { version } from './base/version.ts';
export type { ChatMessage, ChatTemplateOptions, ContentPart } from './chat/messages.ts';
export type { OutputEvent } from './chat/output-events.ts';
export type { LoadOptions } from './engine/config.ts';
export { type EmbedOptions, Encoder, type EncoderInfo, type EncoderInput } from './engine/encoder.ts';
export type { Engine, EngineStats, FinishedRequest, GenerateInput, GenerateOptions, ModelInfo, SizeCounts } from './engine/engine.ts';
export { type ChatOptions, LLM, type Prompt } from './engine/llm.ts';
export { type EngineDescription, type LoadedEngine, type LoadHooks, loadEngine } from './engine/load.ts';
export type { LogitsProcessor, StopPredicate } from './engine/logits-stage.ts';
export type { DeepPartial, ObjectOptions, ObjectSchema, ObjectStream, StandardSchema, ValueOf } from './engine/object.ts';
export type {
  Admission,
  BeamScore,
  FinishReason,
  GenerationChoice,
  GenerationDelta,
  GenerationResult,
  RequestStream,
  RequestTimings,
  TokenLogprob,
  Usage,
} from './engine/request-stream.ts';
export type { RunnableTool, ToolAnswer, ToolChatOptions } from './engine/tool-loop.ts';
export type { SamplingParams, StructuredOutput } from './sampling/params.ts';
export type { Tokenizer } from './tokenizer/tokenizer.ts';
