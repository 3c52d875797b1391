/** Why a request waits, for people who ask. */
import type { KvCache } from '../kv/kv-cache.ts';
import type { RetentionPolicy } from '../kv/retention.ts';
import type { Request, RequestStatus } from './request.ts';

/**
 * `new`: no step has been scheduled since it came. `behind`: those before it in the line are not running yet. `rows`, `tokens`: a step has no more
 * of them. `blocks`: its tokens do not fit the free blocks. `peak`: they do, but not what it and the running ones are expected to grow by.
 * `sibling`, `prefix`: another request is computing what it begins with. `preemption`: somebody was just preempted, so nobody starts. `tier`: it has its
 * place, and blocks of it are on their way from a tier. `grammar`: its structured output is being compiled.
 */
export type WaitReason = 'new' | 'behind' | 'rows' | 'tokens' | 'blocks' | 'peak' | 'sibling' | 'prefix' | 'preemption' | 'tier' | 'grammar';

/** One unfinished request, as administrators see it. No text, no ids of tokens. */
export interface RequestReport {
  readonly id: string;
  readonly choice: number;
  readonly status: RequestStatus;
  readonly tenant: string;
  readonly priority: number;
  /** Since it came, milliseconds. */
  readonly ageMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly computedTokens: number;
  readonly preemptions: number;
  /** Of a request that does not keep all of its keys. */
  readonly kvCache?: RetentionPolicy['kind'];
  /** Of a waiting request: why, as a code and as a sentence. */
  readonly waitsFor: WaitReason | null;
  readonly why: string | null;
}

const compilingSentence = 'Its structured output is being compiled.';

/** A request that is not in line yet. */
export function reportCompiling(known: Pick<RequestReport, 'id' | 'tenant' | 'priority' | 'promptTokens'>, ageMs: number): RequestReport {
  const none = { choice: 0, outputTokens: 0, computedTokens: 0, preemptions: 0 };
  return { ...known, ...none, status: 'waiting', ageMs, waitsFor: 'grammar', why: compilingSentence };
}

/** @param ahead waiting requests that go before it */
export function reportRequest(request: Request, ahead: number, nowMs: number, kv: KvCache): RequestReport {
  const waitsFor = request.isLoading ? 'tier' : request.status === 'waiting' ? request.waitReason : null;
  return {
    id: request.id,
    choice: request.choice,
    status: request.status,
    tenant: request.tenant,
    priority: request.priority,
    ageMs: nowMs - request.arrivalMs,
    promptTokens: request.numPromptTokens,
    outputTokens: request.numOutputTokens,
    computedTokens: request.numComputedTokens,
    preemptions: request.numPreemptions,
    ...(request.retention === null ? {} : { kvCache: request.retention.kind }),
    waitsFor,
    why: waitsFor === null ? null : sentences[waitsFor](request, ahead, kv),
  };
}

const sentences: Readonly<Record<WaitReason, (request: Request, ahead: number, kv: KvCache) => string>> = {
  new: () => 'It has just come; the next step looks at it.',
  behind: (_request, ahead) => `It is behind ${ahead} others.`,
  rows: () => 'As many requests run as may (--max-num-seqs).',
  tokens: () => 'The steps are full (--max-num-batched-tokens).',
  blocks: (request, _ahead, kv) =>
    `No blocks: its ${request.numTokens} tokens need up to ${kv.blocksFor(request.retention, request.sequence, request.numTokens + 1)}, and of ${kv.numBlocks} in all ${kv.numReferenced} are held.`,
  peak: () => 'Blocks would run out while it and the running requests grow to their expected lengths.',
  sibling: () => 'A sibling is computing the prompt that they share.',
  prefix: () => 'Another request is computing what its prompt begins with.',
  grammar: () => compilingSentence,
  preemption: () => 'A running request was just preempted for want of blocks.',
  tier: () => 'What it begins with is being loaded from the host memory or disk tier.',
};
