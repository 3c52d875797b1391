/** The model that comes with the package, against what transformers makes of the same files (written by pocket/evaluate.py). */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ChatTemplate } from '../../src/chat/template.ts';
import { type ChatMessage, LLM } from '../../src/index.ts';

interface Expected {
  readonly prompts: readonly {
    readonly messages: readonly ChatMessage[];
    readonly tools?: readonly unknown[];
    readonly enable_thinking?: boolean;
    readonly rendered: string;
  }[];
  readonly answers: readonly {
    readonly messages: readonly ChatMessage[];
    readonly tools?: readonly unknown[];
    readonly promptTokenIds: readonly number[];
    readonly tokenIds: readonly number[];
    /** Of the sibling. */
    readonly draftTokenIds: readonly number[];
  }[];
}

const pocket = path.join(import.meta.dirname, '..', '..', 'pocket');
const folder = path.join(pocket, 'model');
const draftFolder = path.join(pocket, 'draft');
const expected: Expected = JSON.parse(readFileSync(path.join(import.meta.dirname, 'expected.json'), 'utf8'));
let llm: LLM;

beforeAll(async () => {
  llm = await LLM.load({ model: folder, dtype: 'float32', kvCacheDtype: 'float32' });
});

afterAll(async () => {
  await llm?.close();
});

test('the pocket model says what it is and how large', () => {
  expect(existsSync(path.join(folder, 'model.safetensors'))).toBe(true);
  expect(llm.engine.model.notice).toMatch(/demonstration model of [\d.]+ million parameters/);
});

test('the chat template of the pocket model renders tools, calls, results and thoughts as Python does', () => {
  const source: string = JSON.parse(readFileSync(path.join(folder, 'tokenizer_config.json'), 'utf8')).chat_template;
  const template = ChatTemplate.compile(source, {});
  for (const { messages, tools, enable_thinking, rendered } of expected.prompts) {
    const kwargs = { enable_thinking: enable_thinking ?? false };
    expect(template.render(messages, { kwargs, ...(tools === undefined ? {} : { tools }) })).toBe(rendered);
  }
});

test('the pocket model answers greedily with the tokens of transformers', async () => {
  for (const { messages, tools, promptTokenIds, tokenIds } of expected.answers) {
    const result = await llm.chat(messages, { temperature: 0, maxTokens: 48 }, tools === undefined ? {} : { template: { tools } });
    expect([...result.promptTokenIds]).toEqual(promptTokenIds);
    expect(result.choices[0].tokenIds.filter((id) => id !== 0 && id !== 2)).toEqual(tokenIds);
  }
});

test('the sibling reads the same tokens, is 4 to 10 times smaller, and answers greedily with the tokens of transformers', async () => {
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    expect(readFileSync(path.join(draftFolder, name), 'utf8'), name).toBe(readFileSync(path.join(folder, name), 'utf8'));
  }
  await using draft = await LLM.load({ model: draftFolder, dtype: 'float32', kvCacheDtype: 'float32' });
  const ratio = llm.engine.model.numParameters / draft.engine.model.numParameters;
  expect(ratio).toBeGreaterThanOrEqual(4);
  expect(ratio).toBeLessThanOrEqual(10);
  for (const { messages, tools, draftTokenIds } of expected.answers) {
    const result = await draft.chat(messages, { temperature: 0, maxTokens: 48 }, tools === undefined ? {} : { template: { tools } });
    expect(result.choices[0].tokenIds.filter((id) => id !== 0 && id !== 2)).toEqual(draftTokenIds);
  }
});

test('both models together take less than 20 MB, in shards of 15 MiB at most', () => {
  const files = [folder, draftFolder].flatMap((where) => readdirSync(where).map((name) => path.join(where, name)));
  const sizes = files.map((file) => statSync(file).size);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(15 * 2 ** 20);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(20e6);
});
