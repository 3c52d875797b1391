/** What lies at a model path: a Hugging Face folder or a GGUF file, and which of its pieces are there. Nothing large is read here. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import { vocabularyFiles } from '../tokenizer/vocabulary-files.ts';
import { isObject } from './bounded-json.ts';
import { GgufFile } from './gguf.ts';
import { mxfp4Source } from './mxfp4-source.ts';
import { plainSource, quantizedSource } from './quantized/index.ts';
import { SafetensorsSource } from './safetensors.ts';
import { notReadable, type OpenFile, WeightFile } from './weight-file.ts';
import type { WeightSource } from './weight-source.ts';

/** Bytes of a JSON file that is parsed whole. tokenizer.json is not: the tokenizer reads it itself. */
const MAX_JSON_BYTES = 16 << 20;

/** Strings in a list of GGUF metadata that is read here. Vocabularies are longer: who needs one reads it on a thread that ends. */
const LONGEST_LIST = 8192;

/** A Hugging Face folder. Parsed JSON is as the file says, unchecked. */
export interface HuggingFaceFiles {
  readonly kind: 'huggingface';
  readonly path: string;
  readonly config: unknown;
  /** generation_config.json, or null. */
  readonly generationConfig: unknown;
  /** Paths, or null where absent. */
  readonly tokenizerJson: string | null;
  /** SentencePiece model or tiktoken vocabulary. */
  readonly tokenizerModel: string | null;
  /** tokenizer_config.json, or null. */
  readonly tokenizerConfig: unknown;
  /** chat_template.jinja; a template inside tokenizer_config.json stays there. */
  readonly chatTemplate: string | null;
  /** @throws MODEL_NOT_FOUND, WEIGHTS_FILE_INVALID */
  openWeights(): WeightSource;
}

/** A GGUF file: config, tokenizer and template are in its metadata. */
export interface GgufFiles {
  readonly kind: 'gguf';
  readonly path: string;
  readonly gguf: GgufFile;
}

export type ModelFiles = HuggingFaceFiles | GgufFiles;

/** Large files that do not lie beside the others: names that a folder has besides those on disk, and how they are opened. */
export interface LargeFiles {
  readonly names: readonly string[];
  readonly open: OpenFile;
}

const onDisk: LargeFiles = { names: [], open: WeightFile.open };

/**
 * Looks at a path. A GGUF file stays open until its source (or `gguf`) is closed.
 * @throws MODEL_NOT_FOUND when it is missing, unreadable or holds no model; MODEL_CONFIG_INVALID, WEIGHTS_FILE_INVALID
 */
export function openModelFiles(path: string, large: LargeFiles = onDisk): ModelFiles {
  const isGguf = path.toLowerCase().endsWith('.gguf');
  if (large !== onDisk && isGguf) return { kind: 'gguf', path, gguf: GgufFile.open(path, Infinity, large.open) };
  const isFolder = stat(path);
  if (!isFolder) {
    if (isGguf) return { kind: 'gguf', path, gguf: GgufFile.open(path, LONGEST_LIST) };
    throw new MillraceError('MODEL_NOT_FOUND', {
      message: `${path} is a file, but not one that holds a whole model.`,
      expected: 'a folder with config.json and *.safetensors, or a .gguf file',
      ...(path.endsWith('.safetensors') || path.endsWith('.json') ? { hint: 'give the folder that the file lies in' } : {}),
    });
  }
  const names = list(path);
  if (!names.includes('config.json')) {
    const ggufs = names.filter((name) => name.toLowerCase().endsWith('.gguf'));
    throw new MillraceError('MODEL_NOT_FOUND', {
      message: `${path} has no config.json.`,
      expected: 'a Hugging Face model folder',
      hint: ggufs.length > 0 ? `give a GGUF file by its path: ${join(path, ggufs[0])}` : 'check the path, and that the download is complete',
    });
  }
  return openFolder(path, new Set([...names, ...large.names]), large.open);
}

