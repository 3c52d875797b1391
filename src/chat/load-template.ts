/** Finds the chat template of a model: beside a Hugging Face tokenizer, in GGUF metadata, or in a file that the user names. */
import { type FileHandle, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { openPlainFile } from '../base/open-plain-file.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { ChatTemplate, type SpecialTokens } from './template.ts';

const maxFileBytes = 16 << 20;
const specialNames = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'cls_token', 'sep_token', 'mask_token'];

/**
 * Reads `chat_template.jinja` with `additional_chat_templates/*.jinja`, else `chat_template.json`, else `chat_template` of `tokenizer_config.json`.
 * @param override a file that takes the place of all these
 * @returns null when the folder has no template
 * @throws MODEL_CONFIG_INVALID for a template that cannot be read or parsed
 */
export async function chatTemplateFromFolder(dir: string, tokenizer: Tokenizer, override?: string): Promise<ChatTemplate | null> {
  const config = await readJsonObject(join(dir, 'tokenizer_config.json'));
  const specialTokens = { ...tokensOf(tokenizer), ...tokensOfConfig(config) };
  const templates = override === undefined ? await templatesOfFolder(dir, config) : new Map([['default', await readOverride(override)]]);
  return templates.size === 0 ? null : ChatTemplate.compile(templates, specialTokens);
}

/**
 * @param metadata of a GGUF file, by key
 * @param override a file that takes the place of the template in the metadata
 * @returns null when the file has no template
 * @throws MODEL_CONFIG_INVALID for a template that cannot be read or parsed
 */
export async function chatTemplateFromGguf(
  metadata: ReadonlyMap<string, unknown>,
  tokenizer: Tokenizer,
  override?: string,
): Promise<ChatTemplate | null> {
  const specialTokens = {
    ...tokensOf(tokenizer),
    ...tokenOfId(metadata, 'unknown', 'unk_token', tokenizer),
    ...tokenOfId(metadata, 'padding', 'pad_token', tokenizer),
  };
  if (override !== undefined) return ChatTemplate.compile(await readOverride(override), specialTokens);
  const templates = new Map<string, string>();
  const prefix = 'tokenizer.chat_template';
  for (const [key, value] of metadata) {
    if (typeof value !== 'string' || !(key === prefix || key.startsWith(`${prefix}.`))) continue;
    templates.set(key === prefix ? 'default' : key.slice(prefix.length + 1), value);
  }
  return templates.size === 0 ? null : ChatTemplate.compile(templates, specialTokens);
}

/** The templates of a folder as they are written, by name; `default` is the one that is used unasked. */
export async function templateTextsOfFolder(dir: string): Promise<ReadonlyMap<string, string>> {
  return templatesOfFolder(dir, await readJsonObject(join(dir, 'tokenizer_config.json')));
}

async function templatesOfFolder(dir: string, config: Readonly<Record<string, unknown>>): Promise<Map<string, string>> {
  const templates = new Map<string, string>();
  const file = await readText(join(dir, 'chat_template.jinja'));
  if (file !== null) {
    templates.set('default', file);
    const more = join(dir, 'additional_chat_templates');
    for (const name of await namesIn(more)) {
      const text = name.endsWith('.jinja') ? await readText(join(more, name)) : null;
      if (text !== null) templates.set(basename(name, '.jinja'), text);
    }
    return templates;
  }
  const given = (await readJsonObject(join(dir, 'chat_template.json'))).chat_template ?? config.chat_template;
  if (typeof given === 'string') templates.set('default', given);
  if (Array.isArray(given)) {
    for (const entry of given.slice(0, 64) as unknown[]) {
      if (typeof entry !== 'object' || entry === null || !('name' in entry) || !('template' in entry)) continue;
      if (typeof entry.name === 'string' && typeof entry.template === 'string') templates.set(entry.name, entry.template);
    }
  }
  return templates;
}

function tokensOf(tokenizer: Tokenizer): SpecialTokens {
  const [eosTokenId] = tokenizer.eosTokenIds;
  return {
    ...(tokenizer.bosTokenId === null ? {} : { bos_token: tokenizer.tokenText(tokenizer.bosTokenId) }),
    ...(eosTokenId === undefined ? {} : { eos_token: tokenizer.tokenText(eosTokenId) }),
  };
}

/** Also `extra_special_tokens`, which multimodal templates name. */
function tokensOfConfig(config: Readonly<Record<string, unknown>>): SpecialTokens {
  const tokens: Record<string, string> = {};
  const extra =
    typeof config.extra_special_tokens === 'object' && config.extra_special_tokens !== null ? Object.entries(config.extra_special_tokens) : [];
  for (const [name, value] of [...extra, ...specialNames.map((name): [string, unknown] => [name, config[name]])]) {
    const spelling: unknown = typeof value === 'object' && value !== null && 'content' in value ? value.content : value;
    if (typeof spelling === 'string') tokens[name] = spelling;
  }
  return tokens;
}

function tokenOfId(metadata: ReadonlyMap<string, unknown>, key: string, name: string, tokenizer: Tokenizer): SpecialTokens {
  const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
  return typeof id === 'number' && id >= 0 && id < tokenizer.vocabSize ? { [name]: tokenizer.tokenText(id) } : {};
}

async function readOverride(path: string): Promise<string> {
  const text = await readText(path);
  if (text !== null) return text;
  throw new MillraceError('MODEL_CONFIG_INVALID', { message: `The chat template '${path}' does not exist.`, hint: 'check --chat-template' });
}

async function readJsonObject(path: string): Promise<Readonly<Record<string, unknown>>> {
  const text = await readText(path);
  if (text === null) return {};
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
  } catch (cause) {
    throw new MillraceError('MODEL_CONFIG_INVALID', { message: `'${path}' is not valid JSON.`, cause });
  }
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return (await readdir(dir)).sort().slice(0, 64);
  } catch {
    return [];
  }
}

/** @returns null when there is no such file */
async function readText(path: string): Promise<string | null> {
  let file: FileHandle;
  try {
    file = await openPlainFile(path);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR')) return null;
    throw new MillraceError('MODEL_CONFIG_INVALID', { message: `'${path}' cannot be opened.`, cause });
  }
  try {
    const { size } = await file.stat();
    if (size > maxFileBytes)
      throw new MillraceError('MODEL_CONFIG_INVALID', {
        message: `'${path}' is too large.`,
        expected: `at most ${maxFileBytes} bytes`,
        received: `${size}`,
      });
    return await file.readFile('utf8');
  } catch (cause) {
    throw cause instanceof MillraceError ? cause : new MillraceError('MODEL_CONFIG_INVALID', { message: `'${path}' cannot be read.`, cause });
  } finally {
    await file.close();
  }
}
