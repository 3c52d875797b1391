import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadTokenizer } from '../../test/fixtures/tokenizers.ts';
import { chatTemplateFromFolder, chatTemplateFromGguf } from './load-template.ts';

const tokenizer = await loadTokenizer('byte-level');
const temporary = mkdtempSync(join(tmpdir(), 'millrace-template-'));
afterAll(() => rmSync(temporary, { recursive: true, force: true }));

function write(files: Record<string, unknown>): string {
  const dir = mkdtempSync(join(temporary, 'model-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return dir;
}

const messages = [{ role: 'user', content: 'x' }];
const tools = [{ type: 'function' }];
const invalid = { code: 'MODEL_CONFIG_INVALID' };

test('chat_template.jinja counts before tokenizer_config.json, with named templates beside it', async () => {
  const dir = write({
    'tokenizer_config.json': { chat_template: 'config', bos_token: { content: '<B>' } },
    'chat_template.jinja': 'file {{ bos_token }}{{ eos_token }}',
    'additional_chat_templates/tool_use.jinja': 'tools',
  });
  const template = await chatTemplateFromFolder(dir, tokenizer);
  expect(template?.render(messages)).toBe('file <B><|im_end|>');
  expect(template?.render(messages, { tools })).toBe('tools');
});

test('tokenizer_config.json may hold one template or a list of named ones', async () => {
  expect((await chatTemplateFromFolder(write({ 'tokenizer_config.json': { chat_template: 'one' } }), tokenizer))?.render(messages)).toBe('one');
  const list = [{ name: 'default', template: 'one' }, { name: 'tool_use', template: 'two' }, 7];
  const template = await chatTemplateFromFolder(write({ 'tokenizer_config.json': { chat_template: list } }), tokenizer);
  expect([template?.render(messages), template?.render(messages, { tools })]).toEqual(['one', 'two']);
  expect((await chatTemplateFromFolder(write({ 'chat_template.json': { chat_template: 'three' } }), tokenizer))?.render(messages)).toBe('three');
});

test('a file that the user names takes the place of all others', async () => {
  const dir = write({ 'chat_template.jinja': 'model', 'mine.jinja': 'mine' });
  expect((await chatTemplateFromFolder(dir, tokenizer, join(dir, 'mine.jinja')))?.render(messages)).toBe('mine');
  await expect(chatTemplateFromFolder(dir, tokenizer, join(dir, 'missing.jinja'))).rejects.toMatchObject(invalid);
  const metadata = new Map([['tokenizer.chat_template', 'model']]);
  expect((await chatTemplateFromGguf(metadata, tokenizer, join(dir, 'mine.jinja')))?.render(messages)).toBe('mine');
});

test('GGUF metadata hold a template and named ones, and name the special tokens by id', async () => {
  const metadata = new Map<string, unknown>([
    ['tokenizer.chat_template', '{{ bos_token }}{{ eos_token }}{{ pad_token }}'],
    ['tokenizer.chat_template.tool_use', 'tools'],
    ['tokenizer.ggml.padding_token_id', tokenizer.tokenId('<|im_start|>')],
  ]);
  const template = await chatTemplateFromGguf(metadata, tokenizer);
  expect(template?.render(messages)).toBe('<|begin|><|im_end|><|im_start|>');
  expect(template?.render(messages, { tools })).toBe('tools');
});

test('a model without a template has none', async () => {
  expect(await chatTemplateFromFolder(write({}), tokenizer)).toBeNull();
  expect(await chatTemplateFromGguf(new Map([['tokenizer.chat_template', 7]]), tokenizer)).toBeNull();
});

test('broken files are refused with a clear error', async () => {
  await expect(chatTemplateFromFolder(write({ 'tokenizer_config.json': '{' }), tokenizer)).rejects.toMatchObject(invalid);
  await expect(chatTemplateFromFolder(write({ 'chat_template.jinja': '{% if %}' }), tokenizer)).rejects.toMatchObject(invalid);
});
