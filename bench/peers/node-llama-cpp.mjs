/**
 * node-llama-cpp: prefill and decode tokens/s of a GGUF file. Prints JSON of the same shape as `millrace bench offline --json`.
 * Settings: prebuilt CPU binary (it picks the code for this processor), flash attention, one context with a sequence a row, greedy sampling.
 *
 * node node-llama-cpp.mjs MODEL.gguf [--threads 2] [--batch-size 1,8,16] [--input-len 512] [--decode-input-len 32] [--output-len 64] ...
 */
import { parseArgs } from 'node:util';
import { getLlama } from 'node-llama-cpp';

const defaults = {
  threads: '2',
  'prefill-batch-size': '1',
  'batch-size': '1,8,16',
  'input-len': '512',
  'decode-input-len': '32',
  'output-len': '64',
  depth: '',
  warmup: '1',
  repetitions: '5',
};
const options = Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, { type: 'string', default: value }]));
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const number = (name) => Number(values[name]);
const numbers = (name) => values[name].split(',').filter(Boolean).map(Number);

const llama = await getLlama({ gpu: false, build: 'never', maxThreads: number('threads'), logLevel: 'error' });
const model = await llama.loadModel({ modelPath: positionals[0], gpuLayers: 0 });
const vocabSize = model.fileInfo.metadata.tokenizer.ggml.tokens.length;

const jobs = [
  ...numbers('prefill-batch-size').map((rows) => ({ phase: 'prefill', batchSize: rows, inputLen: number('input-len'), outputLen: 1 })),
  ...numbers('batch-size').map((rows) => ({
    phase: 'decode',
    batchSize: rows,
    inputLen: number('decode-input-len'),
    outputLen: number('output-len'),
  })),
  ...numbers('depth').map((inputLen) => ({ phase: 'decode', batchSize: 1, inputLen, outputLen: number('output-len'), isDeep: true })),
];
const results = [];
for (const { isDeep = false, ...job } of jobs) {
  const warmup = isDeep ? 0 : number('warmup');
  const repetitions = isDeep ? 1 : number('repetitions');
  const context = await model.createContext({
    sequences: job.batchSize,
    contextSize: job.inputLen + job.outputLen + 8,
    batchSize: Math.max(512, job.batchSize),
    threads: number('threads'),
    flashAttention: true,
  });
  const sequences = Array.from({ length: job.batchSize }, () => context.getSequence());
  const rates = [];
  for (let i = 0; i < warmup + repetitions; i++) {
    const rate = await measure(sequences, job);
    if (i >= warmup) rates.push(rate);
  }
  await context.dispose();
  rates.sort((a, b) => a - b);
  const median = (rates[(rates.length - 1) >> 1] + rates[rates.length >> 1]) / 2;
  results.push({ ...job, tokensPerSecond: { median, min: rates[0], max: rates.at(-1) }, hostMsPerStep: null });
}
console.log(JSON.stringify({ engine: `node-llama-cpp 3.22.1 ${llama.cpuMathCores} cores`, model: positionals[0], results }));
await llama.dispose();

async function measure(sequences, { phase, inputLen, outputLen }) {
  for (const sequence of sequences) await sequence.clearHistory();
  const start = performance.now();
  const arrivals = await Promise.all(sequences.map((sequence) => readRow(sequence, inputLen, outputLen)));
  const lastFirst = Math.max(...arrivals.map((row) => row[0]));
  if (phase === 'prefill') return (1000 * inputLen * sequences.length) / (lastFirst - start);
  const firstLast = Math.min(...arrivals.map((row) => row.at(-1)));
  const tokens = arrivals.flat().filter((at) => at > lastFirst && at <= firstLast).length;
  return (1000 * tokens) / (firstLast - lastFirst);
}

async function readRow(sequence, inputLen, outputLen) {
  const prompt = Array.from({ length: inputLen }, () => 16 + Math.floor(Math.random() * (vocabSize - 16 - 1024)));
  const arrivals = [];
  for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    arrivals.push(performance.now());
    if (arrivals.length === outputLen) break;
  }
  return arrivals;
}
