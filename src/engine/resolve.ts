/** What each `auto` comes to, and why: the one place where defaults meet the machine and the model. */

import type { BackendInfo, KvDtype } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import { gibibytes, type MachineFacts } from '../base/machine.ts';
import type { EvictionPolicyName } from '../kv/eviction/index.ts';
import { bytesForAllRows, bytesForOneRow, bytesPerBlock, longestSequence, numBlocksForMemory, type SizingLimits } from '../kv/layout.ts';
import { ATTENTION_SPLIT, type AttentionActivation } from '../plan/ops/attention.ts';
import type { CacheGroup, WeightFormat } from '../plan/plan.ts';
import type { PolicyName } from '../scheduler/policies/index.ts';
import { PROMPT_LOGIT_ROWS } from '../scheduler/scheduled-batch.ts';
import type { CheckedOptions } from './config.ts';

/** Share of the free memory that K and V may take when nobody says otherwise, and a bound that is ample for one machine's CPU. */
const KV_MEMORY_SHARE = 0.5;
const KV_MEMORY_BOUND = 4 * 2 ** 30;
/** Tokenizer, JavaScript heap, libraries. */
const PROCESS_BYTES = 256 * 2 ** 20;
/** On a GPU: what its libraries, recorded steps and splits of attention take; the sampler's scratch is 16 bytes an id and multiprocessor. */
const GPU_BYTES = 2 ** 30;
const GPU_SAMPLER_BYTES = 16 * 160;
/** Logits of a step are f32 rows of the whole vocabulary. */
const LOGITS_BYTES = 64 * 2 ** 20;

/** What is known of model, machine and backend before weights are loaded. */
export interface LoadFacts {
  readonly machine: MachineFacts;
  readonly backend: BackendInfo;
  readonly model: {
    readonly maxPositions: number;
    readonly vocabSize: number;
    readonly groups: readonly CacheGroup[];
    /** Format that most weight bytes are in. */
    readonly mainFormat: WeightFormat;
    /** Bytes that the backend will hold for weights. */
    readonly weightBytes: number;
    /** Bytes of activations for these limits. */
    arenaBytes(limits: { maxTokens: number; maxLogitRows: number }): number;
  };
}

export interface ResolvedConfig {
  readonly maxModelLen: number;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly maxQueue: number;
  readonly maxQueueMs: number | null;
  readonly maxTenantSeqs: number | null;
  readonly schedulingPolicy: PolicyName;
  readonly maxInFlight: number;
  readonly targetItlMs: number | null;
  readonly jumpForward: boolean;
  readonly maxPromptLogprobs: number;
  readonly blockSize: number;
  readonly kvDtype: KvDtype;
  /** What queries and weights of values round to in attention. */
  readonly attentionActivation: AttentionActivation;
  readonly enablePrefixCaching: boolean;
  readonly evictionPolicy: EvictionPolicyName;
  readonly prefixTtlSeconds: number;
  /** Blocks of each cache group. */
  readonly numBlocks: readonly number[];
  readonly kvCacheMemoryBytes: number;
  /** A line for each value that was not given. */
  readonly reasons: readonly string[];
}

