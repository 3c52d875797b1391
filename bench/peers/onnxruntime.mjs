/**
 * onnxruntime-node: prefill and decode tokens/s of a model that make_onnx.py wrote. Prints JSON of the same shape as `millrace bench offline --json`.
 * Settings: the CPU provider, all graph optimisations, past and present keys and values in one buffer, logits of the last position, greedy choice.
 *
 * node onnxruntime.mjs MODEL.onnx [--config config.json] [--threads 2] [--batch-size 1,8,16] [--input-len 512] [--decode-input-len 32] [--output-len 64] ...
 */
import fs from 'node:fs';
import ort from 'onnxruntime-node';
import { readJobs, report } from './jobs.mjs';

const asked = readJobs({ config: '' });
const config = JSON.parse(fs.readFileSync(asked.values.config, 'utf8'));
const headDim = config.head_dim ?? config.hidden_size / config.num_attention_heads;
const session = await ort.InferenceSession.create(asked.model, {
  executionProviders: ['cpu'],
  graphOptimizationLevel: 'all',
  intraOpNumThreads: asked.threads,
  interOpNumThreads: 1,
});

await report('onnxruntime-node', asked, async (job) => ({ measure: () => measure(job), close: () => {} }));

async function measure({ phase, batchSize, inputLen, outputLen: length }) {
  const cache = newCache(batchSize, inputLen + length);
  const prompt = Array.from({ length: batchSize * inputLen }, () => BigInt(16 + Math.floor(Math.random() * (config.vocab_size - 16))));
  const start = performance.now();
  let next = await step(cache, prompt, batchSize, inputLen);
  const first = performance.now();
  if (phase === 'prefill') return (1000 * batchSize * inputLen) / (first - start);
  for (let total = inputLen + 1; total < inputLen + length; total++) next = await step(cache, next, batchSize, total);
  return (1000 * batchSize * (length - 1)) / (performance.now() - first);
}

/** Keys and values of all layers, as long as they will become. */
function newCache(batchSize, length) {
  const cache = {};
  const shape = [batchSize, config.num_key_value_heads, length, headDim];
  for (let i = 0; i < config.num_hidden_layers; i++)
    for (const part of ['key', 'value']) cache[`${part}${i}`] = new ort.Tensor('float32', new Float32Array(shape.reduce((a, b) => a * b)), shape);
  return cache;
}

/** Runs the tokens after which each row has `total`, and returns the greedy next of each. */
async function step(cache, tokens, batchSize, total) {
  const feeds = {
    input_ids: new ort.Tensor('int64', BigInt64Array.from(tokens), [batchSize, tokens.length / batchSize]),
    seqlens_k: new ort.Tensor('int32', new Int32Array(batchSize).fill(total - 1), [batchSize]),
    total_length: new ort.Tensor('int32', Int32Array.of(total), []),
  };
  const fetches = { logits: null };
  for (const [name, tensor] of Object.entries(cache)) {
    feeds[`past_${name}`] = tensor;
    fetches[`present_${name}`] = tensor;
  }
  const { logits } = await session.run(feeds, fetches);
  const size = config.vocab_size;
  return Array.from({ length: batchSize }, (_, row) => {
    let best = row * size;
    for (let i = best; i < (row + 1) * size; i++) if (logits.data[i] > logits.data[best]) best = i;
    return BigInt(best - row * size);
  });
}
