/** What a model is and how it would run here, before anything large is read: of a model on the hub, its headers are enough. */

import { basename } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { readMachine } from '../base/machine.ts';
import { fetchModel, hubIdOf } from '../hub/fetch-model.ts';
import { openRemoteModel, type RemoteModel } from '../hub/remote-model.ts';
import { bytesPerBlock } from '../kv/layout.ts';
import { fusePlan } from '../plan/passes/fuse.ts';
import type { Plan } from '../plan/plan.ts';
import { PROMPT_LOGIT_ROWS } from '../scheduler/scheduled-batch.ts';
import { checkWeights } from '../weights/check-weights.ts';
import type { LargeFiles } from '../weights/model-files.ts';
import { MissingBytes, RangedFile } from '../weights/ranged-file.ts';
import type { WeightSource } from '../weights/weight-source.ts';
import { type CheckedOptions, checkOptions, type LoadOptions } from './config.ts';
import { Encoder, type EncoderInfo, encoderPlan } from './encoder.ts';
import type { ModelInfo } from './engine.ts';
import { buildPlan, type LoadHooks, openBackend, planModel } from './load.ts';
import type { EngineDescription, LoadedEngine } from './loaded-engine.ts';
import { isEncoder, type OpenedModel, openEncoder, openModel } from './open-model.ts';
import { type LoadFacts, type ResolvedConfig, resolveConfig } from './resolve.ts';

/** As much of an engine as can be said without loading it. */
export interface ModelDescription {
  readonly model: ModelInfo;
  readonly config: LoadedEngine['config'];
  /** Sizes are worked out, not measured. */
  describe(): EngineDescription;
}

/** Describes an encoder, which no engine loads; null for anything else, and for what is not on this disk. @throws as `Encoder.load` does */
export async function describeEncoder(given: LoadOptions, hooks: LoadHooks = {}): Promise<ModelDescription | null> {
  const { model } = checkOptions(given);
  if (model === null || !isEncoder(model)) return null;
  await using encoder = await Encoder.load(given, hooks);
  return encoderDescription(encoder.info, encoder.describe(), checkOptions(given));
}

function encoderDescription(
  { path, architecture, vocabSize, maxTokens, pooling }: EncoderInfo,
  description: EngineDescription,
  values: CheckedOptions,
): ModelDescription {
  const numParameters = description.plan.weights.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
  const info = { servedNames: [basename(path)], path, architecture, numParameters, vocabSize, maxModelLen: maxTokens, hasChatTemplate: false };
  const reasons = [`an encoder: it gives embeddings (${pooling.pooling}${pooling.normalize ? ', normalised' : ''}) and generates no text`];
  return { model: { ...info, notice: null }, config: { values, reasons }, describe: () => description };
}

/** Files whose headers are fetched at once. */
const PARALLEL = 8;

/**
 * Describes a model on the hub without its weights: configuration and tokenizer come into the cache, of the weights only what the readers of headers
 * ask for. A path, or a name whose files are in the cache already, gives null: load it instead.
 * @throws as `loadEngine` does
 */