/** @throws CONFIG_INVALID, MEMORY_INSUFFICIENT with the figures */
export function resolveConfig(options: CheckedOptions, facts: LoadFacts): ResolvedConfig {
  const reasons: string[] = [...facts.machine.reasons];
  const { maxNumSeqs, maxNumBatchedTokens } = stepLimits(options, facts, reasons);
  const blockSize = resolveBlockSize(options, reasons);
  const kvDtype = resolveKvDtype(options, facts, reasons);
  const attentionActivation = resolveAttention(options, facts, kvDtype, reasons);
  const wishedLen = options.maxModelLen === 'auto' ? facts.model.maxPositions : options.maxModelLen;
  if (wishedLen > facts.model.maxPositions) {
    throw new MillraceError('CONFIG_INVALID', {
      message: 'Option max-model-len is longer than the model can be asked for.',
      expected: `at most ${facts.model.maxPositions}`,
      received: String(wishedLen),
    });
  }
  const sizing: SizingLimits = { blockSize, dtype: kvDtype, maxModelLen: wishedLen, maxNumSeqs, maxNumBatchedTokens };
  const kv = sizeCache(options, facts, sizing, reasons);
  const maxModelLen = Math.min(wishedLen, kv.longest);
  if (options.maxModelLen === 'auto') {
    const why = maxModelLen < wishedLen ? `what the KV blocks hold; the model allows ${grouped(wishedLen)}` : 'as the model is trained for';
    reasons.push(`maxModelLen = ${grouped(maxModelLen)}: ${why}`);
  } else if (maxModelLen < wishedLen) throw cacheTooSmall(options.maxModelLen, kv, facts, sizing);
  const { maxQueue, maxQueueMs, maxTenantSeqs, schedulingPolicy, enablePrefixCaching } = options;
  return Object.freeze({
    maxModelLen,
    maxNumSeqs,
    maxNumBatchedTokens,
    maxQueue: Number(maxQueue),
    maxQueueMs,
    maxTenantSeqs,
    schedulingPolicy: schedulingPolicy ?? 'fcfs',
    maxInFlight: Number(options.maxInFlight ?? (facts.backend.name === 'cuda' ? 2 : 1)),
    targetItlMs: options.targetItlMs,
    jumpForward: options.jumpForward === true,
    maxPromptLogprobs: Number(options.maxPromptLogprobs),
    blockSize,
    kvDtype,
    attentionActivation,
    enablePrefixCaching: enablePrefixCaching === true,
    evictionPolicy: options.evictionPolicy ?? 'lru',
    prefixTtlSeconds: Number(options.prefixTtlSeconds),
    numBlocks: kv.numBlocks,
    kvCacheMemoryBytes: kv.bytes,
    reasons,
  });
}

/** Threads to compute with, before there is a backend. */
export function resolveThreads(threads: number | 'auto', machine: MachineFacts): { numThreads: number; reason: string | null } {
  if (threads !== 'auto') return { numThreads: threads, reason: null };
  return { numThreads: machine.numCpus, reason: `threads = ${machine.numCpus}: one a processor` };
}

function stepLimits(options: CheckedOptions, { backend, model }: LoadFacts, reasons: string[]): { maxNumSeqs: number; maxNumBatchedTokens: number } {
  let maxNumSeqs = options.maxNumSeqs as number | 'auto';
  if (maxNumSeqs === 'auto') {
    const most = backend.name === 'reference' ? 16 : 256;
    const byLogits = backend.name === 'cuda' ? most : Math.max(8, Math.floor(LOGITS_BYTES / (4 * model.vocabSize)));
    maxNumSeqs = Math.min(most, byLogits);
    const why =
      byLogits < most
        ? `logits of ${grouped(model.vocabSize)} ids within ${gibibytes(LOGITS_BYTES)}`
        : `rows that the ${backend.name} backend is meant for`;
    reasons.push(`maxNumSeqs = ${maxNumSeqs}: ${why}`);
  }
  let maxNumBatchedTokens = options.maxNumBatchedTokens as number | 'auto';
  if (maxNumBatchedTokens === 'auto') {
    const chunk = backend.name === 'reference' ? 64 : backend.name === 'cuda' ? 8192 : 256;
    maxNumBatchedTokens = Math.max(chunk, maxNumSeqs);
    reasons.push(`maxNumBatchedTokens = ${maxNumBatchedTokens}: chunks of a prompt that keep the ${backend.name} backend's steps short`);
  }
  if (maxNumBatchedTokens < maxNumSeqs && options.maxNumSeqs === 'auto') {
    maxNumSeqs = maxNumBatchedTokens;
    reasons.push(`maxNumSeqs = ${maxNumSeqs}: no more rows than tokens in a step`);
  }
  return { maxNumSeqs, maxNumBatchedTokens };
}

