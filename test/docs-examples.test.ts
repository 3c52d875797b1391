/**
 * The examples of README.md and docs/, as they stand there: programs run on the pocket model, with its path and the server's address put in; command lines
 * are understood by the commands, and scripts that they name are there. A program that is new fails until it is said here how it is tried.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { processContext } from '../src/cli/context.ts';
import { createProgram } from '../src/cli/program.ts';
import { Api, type Json } from './api/api.ts';

const root = path.resolve(import.meta.dirname, '..');

interface Block {
  /** `README.md 1`: the first in its language there. */
  readonly name: string;
  readonly code: string;
}

function blocksOf(language: string): readonly Block[] {
  const documents = fs.readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.md'));
  const files = ['README.md', 'CONTRIBUTING.md', ...documents.map((file) => `docs/${file}`).sort()];
  return files.flatMap((file) => {
    const found = fs.readFileSync(path.join(root, file), 'utf8').matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'));
    return [...found].map(([, code], at) => ({ name: `${file} ${at + 1}`, code: code ?? '' }));
  });
}

let api: Api;
let folder: string;
beforeAll(async () => {
  api = await Api.open();
  fs.mkdirSync(path.join(root, 'build'), { recursive: true });
  folder = fs.mkdtempSync(path.join(root, 'build/examples-'));
});
afterAll(async () => {
  fs.rmSync(folder, { recursive: true });
  await api?.[Symbol.asyncDispose]();
});

const entries: Readonly<Record<string, string>> = {
  millrace: 'src/index.ts',
  'millrace/fetch': 'src/fetch/index.ts',
  'millrace/ai-sdk': 'src/ai-sdk/index.ts',
  'millrace/langchain': 'src/langchain/index.ts',
  'millrace/mcp': 'src/mcp/index.ts',
};
const source = (entry: string) => pathToFileURL(path.join(root, entries[entry] ?? entry)).href;
const loadsPocket = `import { LLM } from 'millrace'; const llm = await LLM.load('path/to/model');`;

/** What a program has around it in the reader's own, and what is seen of it. */
interface Trial {
  readonly before?: string;
  readonly after?: string;
  /** @param exported by the program; `printed` is its output */
  check(exported: Json, printed: string): unknown;
}

const prints: Trial = { check: (_, printed) => expect(printed.trim().length).toBeGreaterThan(5) };
const question = { messages: [{ role: 'user', content: 'How are you?' }], max_tokens: 8 };
const asked = (url: string) => new Request(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(question) });

const trials: Readonly<Record<string, Trial>> = {
  'README.md 1': prints,
  'README.md 2': prints,
  'docs/api.md 1': prints,
  'docs/api.md 2': {
    before: `import { Hono } from 'hono'; import createExpress from 'express'; export const hono = new Hono(); export const express = createExpress();`,
    after: 'export { api, llm };',
    check: async ({ hono, express, POST, GET, api: handler, llm }) => {
      const listening = express.listen(0, '127.0.0.1');
      await new Promise((resolve) => listening.once('listening', resolve));
      const at = '/llm/v1/chat/completions';
      const answers: Response[] = [
        await hono.request(asked(`http://a.example${at}`)),
        await POST(asked(`http://a.example${at}`)),
        await fetch(asked(`http://127.0.0.1:${listening.address().port}${at}`)),
      ];
      for (const answer of answers) expect(((await answer.json()) as Json).choices[0].message.content.length).toBeGreaterThan(0);
      expect(((await (await GET(new Request('http://a.example/llm/v1/models'))).json()) as Json).data).toContainEqual(
        expect.objectContaining({ id: 'my-model' }),
      );
      await new Promise((resolve) => listening.close(resolve));
      await handler.close();
      await llm.close();
    },
  },
  'docs/api.md 3': {
    before: `${loadsPocket} import { generateText } from 'ai'; import { createMillrace } from 'millrace/ai-sdk'; import { ChatMillrace } from 'millrace/langchain';`,
    after: 'export { text, answer }; await llm.close();',
    check: ({ text, answer }) => expect([text.length > 0, answer.content.length > 0]).toEqual([true, true]),
  },
  'docs/sampling.md 1': {
    before: `${loadsPocket} const { engine } = llm; const prompt = 'Once upon a time';`,
    after: 'export { answer }; await llm.close();',
    check: ({ answer }) => expect(answer.choices[0].tokenIds).not.toContain(13),
  },
};

