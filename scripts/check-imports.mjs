/**
 * The import rule of ARCHITECTURE.md, "Who may import whom": each folder of `src` is a room, this table says what it may import, and what
 * the table does not list is an error. Tests are free. An entry is a room (`kv`), a path inside one (`sampling/params`), or `types of x`
 * for imports that vanish when compiled.
 */
import path from 'node:path';
import { isMain } from './prepare.mjs';
import { importsOf, parseFile, sourceFiles } from './sources.mjs';

const models = ['base', 'plan'];
const engineRooms = [
  'tokenizer',
  'quant',
  'plan',
  'kv',
  'chat',
  'hub',
  'weights',
  'models',
  'sampling',
  'lora',
  'speculative',
  'scheduler',
  'backends',
];
/** What those who drive an engine from outside see of it. */
const engineSurface = ['engine/engine', 'engine/request-stream'];

/** Room -> what it may import besides itself. `index` is src/index.ts, the public surface. */
export const rooms = {
  base: [],
  tokenizer: ['base'],
  quant: ['base', 'types of plan'],
  plan: ['base'],
  kv: ['base', 'types of plan'],
  chat: ['base', 'tokenizer'],
  weights: ['base', 'quant', 'plan', 'tokenizer'],
  hub: ['base'],
  models,
  sampling: ['base', 'tokenizer'],
  lora: ['base', 'plan', 'quant'],
  speculative: ['base', 'kv', 'types of backends'],
  scheduler: ['base', 'kv', 'sampling/params', 'types of speculative/drafter'],
  backends: ['base', 'quant', 'plan', 'kv/layout', 'sampling', 'types of weights'],
  engine: ['base', ...engineRooms],
  worker: ['base', 'plan', 'backends', 'types of weights'],
  server: ['base', 'chat', 'types of tokenizer', 'sampling/params', ...engineSurface],
  fetch: ['base', 'server', 'types of engine/engine'],
  'ai-sdk': ['base', 'server', 'types of chat', 'types of engine/engine'],
  langchain: ['base', 'server', 'types of chat', 'types of engine/engine'],
  mcp: ['base', 'types of engine/tool-loop'],
  fleet: ['base', 'server'],
  sim: ['base', 'engine', ...engineRooms],
  quantize: ['base', 'engine', ...engineRooms],
  bench: ['base', 'engine', 'sampling', 'chat', 'plan', 'kv', 'types of backends', 'types of weights', 'types of tokenizer'],
  cli: ['base', 'engine', 'server', 'bench', 'sim', 'quantize', 'mcp', ...engineRooms],
  index: ['base', 'engine', 'types of tokenizer', 'types of chat', 'sampling/params'],
};

/** Tables of all known things; importing one pulls in everything, so only those who compose may. */
export const registries = {
  'models/index': ['engine/load', 'engine/open-model', 'worker', 'quantize'],
  'backends/index': ['engine/load', 'worker', 'quantize'],
};

/** npm package -> who may import it. A package that is not listed may not be used in `src` at all. */
export const packages = {
  '@huggingface/tokenizers': ['tokenizer'],
  fastify: ['server'],
  typebox: ['server', 'engine'],
  'prom-client': ['server'],
  pino: ['server', 'cli', 'base'],
  '@ai-sdk/provider': ['ai-sdk'],
  '@langchain/core': ['langchain'],
  '@modelcontextprotocol/sdk': ['mcp'],
  commander: ['cli'],
  'cli-progress': ['cli'],
  'node-api-headers': ['backends/native'],
};

/** `native/` is reached through these files only. */
const nativeLoaders = ['backends/native/load-addon', 'backends/native/build-addon'];

/** `src/kv/layout.ts` -> `kv/layout`. */
const moduleName = (file) => file.replace(/^src\//, '').replace(/\.ts$/, '');
const roomOf = (module) => (module.includes('/') ? module.slice(0, module.indexOf('/')) : module);
const covers = (entry, module) => module === entry || module.startsWith(`${entry}/`);

/** Why `from` may not import `to` (both without `src/` and `.ts`), or null when it may. */
export function importProblem(from, to, typeOnly) {
  const room = roomOf(from);
  const allowed = rooms[room];
  if (allowed === undefined) return `the room "${room}" is not in the table of scripts/check-imports.mjs`;
  if (registries[to] !== undefined && !typeOnly && !registries[to].some((entry) => covers(entry, from))) {
    return `${to} is a registry: only ${registries[to].join(', ')} may import it`;
  }
  if (roomOf(to) === room) return null;
  const types = 'types of ';
  for (const entry of allowed) {
    if (entry.startsWith(types) ? typeOnly && covers(entry.slice(types.length), to) : covers(entry, to)) return null;
  }
  const asTypes = allowed.some((entry) => entry.startsWith(types) && covers(entry.slice(types.length), to));
  return asTypes ? `${room} may import only types of ${to}` : `${room} may not import ${to}; it may import ${allowed.join(', ') || 'nothing'}`;
}

/** Why `from` may not import an npm package or a module of Node, or null when it may. */
export function packageProblem(from, specifier) {
  if (specifier.startsWith('node:')) return null;
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  const allowed = packages[name];
  if (allowed === undefined) return `the package "${name}" is not in the table of scripts/check-imports.mjs`;
  return allowed.some((entry) => covers(entry, from)) ? null : `the package "${name}" belongs to ${allowed.join(', ')}`;
}

/** All breaches in one file, as `{ line, problem }`. */
export function fileProblems(file, text, parsed) {
  const from = moduleName(file);
  const problems = [];
  for (const { specifier, typeOnly, line } of importsOf(text, parsed)) {
    if (!specifier.startsWith('.')) {
      const problem = packageProblem(from, specifier);
      if (problem) problems.push({ line, problem });
      continue;
    }
    const target = path.posix.join(path.posix.dirname(file), specifier);
    if (!target.startsWith('src/')) problems.push({ line, problem: `imports ${specifier}, which lies outside src` });
    else if (!target.endsWith('.ts') && !target.endsWith('.json')) problems.push({ line, problem: `imports ${specifier} without .ts` });
    else {
      const problem = importProblem(from, moduleName(target), typeOnly);
      if (problem) problems.push({ line, problem });
    }
  }
  if (/\bprocess\.dlopen\b/.test(text) && !nativeLoaders.includes(from))
    problems.push({ line: 1, problem: 'only backends/native/load-addon may load native code' });
  return problems;
}

export function main() {
  const files = sourceFiles().filter((file) => !file.endsWith('.test.ts'));
  let count = 0;
  for (const file of files) {
    const { text, parsed } = parseFile(file);
    for (const { line, problem } of fileProblems(file, text, parsed)) {
      count++;
      console.error(`${file}:${line}: ${problem}`);
    }
  }
  console.log(`imports: ${files.length} files, ${count} breaches`);
  if (count > 0) process.exitCode = 1;
}

if (isMain(import.meta.url)) main();