export async function describeRemote(given: LoadOptions, hooks: LoadHooks = {}): Promise<ModelDescription | null> {
  const options = checkOptions(given);
  const id = options.model === null || options.loadFormat === 'dummy' ? null : hubIdOf(options.model);
  const remote = id === null ? null : await openRemoteModel(id, hooks);
  // in the cache already; of what the loader of engines takes it says nothing
  if (remote === null) return id === null ? null : describeEncoder({ ...given, model: (await fetchModel(options.model ?? '', hooks)).path }, hooks);
  const closers: (() => unknown)[] = [];
  try {
    const files = remoteFiles(remote, hooks);
    await files.fetchHeaders();
    if (await files.read((large) => isEncoder(remote.path, large))) return await describeRemoteEncoder(remote, files, options, hooks);
    const opened = await files.read((large) => openByHeaders(remote, options, large));
    const { plan, source, config, backend, shownConfig, info } = await planModel(opened, options, hooks, closers, resolveForAnyMemory);
    const { kernels, arenaBytes } = await backend.describe(plan, {
      maxTokens: config.maxNumBatchedTokens,
      maxLogitRows: config.maxNumSeqs + PROMPT_LOGIT_ROWS,
    });
    const cacheBytes = plan.cacheGroups.reduce(
      (sum, group, g) => sum + config.numBlocks[g] * bytesPerBlock(group, config.blockSize, config.kvDtype),
      0,
    );
    const description = { plan, kernels, backend: backend.info, memory: { weightBytes: storedWeightBytes(plan, source), arenaBytes, cacheBytes } };
    return { model: { ...info, path: remote.address }, config: shownConfig, describe: () => description };
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

/** Of which several weights may take parts of one. */
function storedWeightBytes(plan: Plan, source: WeightSource): number {
  const tensors = new Set(plan.weights.flatMap(({ parts }) => parts.map(({ tensor }) => tensor)));
  return [...tensors].reduce((sum, tensor) => sum + (source.find(tensor)?.sizeBytes ?? 0), 0);
}

async function describeRemoteEncoder(remote: RemoteModel, files: RemoteFiles, options: CheckedOptions, hooks: LoadHooks): Promise<ModelDescription> {
  const { backend } = await openBackend(options, hooks.machine ?? readMachine(), hooks);
  try {
    const { opened, plan } = await files.read((large) => {
      const opened = openEncoder(remote.path, large);
      return { opened, plan: fusePlan(encoderPlan(opened, options)) };
    });
    checkWeights(plan, opened.source);
    const { vocabSize, hiddenSize, maxPositions } = opened.model.features;
    const { kernels, arenaBytes } = await backend.describe(plan, { maxTokens: maxPositions, maxLogitRows: 1 });
    const memory = { weightBytes: storedWeightBytes(plan, opened.source), arenaBytes, cacheBytes: 0 };
    const { architecture, pooling } = opened;
    const info = { path: remote.address, architecture, vocabSize, hiddenSize, maxTokens: maxPositions, pooling };
    const description = encoderDescription(info, { plan, kernels, backend: backend.info, memory }, options);
    return { ...description, model: { ...description.model, servedNames: [remote.servedName] } };
  } finally {
    await backend.close();
  }
}

/** The large files of a remote model, as much of them as was read. */
interface RemoteFiles {
  fetchHeaders(): Promise<void>;
  /** Calls `open` again and again, each time with the bytes that were missing the last time. */
  read<T>(open: (large: LargeFiles) => T): Promise<T>;
}

function remoteFiles(remote: RemoteModel, hooks: LoadHooks): RemoteFiles {
  const files = new Map(remote.weights.map(({ name, path, sizeBytes }) => [name, { path, file: new RangedFile(name, sizeBytes) }]));
  const fetch = async (name: string, wanted: { offset: number; length: number }) => {
    const held = files.get(name);
    if (held === undefined) throw new MillraceError('INTERNAL', `There is no remote file ${name}.`);
    const { first, length } = held.file.ask(wanted);
    held.file.store(first, await remote.readRange(held.path, first, length, hooks.signal));
  };
  const large = {
    names: [...files.keys()],
    open: (path: string) => {
      const file = files.get(path) ?? files.get(path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1));
      if (file === undefined) throw new MillraceError('MODEL_NOT_FOUND', { message: `${path} is not one of the files of the model.` });
      return file.file;
    },
  };
  return {
    async fetchHeaders() {
      const names = [...files.keys()];
      let done = 0;
      const work = async () => {
        for (let name = names.shift(); name !== undefined; name = names.shift()) {
          await fetch(name, { offset: 0, length: 8 });
          hooks.onProgress?.('headers', ++done, files.size);
        }
      };
      await Promise.all(Array.from({ length: PARALLEL }, work));
    },
    async read(open) {
      for (;;) {
        try {
          return open(large);
        } catch (thrown) {
          if (!(thrown instanceof MissingBytes)) throw thrown;
          await fetch(thrown.path, thrown);
        }
      }
    },
  };
}

function openByHeaders(remote: RemoteModel, options: CheckedOptions, large: LargeFiles): OpenedModel {
  const opened = { ...openModel(remote.path, false, large), name: remote.servedName };
  // how a quantised checkpoint is held may hang on small tensors
  const plan = buildPlan(opened.model, opened.source, options, opened.announcedDtype);
  for (const { tensor } of plan.weights.flatMap(({ parts }) => parts)) find(opened, tensor);
  return opened;
}

/** Asks for a tensor; what is wrong with it is said with all the others, later. */
function find({ source }: OpenedModel, tensor: string): void {
  try {
    source?.find(tensor);
  } catch (thrown) {
    if (thrown instanceof MissingBytes) throw thrown;
  }
}

/** What would not fit this machine is described all the same, and a line says that it does not fit. */
function resolveForAnyMemory(options: Parameters<typeof resolveConfig>[0], facts: LoadFacts): ResolvedConfig {
  try {
    return resolveConfig(options, facts);
  } catch (thrown) {
    if (!(thrown instanceof MillraceError) || thrown.code !== 'MEMORY_INSUFFICIENT') throw thrown;
    const machine = { ...facts.machine, totalMemoryBytes: Number.MAX_SAFE_INTEGER, availableMemoryBytes: Number.MAX_SAFE_INTEGER };
    const resolved = resolveConfig(options, { ...facts, machine, backend: { ...facts.backend, memoryBytes: null } });
    return { ...resolved, reasons: [`it does not fit this machine: ${thrown.message}`, ...resolved.reasons] };
  }
}
