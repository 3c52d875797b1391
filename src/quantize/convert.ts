/**
 * `millrace convert`: a model, Hugging Face folder or GGUF file, as a folder of safetensors or a GGUF file that is read as it stands, weights rounded on the way
 * if asked. A tensor at a time is held; the result appears under its name only when it is whole.
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { templateTextsOfFolder } from '../chat/load-template.ts';
import { openModel } from '../engine/open-model.ts';
import { fetchModel } from '../hub/fetch-model.ts';
import { ggufToHf } from '../models/index.ts';
import { checkTokenizerFolder, tokenizerToFolder } from '../tokenizer/to-folder.ts';
import { GgufFile } from '../weights/gguf.ts';
import { type HuggingFaceFiles, openModelFiles } from '../weights/model-files.ts';
import { configOf, type FolderOutput, folderOutput, folderOutputOfGguf, type Given } from './folder-output.ts';
import type { FormatChoice } from './format-choice.ts';
import { ggufContent } from './gguf-output.ts';
import { tokenizerEntries } from './gguf-tokenizer.ts';
import { type WriteOptions, writeGguf } from './gguf-writer.ts';
import { writeSafetensors } from './safetensors-writer.ts';

export interface ConvertOptions extends FormatChoice, WriteOptions {
  /** `safetensors` by default. */
  readonly to?: 'safetensors' | 'gguf';
  /** Replaces what lies at the target. */
  readonly force?: boolean;
  /** What the user should know of the download of a model on the hub. */
  onNotice?(line: string): void;
}

/** What was written. */
export interface ConvertResult {
  readonly path: string;
  readonly sizeBytes: number;
  /** Matrices by format. */
  readonly formats: Readonly<Record<string, number>>;
}

/** Files beside the weights that a model is used with. Nothing else is carried along. */
const CARRIED =
  /^(tokenizer.*\.(json|model)|vocab\.(json|txt)|merges\.txt|added_tokens\.json|special_tokens_map\.json|chat_template\.(jinja|json)|generation_config\.json|.*\.tiktoken|spiece\.model|sentencepiece.*\.model|LICENSE.*|README\.md)$/i;

/**
 * Converts a model: a folder, a GGUF file, or a name on the hub. Nothing is left at the target, or what was there before, when it fails or is stopped.
 * @throws CONFIG_INVALID when the target exists or the source cannot be converted, the reason of the signal, and the codes of finding and reading models
 */
export async function convertModel(source: string, targetPath: string, options: ConvertOptions): Promise<ConvertResult> {
  const target = resolve(targetPath);
  checkTarget(source, target, options);
  const { path: sourcePath } = await fetchModel(source, {
    signal: options.signal,
    onProgress: (_, done, total) => options.onProgress?.(done, total),
    ...(options.onNotice === undefined ? {} : { onNotice: options.onNotice }),
  });
  const opened = openModel(sourcePath, false);
  let partial: string | null = null;
  try {
    const { source: weights, model } = opened;
    if (weights === null) throw new MillraceError('INTERNAL', 'A model was opened without its weights.');
    mkdirSync(dirname(target), { recursive: true });
    partial = mkdtempSync(join(dirname(target), `.${basename(target)}.partial-`));
    const work = { sourcePath, given: { model, source: weights }, folder: partial, options };
    const { made, formats } = await (options.to === 'gguf' ? writeFile(work) : writeFolder(work));
    const { size } = statSync(options.to === 'gguf' ? made : join(made, 'model.safetensors'));
    putInPlace(made, target);
    return { path: target, sizeBytes: size, formats };
  } finally {
    opened.close();
    if (partial !== null) rmSync(partial, { recursive: true, force: true });
  }
}

function checkTarget(sourcePath: string, target: string, { to, force }: ConvertOptions): void {
  if (existsSync(target) && force !== true) {
    throw new MillraceError('CONFIG_INVALID', { message: `${target} exists already.`, expected: 'a new path', hint: 'pass --force to replace it' });
  }
  if (resolve(sourcePath) === target) {
    throw new MillraceError('CONFIG_INVALID', { message: 'A model cannot be converted onto itself.', expected: 'another path', received: target });
  }
  if (target.toLowerCase().endsWith('.gguf') === (to === 'gguf')) return;
  throw new MillraceError('CONFIG_INVALID', {
    message: 'The name of the target does not say what it is to be.',
    expected: to === 'gguf' ? 'a path that ends in .gguf' : 'a folder, or --to gguf',
    received: target,
  });
}

