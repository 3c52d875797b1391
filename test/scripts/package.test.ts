/**
 * The package as it would be published: built, packed, unpacked into an empty folder, imported by every name that it exports, its types read by both ways
 * of resolving modules, its command run. Dependencies are those of this repository, linked: nothing is downloaded.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

const repository = path.resolve(import.meta.dirname, '..', '..');
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-package-'));
const consumer = path.join(scratch, 'consumer');
const installed = path.join(consumer, 'node_modules', 'millrace');
const run = promisify(execFile);
const tsc = path.join(repository, 'node_modules', '.bin', 'tsc');
const manifest = JSON.parse(fs.readFileSync(path.join(repository, 'package.json'), 'utf8')) as {
  version: string;
  files: string[];
  exports: Record<string, unknown>;
  dependencies: Record<string, string>;
};
let packed: readonly string[] = [];

beforeAll(async () => {
  const staging = path.join(scratch, 'staging');
  fs.mkdirSync(staging);
  fs.copyFileSync(path.join(repository, 'package.json'), path.join(staging, 'package.json'));
  for (const name of manifest.files.filter((each) => each !== 'dist'))
    fs.cpSync(path.join(repository, name), path.join(staging, name), { recursive: true });
  await run(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', path.join(staging, 'dist'), '--sourceMap', 'false'], {
    cwd: repository,
  });
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', scratch], { cwd: staging, maxBuffer: 1 << 26 });
  const [{ filename, files }] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }];
  packed = files.map((file) => file.path);
  fs.mkdirSync(path.dirname(installed), { recursive: true });
  await run('tar', ['-xzf', path.join(scratch, filename), '-C', scratch]);
  fs.renameSync(path.join(scratch, 'package'), installed);
  // As an installation would: what the package depends on, what it may use beside it, and what a consumer brings along.
  const others = fs.readdirSync(path.join(repository, 'node_modules')).filter((name) => !name.startsWith('.') && name !== 'millrace');
  for (const name of others) fs.symlinkSync(path.join(repository, 'node_modules', name), path.join(consumer, 'node_modules', name));
  fs.writeFileSync(path.join(consumer, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
}, 300_000);
afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }));

test('the package holds what runs, and neither tests nor TypeScript', () => {
  expect(packed).toEqual(expect.arrayContaining(['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js', 'pocket/model/config.json', 'LICENSE']));
  expect(packed.filter((name) => /\.test\.|(?<!\.d)\.ts$|^(src|test|\.ci)\//.test(name))).toEqual([]);
});

test('every exported name is imported, and the library generates', async () => {
  const names = Object.keys(manifest.exports).map((name) => path.posix.join('millrace', name));
  fs.writeFileSync(
    path.join(consumer, 'all.mjs'),
    `const found = {};
for (const name of ${JSON.stringify(names)}) {
  const options = name.endsWith('.json') ? { with: { type: 'json' } } : undefined;
  found[name] = Object.keys(await import(name, options));
}
const { LLM, version } = await import('millrace');
const { createFetchHandler } = await import('millrace/fetch');
const { createMillrace } = await import('millrace/ai-sdk');
const llm = await LLM.load({ model: ${JSON.stringify(path.join(installed, 'pocket/model'))}, backend: 'reference', maxModelLen: 128 });
const { choices } = await llm.generate('Once upon a time', { maxTokens: 3, temperature: 0 });
const api = await createFetchHandler(new Map([['pocket', llm.engine]]));
const health = await api.fetch(new Request('http://x/health'));
console.log(JSON.stringify({ found, version, text: choices[0].text, health: health.status, provider: createMillrace(llm.engine)().provider }));
await api.close();
await llm.close();
`,
  );
  const { stdout } = await run(process.execPath, ['--no-warnings', 'all.mjs'], { cwd: consumer });
  const told = JSON.parse(stdout) as { found: Record<string, string[]>; version: string; text: string; health: number; provider: string };
  expect(Object.keys(told.found)).toEqual(names);
  for (const exported of Object.values(told.found)) expect(exported.length).toBeGreaterThan(0);
  expect(told.found.millrace).toEqual(expect.arrayContaining(['LLM', 'Encoder', 'MillraceError', 'errorTable', 'loadEngine', 'version']));
  expect([told.version, told.health, told.text.length > 0]).toEqual([manifest.version, 200, true]);
}, 120_000);

const program = `
import { LLM, MillraceError, type ErrorCode, type GenerationResult, type RequestStream } from 'millrace';
import { createMillrace } from 'millrace/ai-sdk';
import { createFetchHandler, type FetchHandler } from 'millrace/fetch';
import { ChatMillrace } from 'millrace/langchain';
import { generateText } from 'ai';
import { z } from 'zod';

export async function main(): Promise<string> {
  await using llm = await LLM.load({ model: 'x', backend: 'reference' });
  const stream: RequestStream = llm.generate('Hello', { maxTokens: 3, temperature: 0 });
  const result: GenerationResult = await stream;
  const person = await llm.object({ schema: z.object({ name: z.string(), age: z.number() }), prompt: 'x' });
  const name: string = person.name;
  // @ts-expect-error the type of the schema is known
  const wrong: number = person.name;
  // @ts-expect-error a field that there is not
  llm.generate('Hello', { maxTokenz: 3 });
  const handler: FetchHandler = await createFetchHandler(new Map([['x', llm.engine]]));
  const response: Response = await handler.fetch(new Request('http://x/health'));
  const { text } = await generateText({ model: createMillrace(llm.engine)(), prompt: 'x' });
  const answer = await new ChatMillrace({ engine: llm.engine }).invoke('x');
  const code: ErrorCode = new MillraceError('REQUEST_INVALID', 'x').code;
  // @ts-expect-error a code that there is not
  const other: ErrorCode = 'NO_SUCH_CODE';
  return [name, wrong, text, answer.text, code, other, response.status, result.choices[0]?.text].join();
}
`;

test.each([
  ['nodenext', 'nodenext'],
  ['bundler', 'esnext'],
])(
  'its types are found by moduleResolution %s',
  async (moduleResolution, module) => {
    fs.writeFileSync(path.join(consumer, 'consumer.ts'), program);
    const compilerOptions = { target: 'es2022', lib: ['es2023', 'esnext.disposable', 'dom'], module, moduleResolution, strict: true, noEmit: true };
    // Without skipLibCheck our declarations would be checked too, and with them those of everybody else.
    const config = { compilerOptions: { ...compilerOptions, skipLibCheck: true, types: ['node'] }, include: ['consumer.ts'] };
    fs.writeFileSync(path.join(consumer, 'tsconfig.json'), JSON.stringify(config));
    const { stdout } = await run(process.execPath, [tsc, '-p', '.'], { cwd: consumer }).catch((failed: { stdout: string }) => failed);
    expect(stdout).toBe('');
  },
  120_000,
);

test('the command runs', async () => {
  const main = path.join(installed, 'dist', 'cli', 'main.js');
  expect(fs.readFileSync(main, 'utf8').startsWith('#!/usr/bin/env node')).toBe(true);
  expect((await run(process.execPath, [main, '--version'], { cwd: consumer })).stdout.trim()).toBe(manifest.version);
  const args = [
    main,
    'run',
    '--backend',
    'reference',
    '--model',
    path.join(installed, 'pocket/model'),
    '--max-tokens',
    '3',
    '--temperature',
    '0',
    'Once',
  ];
  const { stdout } = await run(process.execPath, args, { cwd: consumer, env: { ...process.env, NO_COLOR: '1' } });
  expect(stdout.trim().length).toBeGreaterThan(0);
}, 120_000);
