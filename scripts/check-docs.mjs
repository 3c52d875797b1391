/**
 * Documentation against code. Tables between `<!-- table: NAME -->` and `<!-- end -->` are written from the code: `--write` rewrites them, without
 * it a difference is an error. The folder map of ARCHITECTURE.md must name each folder of src and no other; relative links must lead somewhere.
 */
import fs from 'node:fs';
import path from 'node:path';
import { tsImport } from 'tsx/esm/api';
import { isMain, listFiles, repository } from './prepare.mjs';

const load = (file) => tsImport(`../${file}`, import.meta.url);
const exists = (file) => fs.existsSync(path.join(repository, file));
const read = (file) => fs.readFileSync(path.join(repository, file), 'utf8');

/** Name of a table -> the document it stands in and the rows it must have. */
const tables = {
  errors: { document: 'docs/errors.md', render: errorRows },
  config: { document: 'docs/config.md', render: async () => optionRows((await load('src/engine/config.ts')).engineOptions) },
  families: { document: 'docs/models.md', render: familyRows },
  ...serverTables('docs/api.md', [
    'endpoints',
    'chat-completion-fields',
    'completion-fields',
    'responses-fields',
    'messages-fields',
    'ollama-chat-fields',
    'ollama-generate-fields',
    'unsupported-fields',
    'tokenize-fields',
    'detokenize-fields',
    'limits',
  ]),
  ...serverTables('docs/metrics.md', ['metrics']),
  conformance: { document: 'docs/conformance.md', render: async () => (await load('test/api/index.ts')).conformanceRows() },
  ...kernelTables(['kernel-limits', 'kernel-linear', 'kernel-attention', 'kernel-times']),
  server: { document: 'docs/config.md', render: async () => optionRows((await load('src/cli/server-flags.ts')).serverFlags) },
};

/** Tables that the server renders itself. */
function serverTables(document, names) {
  const render = async (name) => (await load('src/server/reference-tables.ts')).referenceTables()[name];
  return Object.fromEntries(names.map((name) => [name, { document, render: () => render(name) }]));
}

/** Tables of recorded runs of `millrace bench kernels`. */
function kernelTables(names) {
  const render = async (name) => (await load('src/bench/kernel-tables.ts')).kernelTables(path.join(repository, 'docs/benchmarks/kernels'))[name];
  return Object.fromEntries(names.map((name) => [name, { document: 'docs/kernels.md', render: () => render(name) }]));
}

async function errorRows() {
  const { errorTable } = await load('src/base/errors.ts');
  const rows = Object.entries(errorTable).map(([code, { status, meaning }]) => `| \`${code}\` | ${status} | ${meaning} |`);
  return ['| code | HTTP | meaning |', '|---|---|---|', ...rows];
}

function optionRows(options) {
  const rows = options.map(({ flag, choices, placeholder, kind, default: fallback, meaning }) => {
    const value = kind === 'boolean' ? '' : ` ${choices?.join('\\|') ?? placeholder ?? (kind === 'string' ? 'TEXT' : 'N')}`;
    return `| \`--${flag}${value}\` | ${fallback ?? ''} | ${meaning} |`;
  });
  return ['| option | default | meaning |', '|---|---|---|', ...rows];
}

/** The model families: what their own files say, and which golden checkpoints, found by the architecture in their configuration, are theirs. */
async function familyRows() {
  const { families, encoders = {} } = await load('src/models/index.ts');
  const { ggufCases } = await load('test/golden/gguf-cases.ts');
  const all = [...Object.values(families), ...Object.values(encoders)];
  const goldens = new Map(all.map((family) => [family, []]));
  const isGolden = (file) => file.endsWith('/config.json') && !file.includes('/quantized/');
  for (const file of listFiles(repository, ['test/golden'], isGolden)) {
    const folder = path.posix.dirname(file);
    const { architectures } = JSON.parse(read(`${folder}/config.json`));
    goldens.get(all.find((family) => family.architectures.some((name) => architectures.includes(name))))?.push(path.posix.basename(folder));
  }
  const sources = listFiles(repository, ['src/models'], (name) => name.endsWith('.ts'));
  const rows = all.map((family) => {
    const { name, architectures, gguf, summary } = family;
    const source = sources.find((file) => read(file).includes(`name: '${name}'`));
    const classes = architectures.map((each) => `\`${each}\``).join(', ');
    const ggufName = gguf === undefined ? '' : `\`${gguf.architecture}\``;
    return `| [${name}](../${source}) | ${classes} | ${ggufName} | ${summary} | ${proof(family, goldens.get(family), ggufCases)} |`;
  });
  return ['| family | `architectures` | GGUF | what it has beyond Llama 2 | proven by |', '|---|---|---|---|---|', ...rows];
}

