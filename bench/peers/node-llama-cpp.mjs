/**
 * node-llama-cpp: prefill and decode tokens/s of a GGUF file. Prints JSON of the same shape as `millrace bench offline --json`.
 * Settings: prebuilt CPU binary (it picks the code for this processor), flash attention, one context with a sequence a row, greedy sampling.
 *
 * node node-llama-cpp.mjs MODEL.gguf [--threads 2] [--batch-size 1,8,16] [--input-len 512] [--decode-input-len 32] [--output-len 64] ...
 */
import { getLlama } from 'node-llama-cpp';
import { readJobs, report } from './jobs.mjs';

const asked = readJobs();
const llama = await getLlama({ gpu: false, build: 'never', maxThreads: asked.threads, logLevel: 'error' });
const model = await llama.loadModel({ modelPath: asked.model, gpuLayers: 0 });
const vocabSize = model.fileInfo.metadata.tokenizer.ggml.tokens.length;

await report(`node-llama-cpp 3.22.1 ${llama.cpuMathCores} cores`, asked, async (job) => {
  const context = await model.createContext({
    sequences: job.batchSize,
    contextSize: job.inputLen + job.outputLen + 8,
    batchSize: Math.max(512, job.batchSize),
    threads: asked.threads,
    flashAttention: true,
  });
  const sequences = Array.from({ length: job.batchSize }, () => context.getSequence());
  return { measure: () => measure(sequences, job), close: () => context.dispose() };
});
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
