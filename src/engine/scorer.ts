/**
 * A model that reads one sequence and says the logits of its places: for perplexity and divergence. Same files, plan, backend and cache as an engine, but
 * no scheduler; by the reproducibility contract the logits are those that the engine samples from.
 */
import type { Backend, Cache, CacheSpec, ForwardBatch, Program } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import { fetchModel } from '../hub/fetch-model.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type CheckedOptions, checkOptions, type LoadOptions } from './config.ts';
import { type LoadHooks, type PlannedModel, planModel } from './load.ts';
import { type OpenedModel, openModel } from './open-model.ts';
import { type LoadFacts, resolveConfig } from './resolve.ts';

/** Logits of a step are f32 rows of the whole vocabulary. */
const LOGITS_BYTES = 64 * 2 ** 20;
/** Tokens of a step, where logits and caller allow as many. */
const TOKENS_PER_STEP = { reference: 64, native: 256 };

/** What is known of a loaded scorer. */
export interface ScorerInfo {
  readonly path: string;
  readonly name: string;
  /** Width of the logits. */
  readonly vocabSize: number;
  /** Most tokens of a sequence. */
  readonly context: number;
  /** Most tokens of one `feed`. */
  readonly maxTokensPerStep: number;
  readonly backend: string;
  readonly kvCacheDtype: string;
  /** Formats that its matrices are held in, and what activations round to before they meet them. */
  readonly weightFormats: readonly string[];
  readonly activations: readonly string[];
}

interface Parts {
  readonly info: ScorerInfo;
  readonly backend: Backend;
  readonly program: Program;
  readonly cache: Cache;
  readonly tokenizer: Tokenizer;
}

export class Scorer {
  readonly info: ScorerInfo;
  readonly tokenizer: Tokenizer;
  readonly #parts: Parts;
  #length = 0;
  #closed = false;

  private constructor(parts: Parts) {
    this.info = parts.info;
    this.tokenizer = parts.tokenizer;
    this.#parts = parts;
  }

  /**
   * Loads a folder, a GGUF file or a hub name. Of the options of engines those of files, backend, number types and memory count; `contextFor` says from the
   * longest context of the model how many tokens a sequence will have at most.
   * @throws as `loadEngine`; nothing stays open then
   */
  static async load(given: LoadOptions, contextFor: (maxPositions: number) => number, hooks: LoadHooks = {}): Promise<Scorer> {
    const options = checkOptions(given);
    if (options.model === null) throw new MillraceError('CONFIG_INVALID', { message: 'Option model is missing.', expected: 'a path or a hub name' });
    const useDummyWeights = options.loadFormat === 'dummy';
    const { path } = await fetchModel(options.model, { ...hooks, weights: !useDummyWeights });
    const opened = openModel(path, useDummyWeights);
    const closers: (() => unknown)[] = [() => opened.close()];
    try {
      const scorer = await Scorer.#compose(opened, options, contextFor(opened.model.features.maxPositions), hooks, closers);
      opened.close();
      return scorer;
    } catch (thrown) {
      for (const close of closers.reverse()) await close();
      throw thrown;
    }
  }