interface Work {
  readonly sourcePath: string;
  readonly given: Given;
  /** Where the result is put together. */
  readonly folder: string;
  readonly options: ConvertOptions;
}

interface Made {
  readonly made: string;
  readonly formats: ConvertResult['formats'];
}

async function writeFile({ sourcePath, given, folder, options }: Work): Promise<Made> {
  const { metadata, tensors, formats } = ggufContent(given, options);
  for (const [key, entry] of await tokenizerEntries(sourcePath, given.model.features.vocabSize)) metadata.set(key, entry);
  const made = join(folder, 'model.gguf');
  await writeGguf(made, metadata, tensors, options);
  return { made, formats };
}

async function writeFolder({ sourcePath, given, folder, options }: Work): Promise<Made> {
  const files = openModelFiles(sourcePath);
  const made = join(folder, 'model');
  mkdirSync(made);
  const { groups, schemes, formats, config } =
    files.kind === 'gguf' ? await fromGguf(files.gguf, given, made, options) : await fromFolder(files, given, made, options);
  writeFileSync(join(made, 'config.json'), `${JSON.stringify(configOf(config, schemes), null, 2)}\n`);
  await writeSafetensors(join(made, 'model.safetensors'), groups, options);
  return { made, formats };
}

type FolderWork = FolderOutput & { readonly config: unknown };

async function fromFolder({ path, config }: HuggingFaceFiles, given: Given, made: string, options: ConvertOptions): Promise<FolderWork> {
  const output = folderOutput(given, options);
  for (const name of readdirSync(path)) {
    if (CARRIED.test(name) && statSync(join(path, name)).isFile()) copyFileSync(join(path, name), join(made, name));
  }
  const templates = [...(await templateTextsOfFolder(path))].filter(([name]) => /^[\w-]{1,100}$/.test(name) && name !== 'default');
  writeTemplates(made, new Map(existsSync(join(path, 'additional_chat_templates')) ? templates : []));
  return { ...output, config };
}

/** What lies in a GGUF file beside the weights, as files. */
async function fromGguf(short: GgufFile, given: Given, made: string, options: ConvertOptions): Promise<FolderWork> {
  short.close();
  const gguf = GgufFile.open(short.path);
  try {
    const { metadata } = gguf;
    const config: unknown = JSON.parse(JSON.stringify(ggufToHf(gguf).config));
    const output = folderOutputOfGguf(given, config, options);
    if (metadata.has('tokenizer.ggml.model')) {
      for (const [name, content] of tokenizerToFolder(metadata)) writeFileSync(join(made, name), content);
      await checkTokenizerFolder(metadata, made);
    }
    const key = 'tokenizer.chat_template';
    const templates = [...metadata].filter((entry): entry is [string, string] => typeof entry[1] === 'string' && entry[0].startsWith(key));
    writeTemplates(made, new Map(templates.map(([name, text]) => [name === key ? 'default' : name.slice(key.length + 1), text])));
    return { ...output, config };
  } finally {
    gguf.close();
  }
}

function writeTemplates(folder: string, templates: ReadonlyMap<string, string>): void {
  for (const [name, text] of templates) {
    if (name === 'default') writeFileSync(join(folder, 'chat_template.jinja'), text);
    else if (/^[\w-]{1,100}$/.test(name)) {
      mkdirSync(join(folder, 'additional_chat_templates'), { recursive: true });
      writeFileSync(join(folder, 'additional_chat_templates', `${name}.jinja`), text);
    }
  }
}

/** The old target leaves only when the new one stands ready, and comes back if that cannot take its place. */
function putInPlace(partial: string, target: string): void {
  const old = `${partial}.old`;
  const replaced = existsSync(target);
  if (replaced) renameSync(target, old);
  try {
    renameSync(partial, target);
  } catch (thrown) {
    if (replaced) renameSync(old, target);
    throw thrown;
  }
  if (replaced) rmSync(old, { recursive: true, force: true });
}
