import { MillraceError } from '../../src/base/errors.ts';
import type { CliEngine } from '../../src/cli/context.ts';
import type { GenerateInput } from '../../src/engine/engine.ts';
import type { GenerationDelta, GenerationResult, RequestStream } from '../../src/engine/request-stream.ts';
import type { SamplingParams } from '../../src/sampling/params.ts';

export interface FakeCall {
  readonly input: GenerateInput;
  readonly params: SamplingParams;
}

/** An engine that answers every request with fixed pieces of text, one token each, and keeps what it was asked. */
export function fakeEngine({
  answer = ['Once', ' upon'],
  hasChatTemplate = true,
  tokenMs = 0,
}: {
  answer?: readonly string[];
  hasChatTemplate?: boolean;
  tokenMs?: number;
} = {}): CliEngine & { calls: FakeCall[]; closed: boolean } {
  const calls: FakeCall[] = [];
  let numSteps = 0;
  const engine = {
    calls,
    closed: false,
    model: {
      servedNames: ['fake'],
      path: '/models/fake',
      architecture: 'FakeForCausalLM',
      numParameters: 1_500_000,
      vocabSize: 100,
      maxModelLen: 256,
      hasChatTemplate,
      notice: null,
    },
    tokenizer: { decode: () => '', tokenId: () => undefined, specialTokenIds: new Set<number>() },
    config: { values: { backend: 'cpu' }, reasons: ['threads = 2: the machine has 2'] },
    generate(input: GenerateInput, params: SamplingParams = {}): RequestStream {
      calls.push({ input, params });
      const tokens = 'promptTokenIds' in input ? Array.from({ length: params.maxTokens ?? 1 }, () => '.') : answer;
      return fakeStream(tokens, tokenMs, () => numSteps++);
    },
    stats: () => ({ numRunning: 0, numWaiting: 0, numSteps, lastStepHostMs: 0.25 }),
    describe: () => ({
      plan: {
        nodes: [
          { op: 'embedding', name: 'embed', inputs: [], outputs: [], weights: [0], constants: [], attrs: {} },
          { op: 'linear', name: 'layers.0.q', inputs: [], outputs: [], weights: [1, null], constants: [], attrs: { activation: 'bf16' } },
        ],
        weights: [
          { id: 0, name: 'embed', shape: [100, 64], format: 'f32', parts: [{ tensor: 'model.embed_tokens.weight', shape: [100, 64] }] },
          { id: 1, name: 'q', shape: [64, 64], format: 'q8_0', parts: [{ tensor: 'model.layers.0.self_attn.q_proj.weight', shape: [64, 64] }] },
        ],
        cacheGroups: [{ name: 'full', kind: 'full', numLayers: 1, numKvHeads: 2, headDim: 32 }],
      },
      kernels: [{ node: 'layers.0.q', op: 'linear', kernel: 'linear_q8_0_avx2' }],
      backend: { name: 'cpu', isa: 'avx2', numThreads: 2, memoryBytes: null },
      memory: { weightBytes: 2 ** 20, arenaBytes: 1024, cacheBytes: 3 * 2 ** 20 },
    }),
    close: async () => {
      engine.closed = true;
    },
  };
  return engine as unknown as CliEngine & { calls: FakeCall[]; closed: boolean };
}

function fakeStream(answer: readonly string[], tokenMs: number, step: () => void): RequestStream {
  let aborted = false;
  async function* deltas(): AsyncGenerator<GenerationDelta> {
    for (const [i, text] of answer.entries()) {
      if (tokenMs > 0) await new Promise((resolve) => setTimeout(resolve, tokenMs));
      if (aborted) throw new MillraceError('REQUEST_ABORTED', 'The request was aborted.');
      step();
      yield { index: 0, text, tokenIds: [i], logprobs: null, finishReason: i === answer.length - 1 ? 'stop' : null, stopReason: null };
    }
  }
  const result = (): GenerationResult => ({
    requestId: 'r',
    promptTokenIds: Int32Array.of(1),
    choices: [{ index: 0, text: answer.join(''), tokenIds: [1], logprobs: null, finishReason: 'stop', stopReason: null }],
    usage: { promptTokens: 1, completionTokens: answer.length, cachedTokens: 0 },
    timings: { queueMs: 0, firstTokenMs: 1, totalMs: 2 },
  });
  return {
    admitted: Promise.resolve({ requestId: 'r', promptTokenIds: Int32Array.of(1), maxTokens: 16, seed: 1 }),
    usage: result().usage,
    abort: () => {
      aborted = true;
    },
    // biome-ignore lint/suspicious/noThenProperty: a RequestStream is awaitable
    then: (resolve, reject) => Promise.resolve(result()).then(resolve, reject),
    [Symbol.asyncIterator]: deltas,
  };
}
