/**
 * What requests that do not keep all of their keys lose (docs/kv-cache.md). First, perplexity on a text far longer than the model's context: all keys, a
 * window alone, a window behind sinks, by distance from the start. Then the KL divergence of the next token's distribution from that with all keys, while a
 * text goes on behind a compressed prompt, at several budgets, beside keeping the last keys only.
 *
 *     npx tsx bench/kv-retention.ts --model MODEL --text story.txt [--context 512] [--tokens 4096] [--prompt 384] [--next 64] [--pieces 8]
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createNativeBackend } from '../src/backends/native/native-backend.ts';
import type { RequestKvCache } from '../src/engine/engine.ts';
import type { LoadedEngine } from '../src/engine/loaded-engine.ts';
import { fusePlan } from '../src/plan/passes/fuse.ts';
import { tokenizerFromFolder } from '../src/tokenizer/load-tokenizer.ts';
import { loadModel, SoloRequest } from '../test/drive-backend.ts';
import { engineOver } from '../test/fixtures/engine.ts';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    text: { type: 'string' },
    context: { type: 'string', default: '512' },
    tokens: { type: 'string', default: '4096' },
    prompt: { type: 'string', default: '384' },
    next: { type: 'string', default: '64' },
    pieces: { type: 'string', default: '8' },
  },
});
if (values.model === undefined || values.text === undefined) throw new Error('--model and --text are needed');
const [context, numTokens, promptTokens, nextTokens, numPieces] = [values.context, values.tokens, values.prompt, values.next, values.pieces].map(
  Number,
);

const tokenizer = await tokenizerFromFolder(values.model);
const ids = [...tokenizer.encode(readFileSync(values.text, 'utf8'), { addSpecialTokens: false, parseSpecial: false })];
const { source, plan } = loadModel(values.model);
const built = fusePlan(plan());
const vocabSize = built.values[built.outputs.logits].width;

function logSoftmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(sum));
}

const mean = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;

/** Surprise at each token of the text but the first, in nats. */
async function surprises(kvCache: RequestKvCache | null): Promise<number[]> {
  const text = ids.slice(0, numTokens);
  const backend = await createNativeBackend({ numThreads: 1 });
  if (kvCache === null) {
    const request = await SoloRequest.open(backend, built, source, numTokens, { maxTokens: 128 });
    const found: number[] = [];
    for (let at = 0; at < numTokens; at += 128) {
      const logits = await request.feed(text.slice(at, at + 128));
      for (let i = 0; i < logits.length / vocabSize && at + i + 1 < numTokens; i++) {
        found.push(-logSoftmax(logits.subarray(i * vocabSize, (i + 1) * vocabSize))[text[at + i + 1]]);
      }
    }
    request.close();
    await backend.close();
    return found;
  }
  await using engine = await engineOver(backend, built, source, { blockSize: 16, numBlocks: 128, maxModelLen: context, maxNumBatchedTokens: 128 });
  const { promptLogprobs } = await engine.generate({ promptTokenIds: text }, { maxTokens: 1, promptLogprobs: 0 }, { kvCache });
  return (promptLogprobs ?? []).slice(1).map((place) => -(place?.logprob ?? Number.NaN));
}

const bounds = [0, context / 2, context, 2 * context, 4 * context, 8 * context].filter((bound) => bound < numTokens);
const window = Math.floor(context / 2);
console.log(`| keys | ${bounds.map((bound, i) => `tokens ${bound} to ${bounds[i + 1] ?? numTokens}`).join(' | ')} |`);
console.log(`|---|${bounds.map(() => '---|').join('')}`);
for (const [name, kvCache] of [
  ['all', null],
  [`the last ${window}`, { sinks: 0, window }],
  [`the first 4 and the last ${window}`, { sinks: 4, window }],
] as const) {
  const found = await surprises(kvCache);
  const perplexities = bounds.map((bound, i) => Math.exp(mean(found.slice(bound, bounds[i + 1] ?? numTokens))).toFixed(2));
  console.log(`| ${name} | ${perplexities.join(' | ')} |`);
}

/** Distributions of the tokens behind a prompt, the text itself being what goes on. */
async function distributions(engine: LoadedEngine, recorded: Float64Array[], start: number, kvCache: RequestKvCache | null): Promise<Float64Array[]> {
  recorded.length = 0;
  const promptTokenIds = ids.slice(start, start + promptTokens);
  const force = (tokenIds: Int32Array) => {
    const forced = new Float32Array(vocabSize).fill(-1e9);
    forced[ids[start + tokenIds.length]] = 0;
    return forced;
  };
  const options = { logitsProcessors: [force], ...(kvCache === null ? {} : { kvCache }) };
  await engine.generate({ promptTokenIds }, { maxTokens: nextTokens, temperature: 0, ignoreEos: true }, options);
  // the first is that of the whole prompt in every case
  return recorded.slice(1);
}

const backend = await createNativeBackend({ numThreads: 1 });
const recorded: Float64Array[] = [];
await using engine = await engineOver(backend, built, source, {
  blockSize: 16,
  numBlocks: 2 * Math.ceil((promptTokens + nextTokens) / 16) + 8,
  maxNumBatchedTokens: 128,
  enablePrefixCaching: false,
  captureLogits: (_, logits) => void recorded.push(logSoftmax(logits.slice(-vocabSize))),
});
const divergence = (p: Float64Array, q: Float64Array): number => p.reduce((sum, logprob, i) => sum + Math.exp(logprob) * (logprob - q[i]), 0);
const best = (row: Float64Array): number => row.reduce((most, value, i) => (value > row[most] ? i : most), 0);
console.log(
  '\n| keys of the prompt that stay | compressed: mean KL | 99th percentile | same first choice | the last only, behind sinks: mean KL | same first choice |',
);
console.log('|---|---|---|---|---|---|');
for (const share of [0.75, 0.5, 0.25, 0.125]) {
  const kept = Math.max(40, Math.round(promptTokens * share));
  const found = { compressed: [] as number[], last: [] as number[] };
  const agreed = { compressed: 0, last: 0 };
  for (let piece = 0; piece < numPieces; piece++) {
    const start = piece * (promptTokens + nextTokens);
    const exact = await distributions(engine, recorded, start, null);
    const modes = { compressed: { compressPrompt: kept }, last: { sinks: 4, window: Math.max(1, kept - 16) } };
    for (const mode of ['compressed', 'last'] as const) {
      const other = await distributions(engine, recorded, start, modes[mode]);
      exact.forEach((row, i) => {
        found[mode].push(divergence(row, other[i]));
        if (best(row) === best(other[i])) agreed[mode]++;
      });
    }
  }
  const sorted = found.compressed.toSorted((a, b) => a - b);
  const percent = (count: number) => `${((100 * count) / sorted.length).toFixed(1)} %`;
  const figures = [mean(sorted).toExponential(1), sorted[Math.floor(0.99 * sorted.length)].toExponential(1), percent(agreed.compressed)];
  console.log(`| ${kept} of ${promptTokens} | ${figures.join(' | ')} | ${mean(found.last).toExponential(1)} | ${percent(agreed.last)} |`);
}
