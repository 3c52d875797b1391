/** Finds and reads the tokenizer of a model: a Hugging Face folder or the metadata of a GGUF file. */
import { statSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { openPlainFile } from '../base/open-plain-file.ts';
import { type TokenizerDefinition, tokenizerInvalid } from './definition.ts';
import { definitionFromGguf, type GgufMetadata } from './from-gguf.ts';
import { definitionFromJson } from './from-json.ts';
import { definitionFromModelFile } from './from-model-file.ts';
import { definitionFromMerges, definitionFromWordList, type SmallFiles } from './from-plain-files.ts';
import { definitionFromTiktoken, isTiktoken } from './from-tiktoken.ts';
import { HfTokenizer } from './hf-tokenizer.ts';
import { isObject } from './json-values.ts';
import type { Tokenizer } from './tokenizer.ts';
import { buildTokenizerData, type TokenizerData } from './tokenizer-data.ts';
import { vocabularyFiles } from './vocabulary-files.ts';

/** The largest known tokenizer.json is about 35 MB. */
const maxTokenizerBytes = 128 << 20;
const maxConfigBytes = 16 << 20;

/**
 * Reads `tokenizer.json`, else a SentencePiece model, a tiktoken vocabulary, `vocab.json` with `merges.txt` or `vocab.txt`, with `tokenizer_config.json`, the
 * small files beside it and the EOS ids of `generation_config.json`.
 * @param dir a Hugging Face model folder
 * @param extraEosIds further ids that end a generation
 * @throws TOKENIZER_INVALID when the folder holds no tokenizer or one that cannot be read
 */
export async function tokenizerFromFolder(dir: string, extraEosIds: readonly number[] = []): Promise<Tokenizer> {
  return tokenizerFromData(await tokenizerDataFromFolder(dir, extraEosIds));
}

/** What `tokenizerFromFolder` makes a tokenizer of. */
export async function tokenizerDataFromFolder(dir: string, extraEosIds: readonly number[] = []): Promise<TokenizerData> {
  const definition = await tokenizerDefinitionFromFolder(dir, extraEosIds);
  return guarded(() => buildTokenizerData(definition));
}

/** What the files of a folder say, before tables are built of it. @throws as `tokenizerFromFolder` */
export async function tokenizerDefinitionFromFolder(dir: string, extraEosIds: readonly number[] = []): Promise<TokenizerDefinition> {
  const config = (await readJson(join(dir, 'tokenizer_config.json'), maxConfigBytes)) ?? {};
  const eosIds = [...extraEosIds, ...generationEosIds(await readJson(join(dir, 'generation_config.json'), maxConfigBytes))];
  const json = await readJson(join(dir, 'tokenizer.json'), maxTokenizerBytes);
  if (json !== null) return guarded(() => definitionFromJson(json, config, eosIds));
  for (const name of vocabularyFiles.slice(1)) {
    const bytes = await readBounded(join(dir, name), maxTokenizerBytes);
    if (bytes === null) continue;
    const small = await readSmallFiles(dir, config);
    const merges = name === 'vocab.json' ? await readBounded(join(dir, 'merges.txt'), maxTokenizerBytes) : null;
    return guarded(() => definitionFromFile(name, bytes, merges, small, eosIds));
  }
  throw tokenizerInvalid(`No tokenizer was found in '${dir}'.`, { expected: `one of ${vocabularyFiles.join(', ')}` });
}

/**
 * @param metadata of the file, by key
 * @throws TOKENIZER_INVALID when the metadata hold no tokenizer or one that cannot be read
 */
export function tokenizerFromGguf(metadata: GgufMetadata | Readonly<Record<string, unknown>>, extraEosIds: readonly number[] = []): Tokenizer {
  return tokenizerFromData(tokenizerDataFromGguf(metadata, extraEosIds));
}

/** What `tokenizerFromGguf` makes a tokenizer of. */
export function tokenizerDataFromGguf(
  metadata: GgufMetadata | Readonly<Record<string, unknown>>,
  extraEosIds: readonly number[] = [],
): TokenizerData {
  const map = metadata instanceof Map ? metadata : new Map(Object.entries(metadata));
  return guarded(() => buildTokenizerData(definitionFromGguf(map, extraEosIds)));
}

/** @throws TOKENIZER_INVALID when a part of it cannot be used */
export function tokenizerFromData(data: TokenizerData): Tokenizer {
  return guarded(() => new HfTokenizer(data));
}

async function readSmallFiles(dir: string, config: unknown): Promise<SmallFiles> {
  const [specialTokens, addedTokens, model] = await Promise.all(
    ['special_tokens_map.json', 'added_tokens.json', 'config.json'].map((name) => readJson(join(dir, name), maxConfigBytes)),
  );
  return { config, specialTokens, addedTokens, modelType: isObject(model) ? model.model_type : undefined };
}

function definitionFromFile(name: string, bytes: Buffer, merges: Buffer | null, small: SmallFiles, eosIds: readonly number[]): TokenizerDefinition {
  if (name === 'vocab.txt') return definitionFromWordList(bytes.toString('utf8'), small, eosIds);
  if (name === 'vocab.json') {
    if (merges === null) throw tokenizerInvalid('There is a vocab.json without its merges.txt.', { hint: 'check that the download is complete' });
    return definitionFromMerges(JSON.parse(bytes.toString('utf8')) as unknown, merges.toString('utf8'), small, eosIds);
  }
  return isTiktoken(bytes) ? definitionFromTiktoken(bytes, name, small.config, eosIds) : definitionFromModelFile(bytes, name, small, eosIds);
}

/** Bytes of the file that `tokenizerFromFolder` parses; 0 when there is none. */
export function tokenizerBytesOfFolder(dir: string): number {
  for (const name of vocabularyFiles) {
    const found = statSync(join(dir, name), { throwIfNoEntry: false });
    if (found !== undefined) return found.size;
  }
  return 0;
}

/** @throws TOKENIZER_INVALID; what a malformed file trips over in a library becomes that as well */
function guarded<T>(build: () => T): T {
  try {
    return build();
  } catch (cause) {
    if (cause instanceof MillraceError) throw cause;
    const message = cause instanceof Error ? cause.message.slice(0, 400) : String(cause);
    throw tokenizerInvalid(`The tokenizer cannot be read: ${message}.`, { cause });
  }
}

function generationEosIds(config: unknown): number[] {
  const given = isObject(config) ? config.eos_token_id : undefined;
  return (Array.isArray(given) ? given : [given]).filter((id): id is number => Number.isInteger(id) && Number(id) >= 0);
}

/** @returns null when there is no such file */
async function readJson(path: string, maxBytes: number): Promise<unknown> {
  const bytes = await readBounded(path, maxBytes);
  if (bytes === null) return null;
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch (cause) {
    throw tokenizerInvalid(`'${path}' is not valid JSON.`, { cause });
  }
}

/** @returns null when there is no such file */
async function readBounded(path: string, maxBytes: number): Promise<Buffer | null> {
  let file: FileHandle;
  try {
    file = await openPlainFile(path);
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR')) return null;
    throw tokenizerInvalid(`'${path}' cannot be opened.`, { cause });
  }
  try {
    const { size } = await file.stat();
    if (size > maxBytes) throw tokenizerInvalid(`'${path}' is too large.`, { expected: `at most ${maxBytes} bytes`, received: `${size}` });
    return await file.readFile();
  } catch (cause) {
    throw cause instanceof MillraceError ? cause : tokenizerInvalid(`'${path}' cannot be read.`, { cause });
  } finally {
    await file.close();
  }
}
