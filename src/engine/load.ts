/**
 * The composition root: files -> family -> plan -> backend -> cache -> tokenizer -> chat template -> engine. The only place that knows all
 * the rooms. Everything is checked, and refused with figures, before the first weight is read.
 */

import type { Backend, Cache, Program } from '../backends/backend.ts';
import { backends } from '../backends/index.ts';
import type { Clock } from '../base/clock.ts';
import { MillraceError } from '../base/errors.ts';
import { type MachineFacts, readMachine } from '../base/machine.ts';
import { reasoningFormatOf, thinksOnRequest } from '../chat/reasoning.ts';
import type { ChatTemplate } from '../chat/template.ts';
import { toolCallFormatOf } from '../chat/tool-calls/index.ts';
import { fetchModel } from '../hub/fetch-model.ts';
import { activationFor } from '../models/activation.ts';
import type { Model } from '../models/index.ts';
import { withAttentionActivation } from '../plan/passes/attention-activation.ts';
import { fusePlan } from '../plan/passes/fuse.ts';
import { planMemory } from '../plan/passes/memory.ts';
import { shardPlan } from '../plan/passes/shard.ts';
import type { Plan, WeightFormat } from '../plan/plan.ts';
import { heldBits } from '../quant/formats/index.ts';
import { PROMPT_LOGIT_ROWS } from '../scheduler/scheduled-batch.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { checkWeights } from '../weights/check-weights.ts';
import { createDummySource } from '../weights/dummy-source.ts';
import { MissingBytes } from '../weights/ranged-file.ts';
import type { StoredTensor, WeightSource } from '../weights/weight-source.ts';
import { type CheckedOptions, checkOptions, type LoadOptions } from './config.ts';
import type { ModelInfo, OutputFormatNames } from './engine.ts';
import { LoadedEngine } from './loaded-engine.ts';
import type { LogitsListener } from './loop.ts';
import { type OpenedModel, openModel } from './open-model.ts';
import { kvClassOf, openTiers } from './open-tiers.ts';
import { formatToHold } from './quantize-at-load.ts';
import { type ResolvedConfig, resolveConfig, resolveThreads } from './resolve.ts';

export type { EngineDescription, LoadedEngine } from './loaded-engine.ts';

/** What a caller may watch or replace while an engine is loaded. */
export interface LoadHooks {
  /** Work done so far of a stage: `download` (bytes), `build` (sources compiled), `weights` (bytes), `record` (steps of a GPU). */
  onProgress?(stage: string, done: number, total: number): void;
  /** A line for people: why the slower backend serves, or a cached copy of a model. */
  onNotice?(line: string): void;
  readonly signal?: AbortSignal;
  /** For tests: a backend that is there already. The engine will close it. */
  readonly backend?: Backend;
  readonly machine?: MachineFacts;
  readonly clock?: Clock;
  readonly captureLogits?: LogitsListener;
}

/** @throws any code of the files, configuration and backend rooms; nothing stays open then */
export async function loadEngine(given: LoadOptions, hooks: LoadHooks = {}): Promise<LoadedEngine> {
  const options = checkOptions(given);
  if (options.model === null)
    throw new MillraceError('CONFIG_INVALID', {
      message: 'Option model is missing.',
      expected: 'a path or a hub name of a model',
      hint: '--model MODEL',
    });
  const opened = await findModel(options.model, options.loadFormat === 'dummy', hooks);
  const closers: (() => unknown)[] = [() => opened.close()];
  try {
    return await compose(opened, options, hooks, closers);
  } catch (thrown) {
    for (const close of closers.reverse()) await close();
    throw thrown;
  }
}

/** A path as it is; a hub name through the cache. */
async function findModel(model: string, useDummyWeights: boolean, hooks: LoadHooks): Promise<OpenedModel> {
  const { path, servedName } = await fetchModel(model, { ...hooks, weights: !useDummyWeights });
  hooks.signal?.throwIfAborted();
  const opened = openModel(path, useDummyWeights);
  return servedName === null ? opened : { ...opened, name: servedName };
}

/** What is known, and checked, of a model and this machine before the first weight is read. */
export interface PlannedModel {
  readonly plan: Plan;
  readonly source: WeightSource;
  readonly config: ResolvedConfig;
  readonly backend: Backend;
  /** As `LoadedEngine.config`. */
  readonly shownConfig: LoadedEngine['config'];
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | null;
  readonly info: ModelInfo;
}

