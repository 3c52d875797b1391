/**
 * Every table of docs/benchmarks, one job after the other in the order of their worth, as Markdown on the standard output:
 *
 *   node bench/tables.mjs [--only NAME,NAME] [--list] > docs/benchmarks/DATE-machine.md
 *
 * Before: what docs/benchmarks/README.md says. PYTHON names a Python with torch and transformers; LLAMA_CPP_BIN and IK_LLAMA_CPP_BIN the folders of native
 * builds. Peers that are not there are left out. A job that fails says so and the next one runs.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { only: { type: 'string' }, list: { type: 'boolean', default: false } } });
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const results = path.join(root, '.cache', 'bench', 'results');
const cli = ['dist/cli/main.js', 'bench'];
const python = process.env.PYTHON ?? 'python3';
const file = (shape, format) => `.cache/bench/${shape}/model.${format}`;
const small = 'qwen2.5-0.5b';

/** Arguments of `millrace bench compare`; `--json` keeps the figures. */
function compare(name, model, ...flags) {
  return [...cli, 'compare', model, '--json', path.join('.cache', 'bench', 'results', `${name}.json`), ...flags];
}
const phases = ['--batch-size', '1,8,16,32', '--repetitions', '3'];
const deep = ['--batch-size', '1', '--repetitions', '1', '--input-len', '64', '--rounds', '1', '--depth', '8192'];
const tokens = ['--variant', 'Millrace, activations per token=--activation int8-token'];
/** 8 bits a channel, coarser than the peers' groups: a row beside, never the headline. Made by `millrace convert` (docs/benchmarks/README.md). */
const channel = ['--variant', `Millrace, 8 bits a channel=.cache/bench/${small}/int8-channel`];
const onnx = (format) => [
  '--peer',
  `onnxruntime-node=${process.execPath} bench/peers/onnxruntime.mjs ${file(small, format)}.onnx --config bench/shapes/${small}/config.json`,
];
const binding = ['--peer', `node-llama-cpp=${process.execPath} bench/peers/node-llama-cpp.mjs {model}`];
const torch = ['--peer', `PyTorch bf16=${python} bench/peers/torch_cpu.py bench/shapes/${small}`];
const others = ['--only', 'onnxruntime-node', '--only', 'node-llama-cpp', '--only', 'Millrace'];