function resolveBlockSize(options: CheckedOptions, reasons: string[]): number {
  if (options.blockSize === 'auto') {
    reasons.push('blockSize = 32: whole blocks are read at once, and prefixes are shared to the token anyway');
    return 32;
  }
  if (ATTENTION_SPLIT % options.blockSize === 0) return options.blockSize;
  throw new MillraceError('CONFIG_INVALID', {
    message: 'Option block-size does not divide the length of an attention split.',
    expected: `a divisor of ${ATTENTION_SPLIT}`,
    received: String(options.blockSize),
  });
}

const kvDtypes = { float32: 'f32', float16: 'f16', bfloat16: 'bf16', int8: 'int8', fp8: 'fp8', int4: 'int4' } as const;

/** As wide as the weights; halves beside quantised ones. */
function kvDtypeOf(format: WeightFormat): KvDtype {
  return format === 'f32' || format === 'bf16' ? format : 'f16';
}

function resolveKvDtype(options: CheckedOptions, { model }: LoadFacts, reasons: string[]): KvDtype {
  if (options.kvCacheDtype !== 'auto') return kvDtypes[options.kvCacheDtype];
  const dtype = options.dtype === 'auto' ? kvDtypeOf(model.mainFormat) : kvDtypes[options.dtype];
  reasons.push(`kvCacheDtype = ${dtype}: ${options.dtype === 'auto' ? `the weights are ${model.mainFormat}` : `dtype is ${options.dtype}`}`);
  return dtype;
}

/**
 * Attention multiplies bf16 by bf16 where K and V hold no more than the eight bits of a bf16 and linears round what they multiply to bf16 or 8 bits as well;
 * f32 otherwise, so that nobody who asks for finer numbers gets these.
 */
function resolveAttention(options: CheckedOptions, { model, backend }: LoadFacts, kvDtype: KvDtype, reasons: string[]): AttentionActivation {
  if (backend.name === 'cuda' || model.groups.every(({ kind }) => kind === 'latent' || kind === 'state')) return 'f32'; // they have no other
  const isFine = model.mainFormat === 'f32' || model.mainFormat === 'f16' || options.activation === 'float';
  const isCoarse = options.dtype === 'bfloat16' || (options.dtype === 'auto' && !isFine);
  const activation = isCoarse && kvDtype !== 'f32' && kvDtype !== 'f16' ? 'bf16' : 'f32';
  const why =
    activation === 'bf16'
      ? 'as what linears multiply'
      : isCoarse
        ? `K and V are ${kvDtype}`
        : 'what linears multiply is not rounded to bf16 or below';
  reasons.push(`attention = ${activation}: ${why}`);
  return activation;
}

interface CacheSize {
  readonly numBlocks: readonly number[];
  readonly bytes: number;
  /** Tokens of one sequence that fit. */
  readonly longest: number;
}

function sizeCache(options: CheckedOptions, facts: LoadFacts, sizing: SizingLimits, reasons: string[]): CacheSize {
  const { groups } = facts.model;
  const free = freeForCache(options, facts, sizing);
  let budget: number;
  let why: string;
  if (options.kvCacheMemoryBytes !== 'auto') {
    budget = options.kvCacheMemoryBytes;
    why = `${gibibytes(budget)} given`;
    if (budget > free) throw insufficient(facts, sizing, budget);
  } else {
    const useful = bytesForAllRows(groups, sizing);
    const isGpu = facts.backend.name === 'cuda'; // nobody else lives there
    const share = isGpu ? 1 : KV_MEMORY_SHARE;
    budget = Math.min(useful, Math.max(0, free) * share, isGpu ? Infinity : KV_MEMORY_BOUND);
    why = `${gibibytes(Math.max(0, free))} free x ${share}`;
    if (budget === KV_MEMORY_BOUND) why = `the bound of ${gibibytes(KV_MEMORY_BOUND)}`;
    if (budget === useful) why = `${sizing.maxNumSeqs} rows of ${grouped(sizing.maxModelLen)} tokens`;
  }
  const numBlocks = numBlocksForMemory(groups, budget, sizing);
  const sizes = groups.map((group) => bytesPerBlock(group, sizing.blockSize, sizing.dtype));
  const bytes = numBlocks.reduce((sum, count, g) => sum + count * sizes[g], 0);
  const perBlock = gibibytes(sizes.reduce((sum, size) => sum + size, 0));
  reasons.push(`kvBlocks = ${numBlocks.map(grouped).join(' + ')}: ${why} / ${perBlock} a block of ${sizing.blockSize} tokens`);
  const size = { numBlocks, bytes, longest: longestSequence(groups, numBlocks, sizing) };
  if (numBlocks.some((count) => count < 2) && options.kvCacheMemoryBytes !== 'auto')
    throw blocksTooFew(budget, bytesForOneRow(groups, { ...sizing, maxModelLen: 2 * sizing.blockSize }), sizing);
  if (numBlocks.some((count) => count < 2))
    throw insufficient(facts, sizing, bytesForOneRow(groups, { ...sizing, maxModelLen: 2 * sizing.blockSize }));
  return size;
}