/** Everything that must be closed goes into `closers`. @throws any code of files, configuration and backends */
export async function planModel(
  opened: OpenedModel,
  options: CheckedOptions,
  hooks: LoadHooks,
  closers: (() => unknown)[],
  resolve: typeof resolveConfig = resolveConfig,
): Promise<PlannedModel> {
  const machine = hooks.machine ?? readMachine();
  const { backend, reasons } = await openBackend(options, machine, hooks);
  closers.push(() => backend.close());
  const built = fusePlan(shardPlan(buildPlan(opened.model, opened.source, options, opened.announcedDtype), { worldSize: 1, rank: 0 }));
  const source = opened.source ?? createDummySource(built);
  checkWeights(built, source);
  const config = resolve(options, {
    machine,
    backend: backend.info,
    model: {
      maxPositions: opened.model.features.maxPositions,
      vocabSize: opened.model.features.vocabSize,
      groups: built.cacheGroups,
      mainFormat: mainFormat(built),
      weightBytes: weightBytes(built, backend),
      arenaBytes: (limits) => planMemory(built, limits).arenaBytes,
    },
  });
  const plan = withAttentionActivation(built, config.attentionActivation);
  // the tokenizer first: its faults are found in milliseconds, weights take longer
  const tokenizer = await opened.loadTokenizer();
  closers.push(() => tokenizer.close());
  const chatTemplate = await opened.loadChatTemplate(tokenizer, options.chatTemplate ?? undefined);
  hooks.signal?.throwIfAborted();
  const info = {
    servedNames: options.servedModelName ?? [opened.name],
    path: opened.path,
    architecture: opened.architecture,
    numParameters: numParameters(plan),
    vocabSize: opened.model.features.vocabSize,
    maxModelLen: config.maxModelLen,
    hasChatTemplate: chatTemplate !== null,
    outputFormats: outputFormatNames(chatTemplate, options),
    notice: opened.notice ?? (opened.source === null ? 'The weights are random: what it says means nothing.' : null),
  };
  return { plan, source, config, backend, shownConfig: describeConfig(options, config, backend, reasons), tokenizer, chatTemplate, info };
}

async function compose(opened: OpenedModel, options: CheckedOptions, hooks: LoadHooks, closers: (() => unknown)[]): Promise<LoadedEngine> {
  const planned = await planModel(opened, options, hooks, closers);
  const { plan, source, config, backend, tokenizer, chatTemplate } = planned;
  const { program, cache } = await prepare(backend, plan, source, config, hooks, closers);
  const kvClass = kvClassOf(plan, source, cache);
  const tiers = await openTiers(options, kvClass);
  closers.push(() => tiers?.close());
  opened.close();
  return new LoadedEngine({
    model: planned.info,
    tokenizer,
    chatTemplate,
    backend,
    program,
    cache,
    weights: source,
    tiers,
    kvClass,
    limits: config,
    config: planned.shownConfig,
    samplingDefaults: options.generationConfig === 'none' ? {} : opened.samplingDefaults,
    eosTokenIds: [...new Set([...tokenizer.eosTokenIds, ...opened.eosTokenIds])],
    ...(options.seed === null ? {} : { seed: options.seed }),
    ...(hooks.clock === undefined ? {} : { clock: hooks.clock }),
    captureLogits: hooks.captureLogits,
  });
}

/** Names of the formats that were asked for, or that the template teaches. */
function outputFormatNames(template: ChatTemplate | null, options: CheckedOptions): OutputFormatNames {
  const source = template?.source ?? '';
  const named = (asked: string, found: string | undefined) => (asked === 'auto' ? (found ?? null) : asked === 'none' ? null : asked);
  return {
    toolCalls: named(options.toolCallFormat, toolCallFormatOf(source)?.name),
    reasoning: named(options.reasoningFormat, reasoningFormatOf(source)?.name),
    thinksOnRequest: template !== null && thinksOnRequest((kwargs) => template.render([{ role: 'user', content: 'Hi' }], { kwargs })),
  };
}

async function prepare(
  backend: Backend,
  plan: Plan,
  source: WeightSource,
  config: ResolvedConfig,
  hooks: LoadHooks,
  closers: (() => unknown)[],
): Promise<{ program: Program; cache: Cache }> {
  const program = await backend.compile(plan, source, {
    maxTokens: config.maxNumBatchedTokens,
    maxLogitRows: config.maxNumSeqs + PROMPT_LOGIT_ROWS,
    onProgress: (done, total) => hooks.onProgress?.('weights', done, total),
  });
  closers.push(() => program.close());
  hooks.signal?.throwIfAborted();
  const cache = await backend.createCache({
    groups: plan.cacheGroups.map((group, g) => ({ ...group, numBlocks: config.numBlocks[g] })),
    blockSize: config.blockSize,
    dtype: config.kvDtype,
  });
  closers.push(() => cache.close());
  await backend.prepare?.(program, cache, {
    maxRows: config.maxNumSeqs,
    maxContext: config.maxModelLen,
    onProgress: (done, total) => hooks.onProgress?.('record', done, total),
  });
  return { program, cache };
}

