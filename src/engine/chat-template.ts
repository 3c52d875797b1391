/** Finds the chat template of a model and compiles it. */
import { ChatTemplate, type TemplateSource } from '../chat/template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { HuggingFaceFiles } from '../weights/model-files.ts';
import type { ChatRenderer } from './input.ts';

/** From `chat_template.jinja`, else `tokenizer_config.json`. @throws MODEL_CONFIG_INVALID */
export function chatTemplateFromFolder(files: HuggingFaceFiles, tokenizer: Tokenizer): ChatRenderer | null {
  const config = (typeof files.tokenizerConfig === 'object' && files.tokenizerConfig !== null ? files.tokenizerConfig : {}) as Record<string, unknown>;
  const source = files.chatTemplate ?? sourceOf(config.chat_template);
  return source === null ? null : ChatTemplate.compile(source, specialTokens(config, tokenizer));
}

/** From `tokenizer.chat_template`. @throws MODEL_CONFIG_INVALID */
export function chatTemplateFromGguf(metadata: ReadonlyMap<string, unknown>, tokenizer: Tokenizer): ChatRenderer | null {
  const source = sourceOf(metadata.get('tokenizer.chat_template'));
  return source === null ? null : ChatTemplate.compile(source, specialTokens({}, tokenizer));
}

/** One text, or a list of `{ name, template }`. */
function sourceOf(value: unknown): TemplateSource | null {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return null;
  const named = new Map<string, string>();
  for (const entry of value as unknown[]) {
    const { name, template } = (entry ?? {}) as Record<string, unknown>;
    if (typeof name === 'string' && typeof template === 'string') named.set(name, template);
  }
  return named.size === 0 ? null : named;
}

function specialTokens(config: Readonly<Record<string, unknown>>, tokenizer: Tokenizer): Record<string, string> {
  const tokens: Record<string, string> = {};
  if (tokenizer.bosTokenId !== null) tokens.bos_token = tokenizer.tokenText(tokenizer.bosTokenId);
  if (tokenizer.eosTokenIds.length > 0) tokens.eos_token = tokenizer.tokenText(tokenizer.eosTokenIds[0]);
  for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token']) {
    const value = config[name];
    const text: unknown = typeof value === 'object' && value !== null ? (value as Record<string, unknown>).content : value;
    if (typeof text === 'string') tokens[name] = text;
  }
  return tokens;
}
