/** The example of retrieval-augmented generation: what is found, how the model is told, and what it answers from it. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask, passagesOf, type Search, searchByMeaning, searchByWords } from '../examples/rag/rag.ts';
import { Encoder, LLM } from '../src/index.ts';

const root = path.join(import.meta.dirname, '..');
const model = path.join(root, 'pocket/model');
const passages = passagesOf(readFileSync(path.join(root, 'examples/rag/documents.txt'), 'utf8'));
let llm: LLM;
let search: Search;
beforeAll(async () => {
  llm = await LLM.load(model);
  search = searchByWords(passages);
});
afterAll(() => llm?.close());

test.each([
  ['Where does Rimu live?', 'Rimu lives in Zetebu.', /Zetebu/],
  ['What does Rimu do for work?', 'Rimu works as a baker.', /baker/],
  ['How much does the lamp cost?', 'The lamp costs 14 dollars.', /14/],
  ['Where is the bicycle?', 'The bicycle is in the garage.', /garage/],
])('%s', async (question, passage, expected) => {
  const found = await ask(llm, search, question);
  expect(found.passages.map(({ text }) => text)).toContain(passage);
  expect(found.passages.length).toBeLessThanOrEqual(3);
  expect(found.usedTemplate).toBe(false);
  expect(found.text).toMatch(expected);
  // Without the passages it cannot know.
  expect((await ask(llm, async () => [], question)).text).not.toMatch(expected);
});

test('a template that takes documents is given the passages as such', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'millrace-rag-'));
  const chatTemplate = path.join(folder, 'template.jinja');
  const own: string = JSON.parse(readFileSync(path.join(model, 'tokenizer_config.json'), 'utf8')).chat_template;
  // The passages go in front of what the user says, as the model has learned it.
  const shown = own.replace(
    "message.role + '\\n' + message.content",
    "message.role + '\\n' + (documents | map(attribute='text') | join(' ') + ' ' if documents else '') + message.content",
  );
  expect(shown).not.toBe(own);
  writeFileSync(chatTemplate, shown);
  try {
    await using other = await LLM.load({ model, chatTemplate });
    const found = await ask(other, search, 'Where does Rimu live?');
    expect(found.usedTemplate).toBe(true);
    expect(found.text).toBe((await ask(llm, search, 'Where does Rimu live?')).text);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('an encoder ranks by its pooled states: a passage is nearest to itself', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'millrace-rag-'));
  for (const name of ['config.json', 'model.safetensors']) copyFileSync(path.join(root, 'test/golden/bert', name), path.join(folder, name));
  // Random weights, and a vocabulary of letters: near is only what is written alike.
  const letters = [...'abcdefghijklmnopqrstuvwxyz0123456789.?'];
  writeFileSync(
    path.join(folder, 'vocab.txt'),
    ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...letters, ...letters.map((each) => `##${each}`)].join('\n'),
  );
  const encoder = await Encoder.load({ model: folder });
  const byMeaning = await searchByMeaning(encoder, passages);
  for (const passage of passages.slice(0, 4)) expect((await byMeaning(passage.text, 1))[0]).toEqual(passage);
  await encoder.close();
  rmSync(folder, { recursive: true });
});

test('the example runs', async () => {
  const args = ['--import', 'tsx', 'examples/rag/main.ts', 'Where does Tovo live?'];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { cwd: root });
  expect(stdout).toMatch(/Kalari/);
  expect(stderr).toContain('Tovo lives in Kalari.');
});