/** The backend asked for; `auto` is the native one, or the reference with one line that says why. */
export async function openBackend(
  options: CheckedOptions,
  machine: MachineFacts,
  hooks: LoadHooks,
): Promise<{ backend: Backend; reasons: string[] }> {
  if (hooks.backend !== undefined) return { backend: hooks.backend, reasons: [] };
  const { numThreads, reason } = resolveThreads(options.threads as number | 'auto', machine);
  const reasons = reason === null ? [] : [reason];
  const backendOptions = {
    numThreads,
    ...(options.isa === 'auto' || options.isa === null ? {} : { isa: options.isa }),
    experts: options.expertWeights as 'auto' | 'packed' | 'mapped',
    pinThreads: options.pinThreads === true,
    onBuildProgress: (done: number, total: number) => hooks.onProgress?.('build', done, total),
  };
  if (options.backend !== 'auto' && options.backend !== null) return { backend: await backends[options.backend](backendOptions), reasons };
  try {
    const backend = await backends.cpu(backendOptions);
    reasons.push(`backend = cpu: native kernels for ${backend.info.isa}`);
    return { backend, reasons };
  } catch (thrown) {
    if (!(thrown instanceof MillraceError) || thrown.code !== 'NATIVE_ADDON_UNAVAILABLE') throw thrown;
    const [line] = thrown.message.split('\n');
    hooks.onNotice?.(`The slow TypeScript backend serves, because the native one is not there: ${line}`);
    reasons.push(`backend = reference: ${line}`);
    return { backend: await backends.reference(), reasons };
  }
}

/** The plan in the formats that a checkpoint holds. */
export function buildPlan(model: Model, source: WeightSource | null, options: CheckedOptions, announcedDtype: string | null): Plan {
  const dummyFormat = dummyWeightFormat(options, announcedDtype);
  return model.build({
    formatOf(tensor) {
      if (source === null) return dummyFormat;
      const stored = storedAs(tensor, source);
      return stored === undefined ? 'f32' : formatToHold(tensor, stored, options.quantize ?? 'none', model.features.names);
    },
    activationFor: (format, inputWidth, tensor) =>
      activationFor(format, inputWidth, options.dtype ?? 'auto', options.activation ?? 'auto', storedAs(tensor, source)?.activation),
    columnOrderOf: (tensor) => storedAs(tensor, source)?.columnOrder,
    ...(typeof options.maxModelLen === 'number' ? { contextLength: options.maxModelLen } : {}),
  });
}

/** Format of a tensor; f32 for one that is absent or unreadable. */
export function formatOf(tensor: string, source: WeightSource): WeightFormat {
  return storedAs(tensor, source)?.format ?? 'f32';
}

/** How the checkpoint stores a tensor; undefined for one that is absent or unreadable: `checkWeights` names all of those together. */
function storedAs(tensor: string | undefined, source: WeightSource | null): StoredTensor | undefined {
  if (tensor === undefined || source === null) return undefined;
  try {
    return source.find(tensor);
  } catch (thrown) {
    if (thrown instanceof MissingBytes) throw thrown;
    return undefined;
  }
}

function dummyWeightFormat({ weightFormat, dtype }: CheckedOptions, announcedDtype: string | null): WeightFormat {
  if (weightFormat !== 'auto' && weightFormat !== null) return weightFormat;
  const formats: Readonly<Record<string, WeightFormat>> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' };
  return formats[dtype ?? 'auto'] ?? formats[announcedDtype ?? ''] ?? 'bf16';
}

/** Format that most elements of the matrices are in. */
function mainFormat(plan: Plan): WeightFormat {
  const elements = new Map<WeightFormat, number>();
  for (const { format, shape } of plan.weights) {
    if (shape.length === 2) elements.set(format, (elements.get(format) ?? 0) + shape[0] * shape[1]);
  }
  return [...elements].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 'f32';
}

function numParameters(plan: Plan): number {
  return plan.weights.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
}

/** What the backend will hold: the reference expands everything to f32, the others keep the stored formats. */
function weightBytes(plan: Plan, backend: Backend): number {
  if (backend.info.name === 'null') return 0;
  if (backend.info.name === 'reference') return numParameters(plan) * 4;
  // by the weights, not by their tensors, of which several weights may take parts
  return plan.weights.reduce((sum, { format, shape }) => sum + (heldBits(format) / 8) * shape.reduce((product, size) => product * size, 1), 0);
}

function describeConfig(options: CheckedOptions, config: ResolvedConfig, backend: Backend, reasons: readonly string[]): LoadedEngine['config'] {
  const { reasons: sizes, ...resolved } = config;
  const values = { ...options, ...resolved, backend: backend.info.name, isa: backend.info.isa, threads: backend.info.numThreads };
  return Object.freeze({ values: Object.freeze(values), reasons: Object.freeze([...reasons, ...sizes]) });
}