/** name, what it shows, about how many seconds, the program's arguments. */
const jobs = [
  [
    'q8',
    'Qwen2.5-0.5B shape, 8 bits in groups of 32 (Q8_0)',
    290,
    compare('q8', `${file(small, 'q8_0')}.gguf`, ...phases, ...tokens, ...channel, '--rounds', '3'),
  ],
  ['q4', 'Qwen2.5-0.5B shape, 4 bits in groups of 32 (Q4_0)', 190, compare('q4', `${file(small, 'q4_0')}.gguf`, ...phases, '--rounds', '3')],
  ['serve-q8', 'Serving, 8 bits', 100, ['--import', 'tsx', 'bench/serving.ts', 'load', `${file(small, 'q8_0')}.gguf`, '--concurrency', '16']],
  ['serve-q4', 'Serving, 4 bits', 85, ['--import', 'tsx', 'bench/serving.ts', 'load', `${file(small, 'q4_0')}.gguf`, '--concurrency', '16']],
  ['prefix', 'A prefix that requests share, 8 bits', 170, ['--import', 'tsx', 'bench/serving.ts', 'prefix', `${file(small, 'q8_0')}.gguf`]],
  ['kernels', 'Kernels beside the limits of the machine', 100, [...cli, 'kernels', '--save', 'docs/benchmarks/kernels/avx512.json']],
  [
    'bf16',
    'Qwen2.5-0.5B shape, bf16',
    240,
    compare('bf16', `${file(small, 'bf16')}.gguf`, ...phases, ...torch, '--rounds', '2', '--repetitions', '1'),
  ],
  ['deep-q8', '8,192 tokens of context, 8 bits', 130, compare('deep-q8', `${file(small, 'q8_0')}.gguf`, ...deep, ...tokens, ...channel)],
  ['deep-q4', '8,192 tokens of context, 4 bits', 90, compare('deep-q4', `${file(small, 'q4_0')}.gguf`, ...deep)],
  [
    'busy',
    'Beside one busy process, 8 bits',
    180,
    compare(
      'busy',
      `${file(small, 'q8_0')}.gguf`,
      '--busy',
      '1',
      '--batch-size',
      '1,16',
      '--decode-input-len',
      '32',
      '--rounds',
      '1',
      '--repetitions',
      '1',
    ),
  ],
  ['load', 'Loading', 15, [...cli, 'load', `${file(small, 'bf16')}.gguf`]],
  ['deep-bf16', '8,192 tokens of context, bf16', 130, compare('deep-bf16', `${file(small, 'bf16')}.gguf`, ...deep)],
  [
    '1b-q8',
    'Llama-3.2-1B shape, 8 bits',
    75,
    compare('1b-q8', `${file('llama-3.2-1b', 'q8_0')}.gguf`, '--batch-size', '1,16', '--rounds', '1', '--repetitions', '1'),
  ],
  [
    '1b-q4',
    'Llama-3.2-1B shape, 4 bits',
    60,
    compare('1b-q4', `${file('llama-3.2-1b', 'q4_0')}.gguf`, '--batch-size', '1,16', '--rounds', '1', '--repetitions', '1'),
  ],
  [
    'moe-q4',
    'OLMoE-1B-7B shape, 4 bits',
    90,
    compare(
      'moe-q4',
      `${file('olmoe-1b-7b', 'q4_0')}.gguf`,
      '--only',
      'Millrace',
      '--only',
      'llama.cpp',
      '--batch-size',
      '1,8',
      '--rounds',
      '1',
      '--repetitions',
      '1',
    ),
  ],
  [
    '3b-q4',
    'Llama-3.2-3B shape, 4 bits',
    120,
    compare('3b-q4', `${file('llama-3.2-3b', 'q4_0')}.gguf`, '--batch-size', '1,8', '--rounds', '1', '--repetitions', '1'),
  ],
  [
    'others-q8',
    'Other peers, 8 bits',
    150,
    compare(
      'others-q8',
      `${file(small, 'q8_0')}.gguf`,
      ...onnx('q8'),
      ...binding,
      ...others,
      '--batch-size',
      '1,8,16',
      '--rounds',
      '1',
      '--repetitions',
      '1',
    ),
  ],
  [
    'others-q4',
    'Other peers, 4 bits',
    120,
    compare(
      'others-q4',
      `${file(small, 'q4_0')}.gguf`,
      ...onnx('q4'),
      ...binding,
      ...others,
      '--batch-size',
      '1,8,16',
      '--rounds',
      '1',
      '--repetitions',
      '1',
    ),
  ],
  [
    'serve-more',
    'Serving at other concurrencies, 8 bits',
    260,
    ['--import', 'tsx', 'bench/serving.ts', 'load', `${file(small, 'q8_0')}.gguf`, '--concurrency', '1,4,32'],
  ],
  [
    'deep-bf16-torch',
    'PyTorch behind 8,192 tokens',
    90,
    compare('deep-torch', `${file(small, 'bf16')}.gguf`, ...deep, ...torch, '--only', 'PyTorch bf16'),
  ],
];

const wanted = values.only?.split(',') ?? jobs.map(([name]) => name);
const unknown = wanted.find((name) => !jobs.some(([each]) => each === name));
if (unknown !== undefined) throw new Error(`unknown job ${unknown}; known: ${jobs.map(([name]) => name).join(', ')}`);
if (values.list) {
  let sum = 0;
  for (const [name, title, seconds] of jobs) {
    sum += seconds;
    console.log(`${name.padEnd(16)} ${String(seconds).padStart(4)} s, ${(sum / 60).toFixed(1).padStart(5)} min in all  ${title}`);
  }
} else {
  fs.mkdirSync(results, { recursive: true });
  const memory = (os.totalmem() / 2 ** 30).toFixed(1);
  console.log(
    `Machine: ${os.cpus()[0]?.model}, ${os.cpus().length} cores, ${memory} GiB, Node ${process.versions.node}. ${new Date().toISOString().slice(0, 10)}.`,
  );
  for (const [name, title, , args] of jobs.filter(([each]) => wanted.includes(each))) {
    const start = Date.now();
    process.stderr.write(`${name} ...\n`);
    const { code, text } = await run(args);
    fs.writeFileSync(path.join(results, `${name}.md`), text);
    const isTable = text.includes('\n|');
    console.log(`\n## ${title}\n\n\`node bench/tables.mjs --only ${name}\`\n\n${isTable ? text.trim() : `\`\`\`\n${text.trim()}\n\`\`\``}`);
    if (code !== 0) console.log(`\nThis job ended with ${code}.`);
    process.stderr.write(`${name}: ${((Date.now() - start) / 1000).toFixed(0)} s\n`);
  }
}

function run(args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (bytes) => {
      text += bytes;
    });
    child.on('close', (code) => resolve({ code, text }));
  });
}
