/**
 * What number formats cost here and in llama.cpp, on the same GGUF files and the same text, as a Markdown table:
 *
 *   node bench/accuracy.mjs MODEL.F32.gguf text.txt [--formats Q8_0,Q4_0] [--chunks 16] [--context 512] [--outliers] [--widen]
 *
 * llama-quantize (LLAMA_CPP_BIN) makes the files; both sides divide the text into the same windows and compare with the F32 file computed in f32, K and V in f32
 * too; the files themselves are run as each program runs them by default. `--outliers` plants some first (bench/peers/plant_outliers.py, PYTHON with gguf), `--widen`
 * gives a small model rows of 256, which K-quants need (bench/peers/widen.py).
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    formats: { type: 'string', default: 'F16,BF16,Q8_0,Q5_1,Q5_0,Q4_1,Q4_0' },
    chunks: { type: 'string', default: '16' },
    context: { type: 'string', default: '512' },
    threads: { type: 'string', default: '2' },
    outliers: { type: 'boolean', default: false },
    widen: { type: 'boolean', default: false },
  },
});
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const [given, text] = positionals;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-accuracy-'));
const llama = (program, ...args) => run(path.join(process.env.LLAMA_CPP_BIN ?? '', program), args);

try {
  const change = (name, from) => {
    const to = path.join(folder, `${name}.gguf`);
    run(process.env.PYTHON ?? 'python3', [path.join(root, 'bench/peers', `${name}.py`), from, to]);
    return to;
  };
  const wide = values.widen ? change('widen', given) : given;
  const model = values.outliers ? change('plant_outliers', wide) : wide;
  const base = path.join(folder, 'base');
  const common = ['-c', values.context, '-t', values.threads, '--kl-divergence-base', base];
  llama('llama-perplexity', '-m', model, '-f', text, '--chunks', values.chunks, '-ctk', 'f32', '-ctv', 'f32', ...common);
  console.log('| file | llama.cpp mean KL | ours | llama.cpp 99 % | ours | llama.cpp same top | ours | llama.cpp perplexity | ours |');
  console.log('|---|---|---|---|---|---|---|---|---|');
  for (const format of values.formats.split(',')) {
    const file = path.join(folder, `${format}.gguf`);
    llama('llama-quantize', '--pure', model, file, format, values.threads);
    const theirs = theirFigures(() => llama('llama-perplexity', '-m', file, '--kl-divergence', ...common));
    const ours = ourFigures(file, model);
    const cells = ['mean', 'top99', 'same', 'perplexity'].flatMap((key) => [theirs[key], ours[key]]);
    console.log(`| ${[format, ...cells].join(' | ')} |`);
  }
} finally {
  fs.rmSync(folder, { recursive: true });
}

/** llama-perplexity sometimes ends before all of its last lines are written: then it is asked again. */
function theirFigures(measure) {
  let output = '';
  for (let i = 0; i < 5 && !output.includes('Same top p: '); i++) output = measure();
  const number = (pattern) => Number(pattern.exec(output)?.[1]);
  return {
    mean: `${number(/Mean +KLD: +(\S+)/).toExponential(2)} +/- ${number(/Mean +KLD: +\S+ ± +(\S+)/).toExponential(0)}`,
    top99: number(/99\.0% +KLD: +(\S+)/).toExponential(1),
    same: `${number(/Same top p: +([\d.]+)/).toFixed(2)} %`,
    perplexity: number(/Mean PPL\(Q\) +: +(\S+)/).toFixed(4),
  };
}

function ourFigures(file, model) {
  const exact = ['--against', model, '--against-dtype', 'float32', '--against-kv-cache-dtype', 'float32', '--against-activation', 'float'];
  const windows = ['--method', 'llama.cpp', '--context', values.context, '--max-tokens', String(Number(values.chunks) * Number(values.context))];
  const output = run(process.execPath, [
    path.join(root, 'dist/cli/main.js'),
    'eval',
    'kl',
    file,
    ...exact,
    ...windows,
    '--file',
    text,
    '--threads',
    values.threads,
  ]);
  const number = (pattern) => Number(pattern.exec(output)?.[1]);
  return {
    mean: `${number(/mean KL\(.*\) +(\S+)/).toExponential(2)} +/- ${number(/mean KL\(.*\) +\S+ \+\/- (\S+)/).toExponential(0)}`,
    top99: number(/99th percentile +(\S+)/).toExponential(1),
    same: `${number(/same likeliest token +(\S+)/).toFixed(2)} %`,
    perplexity: number(/perplexity of the model +(\S+)/).toFixed(4),
  };
}

/** What a program prints on both streams. */
function run(program, args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (status !== 0) throw new Error(`${program} ended with ${status ?? error}: ${stderr?.slice(-1000)}`);
  return `${stdout}\n${stderr}`;
}
