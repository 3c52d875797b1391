import type { GenerateInput } from '../../engine/engine.ts';
import type { GenerationDelta, GenerationResult, RequestTimings, TokenLogprob, Usage } from '../../engine/request-stream.ts';
import { type CompletionLogprobs, CompletionLogprobsWriter, promptLogprobs } from './logprobs.ts';
import {
  chunkUsage,
  endOfChoice,
  isSilent,
  type ResponseFormat,
  type ResponseHead,
  type ResponseSource,
  slowestTimings,
  sumUsage,
  timingsBody,
  usageBody,
} from './response.ts';

/** A prompt of `/v1/completions` with the text that it begins with when echoed. */
export interface CompletionSource extends ResponseSource {
  readonly echoText: string;
}

/** The prompt as text: as it was given, or decoded. */
export function promptText(input: GenerateInput, promptTokenIds: Int32Array, { tokenizer }: Pick<ResponseHead, 'tokenizer'>): string {
  return 'prompt' in input ? input.prompt : tokenizer.decode(promptTokenIds);
}

/** `text_completion`, whole and in chunks. */
export class CompletionResponse implements ResponseFormat {
  readonly #head: ResponseHead;
  readonly #sources: readonly CompletionSource[];
  readonly #skipSpecialTokens: boolean;
  readonly #bodyHead: { id: string; object: string; created: number; model: string; system_fingerprint: string };
  /** By choice index: offsets go on from chunk to chunk. Its presence also says that the choice was opened. */
  readonly #logprobs = new Map<number, CompletionLogprobsWriter>();

  constructor(head: ResponseHead, sources: readonly CompletionSource[], skipSpecialTokens: boolean) {
    this.#head = head;
    this.#sources = sources;
    this.#skipSpecialTokens = skipSpecialTokens;
    this.#bodyHead = {
      id: head.id,
      object: 'text_completion',
      created: head.created,
      model: head.model,
      system_fingerprint: head.systemFingerprint,
    };
  }

  whole(results: readonly GenerationResult[]): object {
    const { shape } = this.#head;
    const choices = results.flatMap((result, at) => {
      const source = this.#sources[at] as CompletionSource;
      return result.choices.map((choice) => ({
        text: this.#echo(source) + choice.text,
        index: source.firstIndex + choice.index,
        logprobs: this.#wholeLogprobs(source, result, choice.logprobs),
        finish_reason: choice.finishReason,
        ...(shape.promptLogprobs === null
          ? {}
          : { prompt_logprobs: promptLogprobs(result.promptLogprobs ?? [], shape.promptLogprobs, this.#head.tokenizer) }),
        ...endOfChoice(choice, source.seed),
        ...(shape.returnTokenIds ? { token_ids: choice.tokenIds, prompt_token_ids: Array.from(source.promptTokenIds) } : {}),
      }));
    });
    const usage = sumUsage(results.map((result) => result.usage));
    return { ...this.#bodyHead, choices, usage: usageBody(usage), timings: timingsBody(usage, slowestTimings(results)) };
  }

  chunks(at: number, delta: GenerationDelta, usage: Usage): readonly object[] {
    const { shape } = this.#head;
    const source = this.#sources[at] as CompletionSource;
    const index = source.firstIndex + delta.index;
    const opened = this.#logprobs.get(index);
    if (isSilent(delta, shape) && (opened !== undefined || this.#echo(source) === '')) return [];
    const echoed = opened === undefined && shape.echoLogprobs !== null && delta.logprobs !== null;
    const writer = opened ?? this.#writer(source, echoed ? '' : this.#echo(source));
    this.#logprobs.set(index, writer);
    const choice = {
      text: opened === undefined ? this.#echo(source) + delta.text : delta.text,
      index,
      logprobs: echoed
        ? this.#withPrompt(writer, source, delta.promptLogprobs ?? [], delta.logprobs ?? [])
        : this.#writeLogprobs(writer, delta.logprobs),
      finish_reason: delta.finishReason,
      ...(delta.finishReason === null ? {} : endOfChoice(delta, source.seed)),
      ...(shape.returnTokenIds ? { token_ids: delta.tokenIds } : {}),
      ...(shape.returnTokenIds && opened === undefined ? { prompt_token_ids: Array.from(source.promptTokenIds) } : {}),
    };
    return [{ ...this.#bodyHead, choices: [choice], ...chunkUsage(shape, usage) }];
  }

  closing(usage: Usage, timings: RequestTimings): readonly object[] {
    if (!this.#head.shape.includeUsage) return [];
    return [{ ...this.#bodyHead, choices: [], usage: usageBody(usage), timings: timingsBody(usage, timings) }];
  }

  #echo(source: CompletionSource): string {
    return this.#head.shape.echo ? source.echoText : '';
  }

  #writer(source: CompletionSource, startText = this.#echo(source)): CompletionLogprobsWriter {
    const { tokenizer, shape } = this.#head;
    const options = { tokensAsIds: shape.tokensAsIds, skipSpecialTokens: this.#skipSpecialTokens, startText };
    return new CompletionLogprobsWriter(tokenizer, options);
  }

  #wholeLogprobs(source: CompletionSource, result: GenerationResult, entries: readonly TokenLogprob[] | null): CompletionLogprobs | null {
    const { shape } = this.#head;
    if (entries === null || shape.echoLogprobs === null) return this.#writeLogprobs(this.#writer(source), entries);
    return this.#withPrompt(this.#writer(source, ''), source, result.promptLogprobs ?? [], entries);
  }

  /** Of an echoed prompt and what follows it. */
  #withPrompt(
    writer: CompletionLogprobsWriter,
    { promptTokenIds }: CompletionSource,
    given: readonly (TokenLogprob | null)[],
    entries: readonly TokenLogprob[],
  ): CompletionLogprobs {
    const prompt = writer.writePrompt(promptTokenIds, given, this.#head.shape.echoLogprobs ?? 0);
    const output = writer.write(entries);
    return {
      tokens: [...prompt.tokens, ...output.tokens],
      token_logprobs: [...prompt.token_logprobs, ...output.token_logprobs],
      top_logprobs: [...prompt.top_logprobs, ...output.top_logprobs],
      text_offset: [...prompt.text_offset, ...output.text_offset],
    };
  }

  #writeLogprobs(writer: CompletionLogprobsWriter, entries: readonly TokenLogprob[] | null): CompletionLogprobs | null {
    return entries === null ? null : writer.write(entries);
  }
}