function openFolder(path: string, names: ReadonlySet<string>, openFile: OpenFile): HuggingFaceFiles {
  const json = (name: string) => (names.has(name) ? readJson(join(path, name)) : null);
  const at = (name: string) => (names.has(name) ? join(path, name) : null);
  const config = json('config.json');
  return {
    kind: 'huggingface',
    path,
    config,
    generationConfig: json('generation_config.json'),
    tokenizerJson: at('tokenizer.json'),
    tokenizerModel:
      vocabularyFiles
        .slice(1)
        .map(at)
        .find((found) => found !== null) ?? null,
    tokenizerConfig: json('tokenizer_config.json'),
    chatTemplate: names.has('chat_template.jinja') ? readText(join(path, 'chat_template.jinja')) : null,
    openWeights() {
      const source = openSafetensors(path, names, openFile);
      const quantization = quantizationOf(config) ?? json('quantize_config.json');
      return quantization === null
        ? plainSource(source)
        : closingOnError(source, () => (isMxfp4(quantization) ? mxfp4Source(source) : quantizedSource(quantization, source)));
    },
  };
}

/** `quantization_config` of a configuration or of its text part; null where there is none. Old GPTQ checkpoints have a file of their own. */
function quantizationOf(config: unknown): unknown {
  if (!isObject(config)) return null;
  const text = isObject(config.text_config) ? config.text_config : {};
  return config.quantization_config ?? text.quantization_config ?? null;
}

function isMxfp4(quantization: unknown): boolean {
  return isObject(quantization) && quantization.quant_method === 'mxfp4';
}

function closingOnError<T>(source: { close(): void }, open: () => T): T {
  try {
    return open();
  } catch (thrown) {
    source.close();
    throw thrown;
  }
}

function openSafetensors(path: string, names: ReadonlySet<string>, openFile: OpenFile): SafetensorsSource {
  if (names.has('model.safetensors.index.json')) return SafetensorsSource.openSharded(path, join(path, 'model.safetensors.index.json'), openFile);
  if (names.has('model.safetensors')) return SafetensorsSource.openFile(join(path, 'model.safetensors'), openFile);
  const safetensors = [...names].filter((name) => name.endsWith('.safetensors'));
  if (safetensors.length === 1) return SafetensorsSource.openFile(join(path, safetensors[0]), openFile);
  if (safetensors.length > 1) {
    throw new MillraceError('MODEL_NOT_FOUND', {
      message: `${path} has ${safetensors.length} safetensors files but no model.safetensors.index.json that says what is in which.`,
      hint: 'download the index file of the checkpoint too',
    });
  }
  const pickles = [...names].filter((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  if (pickles.length > 0) {
    throw new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
      message: `${path} holds only pickle weights (${pickles[0]}), which can run code when they are read and are therefore never read.`,
      expected: '*.safetensors',
      hint: 'use the safetensors revision of the model, or convert it with `save_pretrained(..., safe_serialization=True)`',
    });
  }
  throw new MillraceError('MODEL_NOT_FOUND', {
    message: `${path} has a config.json but no weights.`,
    expected: 'model.safetensors, or shards with model.safetensors.index.json',
    hint: 'check that the download is complete, or pass --load-format dummy for random weights',
  });
}

/** True for a folder, false for a file. */
function stat(path: string): boolean {
  try {
    const found = statSync(path);
    if (found.isDirectory()) return true;
    if (found.isFile()) return false;
  } catch (error) {
    throw notReadable(path, error);
  }
  throw new MillraceError('MODEL_NOT_FOUND', { message: `${path} is neither a folder nor a plain file.` });
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    throw notReadable(path, error);
  }
}

function readText(path: string): string {
  try {
    const found = statSync(path);
    if (!found.isFile()) throw new MillraceError('MODEL_NOT_FOUND', { message: `${path} is not a plain file.` });
    if (found.size <= MAX_JSON_BYTES) return readFileSync(path, 'utf8');
  } catch (error) {
    throw error instanceof MillraceError ? error : notReadable(path, error);
  }
  throw new MillraceError('MODEL_CONFIG_INVALID', { message: `${path} is too large.`, expected: `at most ${MAX_JSON_BYTES} bytes` });
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    if (error instanceof MillraceError) throw error;
    throw new MillraceError('MODEL_CONFIG_INVALID', { message: `${path} is not JSON (${(error as Error).message.slice(0, 120)}).`, cause: error });
  }
}
