/** The tokenizer and the chat templates of a model as metadata of a GGUF file. */
import { templateTextsOfFolder } from '../chat/load-template.ts';
import type { TokenizerDefinition } from '../tokenizer/definition.ts';
import { definitionFromGguf } from '../tokenizer/from-gguf.ts';
import { tokenizerBytesOfFolder, tokenizerDefinitionFromFolder } from '../tokenizer/load-tokenizer.ts';
import { tokenizerToGguf } from '../tokenizer/to-gguf.ts';
import { GgufFile } from '../weights/gguf.ts';
import { openModelFiles } from '../weights/model-files.ts';
import type { GgufEntry } from './gguf-writer.ts';

/** Files of a folder whose model starts or ends texts by numbers of its configuration. */
type Fields = Readonly<Record<string, unknown>>;

/**
 * @param path of the model, folder or file
 * @returns nothing for a model without tokenizer
 * @throws TOKENIZER_INVALID when a GGUF file cannot say what the tokenizer does
 */
export async function tokenizerEntries(path: string, vocabSize: number): Promise<Map<string, GgufEntry>> {
  const files = openModelFiles(path);
  if (files.kind === 'gguf') {
    files.gguf.close();
    return entriesOfFile(path, vocabSize);
  }
  if (tokenizerBytesOfFolder(path) === 0) return new Map();
  const config = (files.config ?? {}) as Fields;
  const generation = (files.generationConfig ?? {}) as Fields;
  const definition = await tokenizerDefinitionFromFolder(path, idsOf(generation.eos_token_id ?? config.eos_token_id));
  const { pad_token: pad } = (files.tokenizerConfig ?? {}) as Fields;
  return entriesOf(definition, vocabSize, await templateTextsOfFolder(path), pad);
}

function entriesOfFile(path: string, vocabSize: number): Map<string, GgufEntry> {
  const gguf = GgufFile.open(path);
  try {
    const { metadata } = gguf;
    if (!metadata.has('tokenizer.ggml.model')) return new Map();
    const key = 'tokenizer.chat_template';
    const templates = new Map<string, string>();
    for (const [name, text] of metadata) {
      if (typeof text === 'string' && (name === key || name.startsWith(`${key}.`)))
        templates.set(name === key ? 'default' : name.slice(key.length + 1), text);
    }
    const definition = definitionFromGguf(metadata);
    const pad = metadata.get('tokenizer.ggml.padding_token_id');
    return entriesOf(definition, vocabSize, templates, typeof pad === 'number' ? definition.tokens[pad] : undefined);
  } finally {
    gguf.close();
  }
}

function entriesOf(definition: TokenizerDefinition, vocabSize: number, templates: ReadonlyMap<string, string>, pad: unknown): Map<string, GgufEntry> {
  const entries = new Map<string, GgufEntry>(tokenizerToGguf(definition, vocabSize));
  const spelling: unknown = typeof pad === 'object' && pad !== null && 'content' in pad ? pad.content : pad;
  const padId = typeof spelling === 'string' ? definition.tokens.indexOf(spelling) : -1;
  if (padId >= 0) entries.set('tokenizer.ggml.padding_token_id', ['u32', padId]);
  for (const [name, text] of templates) {
    entries.set(name === 'default' ? 'tokenizer.chat_template' : `tokenizer.chat_template.${name}`, ['string', text]);
  }
  return entries;
}

function idsOf(value: unknown): number[] {
  return (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isInteger(id) && Number(id) >= 0);
}
