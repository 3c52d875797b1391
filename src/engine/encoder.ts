/**
 * Encoders (BERT, XLM-RoBERTa, ModernBERT): texts in, hidden states or one vector a text out. There is no scheduler: a call is cut into steps of
 * whole texts, and steps of calls at the same time take turns.
 */
import type { Backend, Cache, ForwardBatch, Program } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import { readMachine } from '../base/machine.ts';
import { fetchModel } from '../hub/fetch-model.ts';
import { activationFor } from '../models/activation.ts';
import { fusePlan } from '../plan/passes/fuse.ts';
import type { Plan } from '../plan/plan.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { checkWeights } from '../weights/check-weights.ts';
import { checkOptions, type LoadOptions } from './config.ts';
import { type EngineDescription, formatOf, type LoadHooks, openBackend } from './load.ts';
import { type OpenedEncoder, openEncoder } from './open-model.ts';
import { type PoolingRules, pool } from './pooling.ts';

const BLOCK_SIZE = 16;
/** Tokens of a step, where texts may be longer than that: as many as the longest text. */
const TOKENS_PER_STEP = 512;
/** Texts of a step: each begins a block of its own. */
const TEXTS_PER_STEP = 64;

/** A text, or its token ids with the special ones that the model wants. */
export type EncoderInput = string | readonly number[] | Int32Array;

export interface EmbedOptions extends Partial<PoolingRules> {}

/** What is known of a loaded encoder. */
export interface EncoderInfo {
  readonly path: string;
  readonly architecture: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Most tokens of a text, special ones included. */
  readonly maxTokens: number;
  /** How the checkpoint says that a text becomes one vector (`1_Pooling/config.json`, `pooling_type` of GGUF); the mean where it says nothing. */
  readonly pooling: PoolingRules;
}

interface Parts {
  readonly info: EncoderInfo;
  readonly backend: Backend;
  readonly program: Program;
  readonly cache: Cache;
  /** null where the model has none: then texts must come as ids. */
  readonly tokenizer: Tokenizer | null;
  readonly maxTokensPerStep: number;
}

export class Encoder {
  readonly info: EncoderInfo;
  readonly #parts: Parts;
  #closed = false;

  private constructor(parts: Parts) {
    this.info = parts.info;
    this.#parts = parts;
  }

  /**
   * Loads a folder, a GGUF file or a hub name. Of the options of engines those of backend, threads, types and `maxModelLen` count.
   * @throws MODEL_ARCHITECTURE_UNKNOWN for what is no encoder, and the codes of files, configuration and backends; nothing stays open then
   */
  static async load(given: LoadOptions, hooks: LoadHooks = {}): Promise<Encoder> {
    const options = checkOptions(given);
    if (options.model === null) throw new MillraceError('CONFIG_INVALID', { message: 'Option model is missing.', expected: 'a path or a hub name' });
    const { path } = await fetchModel(options.model, { ...hooks, weights: true });
    const closers: (() => unknown)[] = [];
    try {
      const opened = openEncoder(path);
      const { model, source, architecture } = opened;
      closers.push(() => source.close());
      const { backend } = await openBackend(options, hooks.machine ?? readMachine(), hooks);
      closers.push(() => backend.close());
      const plan = fusePlan(encoderPlan(opened, options));
      checkWeights(plan, source);
      const tokenizer = await opened.loadTokenizer();
      closers.push(() => tokenizer?.close());
      const { maxPositions, vocabSize, hiddenSize } = model.features;
      const maxTokens = typeof options.maxModelLen === 'number' ? Math.min(options.maxModelLen, maxPositions) : maxPositions;
      const maxTokensPerStep = Math.max(maxTokens, TOKENS_PER_STEP);
      const onProgress = (done: number, total: number) => hooks.onProgress?.('weights', done, total);
      const program = await backend.compile(plan, source, { maxTokens: maxTokensPerStep, maxLogitRows: 1, onProgress });
      closers.push(() => program.close());
      const numBlocks = Math.ceil(maxTokensPerStep / BLOCK_SIZE) + TEXTS_PER_STEP;
      const groups = plan.cacheGroups.map((group) => ({ ...group, numBlocks }));
      const cache = await backend.createCache({ groups, blockSize: BLOCK_SIZE, dtype: 'f32' });
      source.close();
      const info = { path, architecture, vocabSize, hiddenSize, maxTokens, pooling: opened.pooling };
      return new Encoder({ info, backend, program, cache, tokenizer, maxTokensPerStep });
    } catch (thrown) {
      for (const close of closers.reverse()) await close();
      throw thrown;
    }
  }

