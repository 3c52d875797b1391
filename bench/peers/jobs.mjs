/**
 * What the peers of Node share: the flags of `millrace bench offline` that `millrace bench compare` passes, the measurements that they ask for, and the
 * report of the same shape.
 */
import { parseArgs } from 'node:util';

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

/** `{ model, threads, jobs, values }` of the command line; `further` are flags of one peer alone, each with its default. */
export function readJobs(further = {}) {
  const options = Object.fromEntries(Object.entries({ ...defaults, ...further }).map(([name, value]) => [name, { type: 'string', default: value }]));
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const number = (name) => Number(values[name]);
  const numbers = (name) => values[name].split(',').filter(Boolean).map(Number);
  const often = { warmup: number('warmup'), repetitions: number('repetitions') };
  const outputLen = number('output-len');
  const jobs = [
    ...numbers('prefill-batch-size').map((batchSize) => ({ phase: 'prefill', batchSize, inputLen: number('input-len'), outputLen: 1, ...often })),
    ...numbers('batch-size').map((batchSize) => ({ phase: 'decode', batchSize, inputLen: number('decode-input-len'), outputLen, ...often })),
    // reading a long prompt takes longer than all else together: once is enough
    ...numbers('depth').map((inputLen) => ({ phase: 'decode', batchSize: 1, inputLen, outputLen, warmup: 0, repetitions: 1 })),
  ];
  return { model: positionals[0], threads: number('threads'), jobs, values };
}

/**
 * Runs every job and prints the report.
 * @param open makes what a job needs: `{ measure(), close() }`, where `measure` resolves with tokens/s of one run
 */
export async function report(engine, { model, jobs }, open) {
  const results = [];
  for (const { warmup, repetitions, ...job } of jobs) {
    const { measure, close } = await open(job);
    const rates = [];
    for (let i = 0; i < warmup + repetitions; i++) {
      const rate = await measure();
      if (i >= warmup) rates.push(rate);
    }
    await close();
    rates.sort((a, b) => a - b);
    const median = (rates[(rates.length - 1) >> 1] + rates[rates.length >> 1]) / 2;
    results.push({ ...job, tokensPerSecond: { median, min: rates[0], max: rates.at(-1) }, hostMsPerStep: null });
  }
  console.log(JSON.stringify({ engine, model, results }));
}
