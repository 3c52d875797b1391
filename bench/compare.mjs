/**
 * Runs Millrace and its peers in turn, each round a fresh process of each, and prints a Markdown table of medians and ranges over the rounds.
 *
 * node bench/compare.mjs [--rounds 3] [--only NAME,NAME] [--json FILE] [-- flags of every engine, such as --batch-size 1,8]
 *
 * Before: npm run build; npm ci in bench/peers; a Python with torch, transformers and gguf named by PYTHON;
 * $PYTHON bench/peers/make_gguf.py bench/shapes/qwen2.5-0.5b/config.json .cache/bench/qwen2.5-0.5b
 * IK_LLAMA_CPP_BIN and LLAMA_CPP_BIN name folders with native builds of those engines (llama-bench, llama-batched-bench); without
 * them they are left out.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const shape = path.join(root, 'bench', 'shapes', 'qwen2.5-0.5b');
const files = path.join(root, '.cache', 'bench', 'qwen2.5-0.5b');
const python = process.env.PYTHON ?? 'python3';
const millrace = [process.execPath, path.join(root, 'dist', 'cli', 'main.js'), 'bench', 'offline', '--json', '--threads', '2'];
const peer = [process.execPath, path.join(root, 'bench', 'peers', 'node-llama-cpp.mjs')];
const torch = [python, path.join(root, 'bench', 'peers', 'torch_cpu.py'), shape, '--threads', '2'];

/** Engines built natively, where their folder is named. `repack` is the option of the fork that rearranges weights at load. */
function native(name, folder, flags) {
  if (folder === undefined) return {};
  const command = [process.execPath, path.join(root, 'bench', 'peers', 'llama-cpp-native.mjs'), '--bin', folder, ...flags];
  const formats = { bf16: 'model.bf16.gguf', Q8_0: 'model.q8_0.gguf', Q4_0: 'model.q4_0.gguf' };
  return Object.fromEntries(Object.entries(formats).map(([format, file]) => [`${name} ${format}`, [...command, path.join(files, file)]]));
}

/** Name -> command. The reference backend defines results and is slow: it runs shorter, and the table says so. */
const engines = {
  'Millrace native bf16': [...millrace, path.join(files, 'model.bf16.gguf'), '--backend', 'cpu'],
  'Millrace native 8-bit': [...millrace, path.join(files, 'model.q8_0.gguf'), '--backend', 'cpu'],
  'Millrace native 4-bit': [...millrace, path.join(files, 'model.q4_0.gguf'), '--backend', 'cpu'],
  'PyTorch CPU bf16': torch,
  'node-llama-cpp bf16': [...peer, path.join(files, 'model.bf16.gguf')],
  'node-llama-cpp Q8_0': [...peer, path.join(files, 'model.q8_0.gguf')],
  'node-llama-cpp Q4_0': [...peer, path.join(files, 'model.q4_0.gguf')],
  ...native('llama.cpp', process.env.LLAMA_CPP_BIN, []),
  ...native('ik_llama.cpp', process.env.IK_LLAMA_CPP_BIN, ['--repack']),
  'Millrace reference': [
    ...[...millrace, path.join(files, 'model.bf16.gguf'), '--backend', 'reference'],
    ...['--input-len', '32', '--decode-input-len', '4', '--output-len', '4', '--batch-size', '1', '--warmup', '0', '--repetitions', '1'],
  ],
};

const split = process.argv.indexOf('--');
const own = process.argv.slice(2, split < 0 ? undefined : split);
const passedOn = split < 0 ? [] : process.argv.slice(split + 1);
const { values } = parseArgs({
  args: own,
  options: { rounds: { type: 'string', default: '3' }, only: { type: 'string' }, json: { type: 'string' } },
});
const names = values.only?.split(',') ?? Object.keys(engines);
for (const name of names) if (engines[name] === undefined) throw new Error(`unknown engine "${name}"; known: ${Object.keys(engines).join(', ')}`);

/** engine -> `phase batch input output` -> one report row a round. */
const measured = new Map(names.map((name) => [name, new Map()]));
const failures = [];
for (let round = 0; round < Number(values.rounds); round++) {
  for (const name of names) {
    process.stderr.write(`round ${round + 1}: ${name}\n`);
    const flags = name === 'Millrace reference' ? [] : passedOn;
    try {
      for (const row of JSON.parse(await output([...engines[name], ...flags])).results) {
        const key = `${row.phase} ${row.batchSize} ${row.inputLen} ${row.outputLen}`;
        if (!measured.get(name).has(key)) measured.get(name).set(key, []);
        if (row.tokensPerSecond !== null) measured.get(name).get(key).push(row.tokensPerSecond);
      }
    } catch (error) {
      failures.push(`${name}, round ${round + 1}: ${error.message}`);
      process.stderr.write(`${failures.at(-1)}\n`);
    }
  }
}
console.log(table());
if (values.json)
  fs.writeFileSync(values.json, JSON.stringify(Object.fromEntries([...measured].map(([name, rows]) => [name, Object.fromEntries(rows)])), null, 2));
if (failures.length > 0) process.exitCode = 1;

function output([program, ...args]) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, OMP_NUM_THREADS: '2' };
    const child = spawn(program, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (bytes) => {
      text += bytes;
    });
    child.on('error', reject);
    child.on('exit', (code) => (code === 0 ? resolve(text.slice(text.indexOf('{'))) : reject(new Error(`exit code ${code}`))));
  });
}

/** Median of the rounds' medians, and the whole range of the rounds. */
function table() {
  const cpu = os.cpus()[0]?.model ?? 'unknown processor';
  const lines = [`${cpu}, ${os.cpus().length} cores, Node ${process.versions.node}; ${values.rounds} rounds, 2 threads each`, ''];
  lines.push('| engine | phase | batch | input | output | tokens/s | range |', '|---|---|---|---|---|---|---|');
  for (const [name, rows] of measured) {
    for (const [key, spreads] of rows) {
      const medians = spreads.map((spread) => spread.median).sort((a, b) => a - b);
      const middle = (medians[(medians.length - 1) >> 1] + medians[medians.length >> 1]) / 2;
      const low = Math.min(...spreads.map((spread) => spread.min));
      const high = Math.max(...spreads.map((spread) => spread.max));
      lines.push(`| ${[name, ...key.split(' '), middle.toFixed(1), `${low.toFixed(1)} to ${high.toFixed(1)}`].join(' | ')} |`);
    }
  }
  return lines.join('\n');
}
