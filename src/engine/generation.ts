/** A request in progress: its stream, its choices, its times. */
import type { Request } from '../scheduler/request.ts';
import type { IncrementalDetokenizer } from '../tokenizer/detokenizer.ts';
import type { StopStringMatcher } from '../tokenizer/stop-strings.ts';
import type { BeamOutput } from './beam-output.ts';
import type { FinishedRequest } from './engine.ts';
import type { GenerationStream } from './generation-stream.ts';
import type { HeldOutput } from './held-output.ts';
import type { LogitsProcessor, StopPredicate } from './logits-stage.ts';
import type { RequestSampling } from './request-sampling.ts';

/** One of the `n` continuations. */
export interface Choice {
  readonly request: Request;
  readonly generation: Generation;
  readonly sampling: RequestSampling;
  readonly detokenizer: IncrementalDetokenizer;
  readonly stops: StopStringMatcher;
  /** Tokens that are told apart from text. */
  readonly markerTokenIds: ReadonlySet<number>;
  /** Where it stands in its grammar and its budget of reasoning; null without either. */
  readonly held: HeldOutput | null;
  readonly logitsProcessors: readonly LogitsProcessor[];
  readonly stopWhen: StopPredicate | null;
  /** What `stopWhen` is shown; kept for it alone. */
  readonly written: { readonly tokenIds: number[]; text: string };
  numTokens: number;
  lastTokenMs: number;
}

export class Generation {
  readonly stream: GenerationStream;
  readonly startMs: number;
  readonly choices: Choice[] = [];
  /** In place of choices, where beams are searched. */
  beams: BeamOutput | null = null;
  numOpenChoices = 0;
  numTokens = 0;
  scheduledMs: number | null = null;
  firstTokenMs: number | null = null;
  #gaps = new Float64Array(16);
  #numGaps = 0;

  constructor(stream: GenerationStream, startMs: number) {
    this.stream = stream;
    this.startMs = startMs;
  }

  addGap(ms: number): void {
    if (this.#numGaps === this.#gaps.length) {
      const longer = new Float64Array(this.#gaps.length * 2);
      longer.set(this.#gaps);
      this.#gaps = longer;
    }
    this.#gaps[this.#numGaps++] = ms;
  }

  summary(finishReason: FinishedRequest['finishReason'], nowMs: number): FinishedRequest {
    return {
      requestId: this.stream.requestId,
      finishReason,
      promptTokens: this.stream.usage.promptTokens,
      cachedTokens: this.stream.usage.cachedTokens,
      generationTokens: this.numTokens,
      queueMs: (this.scheduledMs ?? nowMs) - this.startMs,
      firstTokenMs: this.firstTokenMs === null ? null : this.firstTokenMs - this.startMs,
      totalMs: nowMs - this.startMs,
      interTokenMs: this.#gaps.slice(0, this.#numGaps),
    };
  }
}