test('it is said how each program is tried, and of no other', () => {
  expect(blocksOf('ts').map(({ name }) => name)).toEqual(Object.keys(trials));
});

test.each(blocksOf('ts').map((block) => [block.name, block.code] as const))('the program %s runs', async (name, code) => {
  const { before = '', after = '', check } = trials[name] ?? prints;
  const program = `${before}\n${code}\n${after}\nexport {};\n`
    .replaceAll(/from '(millrace[\w/-]*)'/g, (_, entry: string) => `from '${source(entry)}'`)
    .replaceAll("'path/to/model'", JSON.stringify(path.join(root, 'pocket/model')))
    .replaceAll('http://127.0.0.1:8000', api.url)
    .replaceAll("model: 'my-model'", "model: 'pocket'");
  const file = path.join(folder, `${name.replaceAll(/\W+/g, '-')}.ts`);
  fs.writeFileSync(file, program);
  let printed = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((piece) => {
    printed += String(piece);
    return true;
  });
  const log = vi.spyOn(console, 'log').mockImplementation((...words) => {
    printed += `${words.join(' ')}\n`;
  });
  let exported: Json;
  try {
    exported = await import(pathToFileURL(file).href);
  } finally {
    write.mockRestore();
    log.mockRestore();
  }
  await check(exported, printed);
});

/** Lines of shell, continued ones joined, without what is said of them. */
const lines = blocksOf('sh').flatMap(({ name, code }) =>
  code
    .replaceAll('\\\n', ' ')
    .split('\n')
    .map((line) => line.replace(/(^|\s)#\s.*$/, '').trim())
    .filter((line) => line !== '')
    .map((line) => [name, line] as const),
);
const words = (line: string) => (line.match(/"[^"]*"|'[^']*'|\S+/g) ?? []).map((word) => word.replace(/^(["'])(.*)\1$/, '$2'));

function withoutActions(command: Command): Command {
  command.action(() => undefined);
  for (const each of command.commands) if (each.commands.length === 0) each.action(() => undefined);
  for (const each of command.commands) if (each.commands.length > 0) withoutActions(each as Command);
  return command;
}

test.each(lines.filter(([, line]) => line.startsWith('millrace ')))('%s: %s', async (_, line) => {
  const [, ...args] = words(line);
  await withoutActions(createProgram(processContext())).parseAsync(args, { from: 'user' });
});

test.each(lines.filter(([, line]) => line.startsWith('curl ')))('%s: %s', async (_, line) => {
  const { stdout } = await promisify(execFile)('sh', ['-c', line.replaceAll('http://127.0.0.1:8000', api.url)]);
  expect(JSON.parse(stdout).choices[0].message.content.length).toBeGreaterThan(0);
});

test.each(lines.filter(([, line]) => !/^(millrace|curl) /.test(line)))('%s: what %s names is there', (_, line) => {
  const { scripts } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
  const all = words(line);
  for (const file of all.filter((word) => /^\.?[\w.-]+\/[\w./-]+\.(ts|mjs|py)$|^\.ci\/run$/.test(word)))
    expect(fs.existsSync(path.join(root, file)), file).toBe(true);
  const at = all.indexOf('npm');
  if (at >= 0 && all[at + 1] !== 'ci') expect(Object.keys(scripts)).toContain(all[at + 1] === 'run' ? all[at + 2] : all[at + 1]);
});
