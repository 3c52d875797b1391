/**
 * llama.cpp or its fork ik_llama.cpp, built natively: prefill and decode tokens/s of a GGUF file by their own `llama-bench` (prefill) and
 * `llama-batched-bench` (decode). Prints JSON of the same shape as `millrace bench offline --json`.
 * Settings: 2 threads, flash attention, weights repacked at load where the fork offers it (`--repack`). Decode starts from prompts of
 * `--decode-input-len` tokens; unlike the others those programs feed fixed tokens and sample nothing, which is in their favour.
 *
 * node llama-cpp-native.mjs MODEL.gguf --bin FOLDER [--repack] [--threads 2] [--batch-size 1,8,16] [--input-len 512] ...
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';

const defaults = {
  threads: '2',
  'prefill-batch-size': '1',
  'batch-size': '1,8,16',
  'input-len': '512',
  'decode-input-len': '32',
  'output-len': '64',
  warmup: '1',
  repetitions: '5',
};
const texts = Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, { type: 'string', default: value }]));
const options = { ...texts, bin: { type: 'string', default: process.env.LLAMA_CPP_BIN }, repack: { type: 'boolean', default: false } };
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const [model] = positionals;
const number = (name) => Number(values[name]);
const threads = values.threads;
const repack = values.repack ? ['-rtr', '1'] : [];

const results = [];
for (const rows of values['prefill-batch-size'].split(',').map(Number)) {
  const length = number('input-len') * rows;
  const args = ['-m', model, '-t', threads, '-p', String(length), '-n', '0', '-r', values.repetitions, '-fa', '1', '-o', 'json', ...repack];
  const [run] = JSON.parse(output('llama-bench', args));
  results.push({
    phase: 'prefill',
    batchSize: rows,
    inputLen: number('input-len'),
    outputLen: 1,
    tokensPerSecond: spread(run.samples_ts),
    hostMsPerStep: null,
  });
}
for (const rows of values['batch-size'].split(',').map(Number)) {
  const lengths = { inputLen: number('decode-input-len'), outputLen: number('output-len') };
  const context = rows * (lengths.inputLen + lengths.outputLen) + 64;
  const rates = [];
  for (let i = 0; i < number('repetitions'); i++) rates.push(decodeRate(rows, lengths, context));
  results.push({ phase: 'decode', batchSize: rows, ...lengths, tokensPerSecond: spread(rates), hostMsPerStep: null });
}
console.log(JSON.stringify({ engine: 'llama.cpp native', model, results }));

/** `| PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | ...` */
function decodeRate(rows, { inputLen, outputLen }, context) {
  const sizes = ['-c', String(context), '-b', '2048', '-ub', '512', '-npp', String(inputLen), '-ntg', String(outputLen), '-npl', String(rows)];
  const text = output('llama-batched-bench', ['-m', model, ...sizes, '-t', threads, '-tb', threads, '-fa', ...(values.repack ? ['-rtr'] : [])]);
  const row = text.split('\n').find((line) => /^\|\s*\d+ \|/.test(line));
  if (row === undefined) throw new Error(`llama-batched-bench printed no row:\n${text.slice(-2000)}`);
  return Number(row.split('|')[8]);
}

function output(program, args) {
  const { status, stdout, stderr } = spawnSync(path.join(values.bin, program), args, { encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (status !== 0) throw new Error(`${program} ended with ${status}:\n${stderr.slice(-2000)}`);
  return stdout;
}

function spread(rates) {
  const sorted = [...rates].sort((a, b) => a - b);
  const median = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1) };
}