function proof({ published = {} }, goldens, ggufCases) {
  goldens.sort();
  const asGguf = goldens.filter((name) => ggufCases.some((each) => each.name === name));
  const parts = [
    ['goldens', goldens],
    ['as GGUF', asGguf],
    ['vocabularies', published.vocabularies ?? []],
    ['templates', published.templates ?? []],
  ];
  const known = parts.filter(([, names]) => names.length > 0).map(([what, names]) => `${what} ${names.join(', ')}`);
  return known.join('; ') || 'nothing yet';
}

/** Text with the table's rows put between its marks; null when the marks are missing. */
export function withTable(text, name, rows) {
  const open = `<!-- table: ${name} -->`;
  const start = text.indexOf(open);
  const end = text.indexOf('<!-- end -->', start);
  if (start < 0 || end < 0) return null;
  return `${text.slice(0, start + open.length)}\n${rows.join('\n')}\n${text.slice(end)}`;
}

async function checkTables(write, problems) {
  for (const [name, { document, render }] of Object.entries(tables)) {
    const rows = await render();
    if (!exists(document)) {
      problems.push(`${document} is missing`);
      continue;
    }
    const text = read(document);
    const wanted = withTable(text, name, rows);
    if (wanted === null) problems.push(`${document} has no marks for the table "${name}"`);
    else if (wanted !== text && write) fs.writeFileSync(path.join(repository, document), wanted);
    else if (wanted !== text) problems.push(`${document}: the table "${name}" differs from the code; run node scripts/check-docs.mjs --write`);
  }
}

/** Rooms named in a folder map: lines such as `  base/   what it is` under `src/`. */
export function mappedRooms(markdown) {
  const block = /^src\/\n((?: {2}.*\n)+)/m.exec(markdown)?.[1] ?? '';
  return [...block.matchAll(/^ {2}([a-z-]+)\/ /gm)].map((match) => match[1]);
}

/** Folders of src with at least one file. */
export function roomsWithCode(root = repository) {
  const first = listFiles(root, ['src']).map((file) => file.split('/'));
  return [...new Set(first.filter((parts) => parts.length > 2).map((parts) => parts[1]))];
}

function checkMap(problems) {
  if (!exists('ARCHITECTURE.md')) {
    problems.push('ARCHITECTURE.md is missing');
    return;
  }
  const mapped = new Set(mappedRooms(read('ARCHITECTURE.md')));
  const rooms = new Set(roomsWithCode());
  for (const room of rooms) if (!mapped.has(room)) problems.push(`ARCHITECTURE.md does not show src/${room}/`);
  for (const room of mapped) if (!rooms.has(room)) problems.push(`ARCHITECTURE.md shows src/${room}/, which does not exist`);
}

/** Places that a document names as `file`: `symbol`. */
export function namedPlaces(markdown) {
  return [...markdown.matchAll(/`([\w./-]+\.(?:ts|cc|h))`: `(\w+)`/g)].map(([, file, symbol]) => ({ file, symbol }));
}

function checkPlaces(problems) {
  for (const { file, symbol } of namedPlaces(read('ARCHITECTURE.md'))) {
    if (!exists(file) || !new RegExp(`\\b${symbol}\\b`).test(read(file))) problems.push(`ARCHITECTURE.md: there is no ${symbol} in ${file}`);
  }
}

/** Targets of relative Markdown links, without anchors. */
export function relativeLinks(markdown) {
  const prose = markdown.replace(/```[\s\S]*?```/g, '').replace(/`[^`\n]*`/g, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1].replace(/#.*$/, '')).filter((link) => link !== '' && !/^[a-z]+:/.test(link));
}

function checkLinks(problems) {
  const top = fs.readdirSync(repository).filter((name) => name.endsWith('.md'));
  for (const file of listFiles(repository, [...top, 'docs'], (name) => name.endsWith('.md'))) {
    for (const link of relativeLinks(read(file))) {
      if (!exists(path.posix.join(path.posix.dirname(file), link))) problems.push(`${file}: the link to ${link} leads nowhere`);
    }
  }
}

/** Tests that a document names: a link to their file, a colon, and their title in quotes. */
export function namedTests(markdown) {
  return [...markdown.matchAll(/\]\(([^)\s]+\.test\.ts)\): "([^"]+)"/g)].map(([, file, title]) => ({ file, title }));
}

function checkTests(problems) {
  for (const document of listFiles(repository, ['docs'], (name) => name.endsWith('.md'))) {
    for (const { file, title } of namedTests(read(document))) {
      const place = path.posix.join(path.posix.dirname(document), file);
      if (exists(place) && !read(place).includes(title)) problems.push(`${document}: ${place} has no test "${title}"`);
    }
  }
}

export async function main(args) {
  const problems = [];
  await checkTables(args.includes('--write'), problems);
  checkMap(problems);
  checkPlaces(problems);
  checkLinks(problems);
  checkTests(problems);
  for (const problem of problems) console.error(problem);
  console.log(problems.length === 0 ? 'docs: true to the code' : `docs: ${problems.length} problems`);
  if (problems.length > 0) process.exitCode = 1;
}

if (isMain(import.meta.url)) await main(process.argv.slice(2));