  static async #compose(
    opened: OpenedModel,
    options: CheckedOptions,
    context: number,
    hooks: LoadHooks,
    closers: (() => unknown)[],
  ): Promise<Scorer> {
    let maxTokens = 0;
    const resolve = (asked: CheckedOptions, facts: LoadFacts) => {
      maxTokens = tokensPerStep(asked, facts, context);
      // every token of a step may be asked for logits
      const arenaBytes = () => facts.model.arenaBytes({ maxTokens, maxLogitRows: maxTokens });
      // windows slide over blocks that all stay
      const groups = facts.model.groups.map(({ window: _, ...group }) => (group.kind === 'window' ? { ...group, kind: 'full' as const } : group));
      // room for two where there is room, since a cache has two blocks at least; one sequence is what must fit
      const limits = { maxNumSeqs: 2, maxNumBatchedTokens: maxTokens, maxModelLen: context };
      return resolveConfig({ ...asked, ...limits }, { ...facts, model: { ...facts.model, groups, arenaBytes } });
    };
    const planned = await planModel(opened, { ...options, maxModelLen: context }, hooks, closers, resolve);
    const { plan, source, backend, config, tokenizer } = planned;
    const onProgress = (done: number, total: number) => hooks.onProgress?.('weights', done, total);
    const program = await backend.compile(plan, source, { maxTokens, maxLogitRows: maxTokens, onProgress });
    closers.push(() => program.close());
    const numBlocks = Math.ceil(context / config.blockSize);
    const groups = plan.cacheGroups.map((group) => ({ ...group, numBlocks }));
    const cache = await backend.createCache({ groups, blockSize: config.blockSize, dtype: config.kvDtype });
    return new Scorer({ info: infoOf(planned, context, maxTokens), backend, program, cache, tokenizer });
  }

  /** Forgets the sequence. */
  begin(): void {
    this.#length = 0;
  }

  /**
   * Appends `ids` to the sequence. @returns the logits after each of them from place `firstLogit` of `ids` on, `[ids.length - firstLogit, vocabSize]`
   * @throws PROMPT_TOO_LONG beyond `info.context` tokens or `info.maxTokensPerStep` at once, PROMPT_TOKEN_UNKNOWN, ENGINE_CLOSED
   */
  async feed(ids: Int32Array, firstLogit: number): Promise<Float32Array> {
    const { backend, program, cache, info } = this.#parts;
    if (this.#closed) throw new MillraceError('ENGINE_CLOSED', 'The scorer is closed.');
    if (ids.length > info.maxTokensPerStep || this.#length + ids.length > info.context) {
      throw new MillraceError('PROMPT_TOO_LONG', {
        message: 'The sequence is longer than the scorer was loaded for.',
        expected: `at most ${info.maxTokensPerStep} tokens at once, ${info.context} in all`,
        received: `${ids.length}, ${this.#length + ids.length}`,
      });
    }
    const unknown = ids.find((id) => id < 0 || id >= info.vocabSize);
    if (unknown !== undefined) {
      throw new MillraceError('PROMPT_TOKEN_UNKNOWN', {
        message: 'The tokenizer gives an id that the model lacks.',
        expected: `ids below ${info.vocabSize}`,
        received: String(unknown),
      });
    }
    const batch = soloBatch(cache.spec, ids, this.#length, firstLogit, program.plan.numPositionAxes);
    const readOutputs = batch.numLogitRows > 0 ? ['logits'] : [];
    const { outputs } = await backend.execute({ entries: [{ program, cache, batch }], sampling: null, readOutputs });
    this.#length += ids.length;
    return batch.numLogitRows > 0 ? outputs.logits : new Float32Array(0);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#parts.program.close();
    this.#parts.cache.close();
    await this.#parts.backend.close();
    await this.tokenizer.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function tokensPerStep({ maxNumBatchedTokens }: CheckedOptions, { backend, model }: LoadFacts, context: number): number {
  const asked =
    typeof maxNumBatchedTokens === 'number' ? maxNumBatchedTokens : TOKENS_PER_STEP[backend.name === 'reference' ? 'reference' : 'native'];
  return Math.min(context, asked, Math.max(8, Math.floor(LOGITS_BYTES / (4 * model.vocabSize))));
}

function infoOf({ plan, config, backend, info }: PlannedModel, context: number, maxTokensPerStep: number): ScorerInfo {
  const matrices = plan.weights.filter(({ shape }) => shape.length > 1);
  return {
    path: info.path,
    name: info.servedNames[0],
    vocabSize: plan.values[plan.outputs.logits].width,
    context,
    maxTokensPerStep,
    backend: `${backend.info.name} (${backend.info.isa})`,
    kvCacheDtype: config.kvDtype,
    weightFormats: [...new Set(matrices.map(({ format }) => format))].sort(),
    activations: [...new Set(plan.nodes.flatMap(({ attrs }) => ('activation' in attrs ? [String(attrs.activation)] : [])))].sort(),
  };
}

/** One row whose blocks lie in order: `ids` come behind `first` tokens that are in the cache; logits of those from `firstLogit` on. */
export function soloBatch(
  { groups, blockSize }: CacheSpec,
  ids: Int32Array,
  first: number,
  firstLogit: number,
  numPositionAxes: number,
): ForwardBatch {
  const numTokens = ids.length;
  const maxBlocks = groups.reduce((most, group) => Math.max(most, group.numBlocks), 1);
  const places = Int32Array.from(ids, (_, i) => first + i);
  const positions = new Int32Array(numPositionAxes * numTokens);
  for (let axis = 0; axis < numPositionAxes; axis++) positions.set(places, axis * numTokens);
  const blockTables = new Int32Array(groups.length * maxBlocks).fill(-1);
  const slotMapping = new Int32Array(groups.length * numTokens);
  groups.forEach((group, g) => {
    // blocks that the window has left behind are named -1, as the engine does
    const oldest = group.kind === 'window' ? Math.max(0, first + 1 - (group.window ?? 0)) : 0;
    for (let block = Math.floor(oldest / blockSize); block * blockSize < first + numTokens; block++) blockTables[g * maxBlocks + block] = block;
    slotMapping.set(places, g * numTokens);
  });
  return {
    numTokens,
    numRows: 1,
    numLogitRows: Math.max(0, numTokens - firstLogit),
    tokenIds: ids,
    positions,
    rowStart: Int32Array.of(0, numTokens),
    cacheIndex: places,
    visibleEnd: places.map((place) => place + 1),
    blockTables,
    maxBlocks,
    slotMapping,
    logitTokens: Int32Array.from({ length: Math.max(0, numTokens - firstLogit) }, (_, i) => firstLogit + i),
    copies: new Int32Array(0),
    numCopies: 0,
  };
}