function freeForCache(options: CheckedOptions, { machine, backend, model }: LoadFacts, sizing: SizingLimits): number {
  const needed = model.weightBytes + arenaBytes(model, sizing);
  if (backend.name !== 'cuda') return (backend.memoryBytes ?? machine.availableMemoryBytes) - needed - PROCESS_BYTES;
  const memory = (backend.memoryBytes ?? 0) * Number(options.gpuMemoryUtilization);
  return memory - needed - GPU_BYTES - GPU_SAMPLER_BYTES * model.vocabSize;
}

function arenaBytes(model: LoadFacts['model'], { maxNumBatchedTokens, maxNumSeqs }: SizingLimits): number {
  return model.arenaBytes({ maxTokens: maxNumBatchedTokens, maxLogitRows: maxNumSeqs + PROMPT_LOGIT_ROWS });
}

function insufficient(facts: LoadFacts, sizing: SizingLimits, kvBytes: number): MillraceError {
  const { machine, model, backend } = facts;
  const onGpu = backend.name === 'cuda';
  const parts = `${gibibytes(model.weightBytes)} weights + ${gibibytes(arenaBytes(model, sizing))} activations + ${gibibytes(kvBytes)} KV + ${onGpu ? gibibytes(GPU_BYTES + GPU_SAMPLER_BYTES * model.vocabSize) : gibibytes(PROCESS_BYTES)} for ${onGpu ? 'libraries and the sampler' : 'the process'}`;
  return new MillraceError('MEMORY_INSUFFICIENT', {
    message: 'The model does not fit the memory; nothing was loaded.',
    expected: onGpu
      ? `at most ${gibibytes(backend.memoryBytes ?? 0)} (free on the GPU), of which --gpu-memory-utilization leaves a share`
      : `at most ${gibibytes(machine.availableMemoryBytes)} (free of ${gibibytes(machine.totalMemoryBytes)})`,
    received: parts,
    hint: 'Use a smaller model or format, lower --max-model-len, --max-num-seqs or --kv-cache-memory-bytes, or raise the memory limit.',
  });
}

function blocksTooFew(given: number, least: number, { blockSize }: SizingLimits): MillraceError {
  return new MillraceError('MEMORY_INSUFFICIENT', {
    message: `The memory given to the KV cache does not hold two blocks of ${blockSize} tokens; nothing was loaded.`,
    expected: `at least ${grouped(least)} bytes`,
    received: `${grouped(given)} bytes`,
    hint: 'Raise --kv-cache-memory-bytes, or leave it out.',
  });
}

function cacheTooSmall(maxModelLen: number, kv: CacheSize, facts: LoadFacts, sizing: SizingLimits): MillraceError {
  return new MillraceError('MEMORY_INSUFFICIENT', {
    message: `One request of max-model-len ${grouped(maxModelLen)} tokens does not fit the KV cache; nothing was loaded.`,
    expected: `at most ${grouped(kv.longest)} tokens, or ${gibibytes(bytesForOneRow(facts.model.groups, sizing))} of KV`,
    received: `${grouped(maxModelLen)} tokens and ${gibibytes(kv.bytes)} of KV (${gibibytes(facts.machine.availableMemoryBytes)} of memory free)`,
    hint: 'Lower --max-model-len, or raise --kv-cache-memory-bytes.',
  });
}

/** 4812 -> `4,812`, in every locale. */
function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}
