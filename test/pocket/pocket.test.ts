/** The model that comes with the package, against what transformers makes of the same files (written by pocket/evaluate.py). */
import { existsSync, readFileSync } from 'node:fs';
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
  }[];
}

const folder = path.join(import.meta.dirname, '..', '..', 'pocket', 'model');
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