  /**
   * The last hidden states of each text, `[tokens, hiddenSize]`, special tokens included. `types`: token types of each text, 0 by default.
   * @throws PROMPT_TOO_LONG for a text of more than `info.maxTokens`, REQUEST_INVALID for ids out of range
   */
  async encode(inputs: readonly EncoderInput[], types?: readonly (readonly number[])[]): Promise<Float32Array[]> {
    const texts = await Promise.all(inputs.map((input, i) => this.#idsOf(input, i)));
    const results: Float32Array[] = [];
    for (let begin = 0; begin < texts.length; ) {
      let end = begin;
      let numTokens = 0;
      while (end < texts.length && end - begin < TEXTS_PER_STEP && numTokens + texts[end].length <= this.#parts.maxTokensPerStep) {
        numTokens += texts[end++].length;
      }
      results.push(...(await this.#step(texts.slice(begin, end), types?.slice(begin, end))));
      begin = end;
    }
    return results;
  }

  /** One vector a text, `[hiddenSize]`, pooled as the checkpoint says unless `options` do. @throws as `encode` */
  async embed(inputs: readonly EncoderInput[], options: EmbedOptions = {}): Promise<Float32Array[]> {
    const rules = { ...this.info.pooling, ...options };
    const hidden = await this.encode(inputs);
    return hidden.map((states) => pool(states, this.info.hiddenSize, rules));
  }

  /** Its plan, kernels and memory. */
  describe(): EngineDescription {
    const { program, cache, backend } = this.#parts;
    const memory = { weightBytes: program.weightBytes, arenaBytes: program.arenaBytes, cacheBytes: cache.sizeBytes };
    return { plan: program.plan, kernels: program.kernels, backend: backend.info, memory };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#parts.program.close();
    this.#parts.cache.close();
    await this.#parts.backend.close();
    await this.#parts.tokenizer?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #idsOf(input: EncoderInput, index: number): Promise<Int32Array> {
    const { tokenizer, info } = this.#parts;
    if (typeof input === 'string' && tokenizer === null) {
      throw new MillraceError('TOKENIZER_INVALID', {
        message: `${info.path} has no tokenizer that is read.`,
        expected: 'token ids in place of texts',
      });
    }
    const ids =
      typeof input === 'string' && tokenizer !== null
        ? await tokenizer.encodeAsync(input, { addSpecialTokens: true, parseSpecial: false })
        : Int32Array.from(input as readonly number[]);
    if (ids.length > info.maxTokens || ids.length === 0) {
      throw new MillraceError('PROMPT_TOO_LONG', {
        message: `Text ${index} has ${ids.length} tokens.`,
        expected: `1 to ${info.maxTokens}`,
        received: String(ids.length),
        param: `inputs[${index}]`,
      });
    }
    const wrong = ids.find((id) => id < 0 || id >= info.vocabSize);
    if (wrong === undefined) return ids;
    throw new MillraceError('REQUEST_INVALID', {
      message: `Text ${index} has a token id that the model lacks.`,
      expected: `ids below ${info.vocabSize}`,
      received: String(wrong),
      param: `inputs[${index}]`,
    });
  }

  async #step(texts: readonly Int32Array[], types: readonly (readonly number[])[] | undefined): Promise<Float32Array[]> {
    const { program, cache, backend, info } = this.#parts;
    if (this.#closed) throw new MillraceError('ENGINE_CLOSED', 'The encoder is closed.');
    const batch = encoderBatch(texts, types, program.plan.numPositionAxes);
    const { outputs } = await backend.execute({ entries: [{ program, cache, batch }], sampling: null, readOutputs: ['hidden'] });
    let at = 0;
    return texts.map((ids) => {
      const states = outputs.hidden.slice(at, at + ids.length * info.hiddenSize);
      at += states.length;
      return states;
    });
  }
}

/** Whole texts, each in blocks of its own, whose tokens see all of their text (S4). Positions: place in the text, then the token type. */
export function encoderBatch(texts: readonly Int32Array[], types: readonly (readonly number[])[] | undefined, numPositionAxes: number): ForwardBatch {
  const numTokens = texts.reduce((sum, ids) => sum + ids.length, 0);
  const maxBlocks = Math.max(...texts.map((ids) => Math.ceil(ids.length / BLOCK_SIZE)));
  const batch = {
    numTokens,
    numRows: texts.length,
    numLogitRows: 0,
    tokenIds: new Int32Array(numTokens),
    positions: new Int32Array(numTokens * numPositionAxes),
    rowStart: new Int32Array(texts.length + 1),
    cacheIndex: new Int32Array(numTokens),
    visibleEnd: new Int32Array(numTokens),
    blockTables: new Int32Array(texts.length * maxBlocks).fill(-1),
    maxBlocks,
    slotMapping: new Int32Array(numTokens),
    logitTokens: new Int32Array(0),
    copies: new Int32Array(0),
    numCopies: 0,
  };
  let token = 0;
  let block = 0;
  texts.forEach((ids, row) => {
    const numBlocks = Math.ceil(ids.length / BLOCK_SIZE);
    for (let i = 0; i < numBlocks; i++) batch.blockTables[row * maxBlocks + i] = block + i;
    ids.forEach((id, i) => {
      batch.tokenIds[token] = id;
      batch.positions[token] = i;
      if (numPositionAxes > 1) batch.positions[numTokens + token] = types?.[row]?.[i] ?? 0;
      batch.cacheIndex[token] = i;
      batch.visibleEnd[token] = ids.length;
      batch.slotMapping[token] = block * BLOCK_SIZE + i;
      token++;
    });
    block += numBlocks;
    batch.rowStart[row + 1] = token;
  });
  return batch;
}

/** The plan in the formats that the checkpoint holds. */
export function encoderPlan({ model, source }: OpenedEncoder, { dtype, activation }: ReturnType<typeof checkOptions>): Plan {
  return model.build({
    formatOf: (tensor) => formatOf(tensor, source),
    activationFor: (format, width) => activationFor(format, width, dtype ?? 'auto', activation ?? 'auto'),
  });
}
