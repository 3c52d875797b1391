/** What a chat completion answered, whole or streamed, in one shape; so that answers can be compared. */
import assert from 'node:assert/strict';
import type { Json } from '../api/api.ts';

export interface OutcomeChoice {
  content: string;
  reasoning: string;
  calls: { name: string; arguments: string }[];
  finishReason: string | null;
  stopReason: string | number | null;
  tokenIds: number[];
  /** Of each token; null when none were asked for. */
  logprobs: number[] | null;
  /** Of a beam search. */
  beamScore: number | null;
}

export interface Outcome {
  readonly choices: OutcomeChoice[];
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly cachedTokens: number;
  readonly promptLogprobs: readonly unknown[] | null;
}

const emptyChoice = (): OutcomeChoice => ({
  content: '',
  reasoning: '',
  calls: [],
  finishReason: null,
  stopReason: null,
  tokenIds: [],
  logprobs: null,
  beamScore: null,
});

/** @param bodies one answer, or the chunks of a stream */
export function outcomeOf(bodies: readonly Json[]): Outcome {
  const choices: OutcomeChoice[] = [];
  let usage: Json = null;
  let promptLogprobs: unknown[] | null = null;
  for (const body of bodies) {
    assert.equal(body.error, undefined, JSON.stringify(body));
    usage = body.usage ?? usage;
    promptLogprobs = body.prompt_logprobs ?? promptLogprobs;
    for (const part of body.choices) {
      while (choices.length <= part.index) choices.push(emptyChoice());
      add(choices[part.index] as OutcomeChoice, part);
    }
  }
  return {
    choices,
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    cachedTokens: usage.prompt_tokens_details.cached_tokens,
    promptLogprobs,
  };
}

function add(choice: OutcomeChoice, part: Json): void {
  const said = part.message ?? part.delta;
  choice.content += said.content ?? '';
  choice.reasoning += said.reasoning ?? '';
  for (const [at, call] of (said.tool_calls ?? []).entries()) {
    const index = call.index ?? at;
    choice.calls[index] ??= { name: '', arguments: '' };
    const known = choice.calls[index];
    known.name += call.function.name ?? '';
    known.arguments += call.function.arguments ?? '';
  }
  choice.tokenIds.push(...(part.token_ids ?? []));
  if (part.logprobs?.content) choice.logprobs = [...(choice.logprobs ?? []), ...part.logprobs.content.map(({ logprob }: Json) => logprob)];
  choice.beamScore = part.beam_score ?? null;
  if (part.finish_reason !== null) {
    choice.finishReason = part.finish_reason;
    choice.stopReason = part.stop_reason;
  }
}

/** Without what only one of two equal answers may have. */
export const said = (choice: OutcomeChoice | undefined): Omit<OutcomeChoice, 'logprobs'> => {
  assert.ok(choice);
  const { logprobs: _, ...rest } = choice;
  return rest;
};
