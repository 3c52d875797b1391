/** Which files of a repository a model needs: one set of weights, never two, and what goes with them. */
import { MillraceError } from '../base/errors.ts';
import type { HubModelId } from './model-id.ts';

export type Selection =
  | {
      readonly kind: 'huggingface';
      /** Configuration, tokenizer, templates. */
      readonly small: readonly string[];
      /** Weights, unless the index must be read first. */
      readonly weights: readonly string[];
      /** Read it with `shardsOfIndex` to know the weights. */
      readonly index: string | null;
    }
  | {
      readonly kind: 'gguf';
      /** In order; the first is the one that is opened. */
      readonly parts: readonly string[];
    };

const INDEX = 'model.safetensors.index.json';
/** Text at the top of a repository that describes a model. Other indexes belong to weights that are not read. */
const SMALL =
  /^(?!.*\.index\.json$)[^/]+\.(?:json|jinja|model|tiktoken)$|^(?:vocab|merges)\.txt$|^additional_chat_templates\/[^/]+\.jinja$|^[^/]*_Pooling\/config\.json$/;
const GGUF = /\.gguf$/i;
/** Parts of a split file; and files that are no language model: image projectors, importance matrices. */
const SPLIT = /-(\d{5})-of-(\d{5})\.gguf$/i;
const OTHER_GGUF = /(?:^|\/)(?:mmproj|imatrix)|[-.]mmproj|[-.]imatrix/i;
/** What is taken when nobody says: the usual compromise first. */
const PREFERRED = ['Q4_K_M', 'Q4_K_S', 'Q5_K_M', 'Q4_0', 'Q6_K', 'Q8_0', 'BF16', 'F16'];
const MOST_LISTED = 20;

/** @throws HUB_NOT_FOUND with what there is; WEIGHTS_FORMAT_UNSUPPORTED for pickles */
export function selectFiles(id: HubModelId, paths: readonly string[]): Selection {
  if (id.selector !== null) return { kind: 'gguf', parts: selectGguf(id, paths, id.selector) };
  const names = new Set(paths);
  const safetensors = paths.filter((path) => /^[^/]+\.safetensors$/.test(path));
  if (names.has('config.json') && safetensors.length > 0) {
    const small = paths.filter((path) => SMALL.test(path));
    if (names.has(INDEX)) return { kind: 'huggingface', small: [...small, INDEX], weights: [], index: INDEX };
    return { kind: 'huggingface', small, weights: [wholeFile(id, safetensors)], index: null };
  }
  if (paths.some((path) => GGUF.test(path))) return { kind: 'gguf', parts: selectGguf(id, paths, null) };
  throw noWeights(id, paths);
}

/** The files that hold tensors, by the index's text. @throws WEIGHTS_FILE_INVALID, HUB_NOT_FOUND */
export function shardsOfIndex(id: HubModelId, text: string, paths: readonly string[]): string[] {
  let map: unknown;
  try {
    map = (JSON.parse(text) as { weight_map?: unknown }).weight_map;
  } catch {
    map = undefined;
  }
  const shards = typeof map === 'object' && map !== null ? [...new Set(Object.values(map) as unknown[])] : [];
  const names = new Set(paths);
  for (const shard of shards) {
    if (typeof shard === 'string' && /^[^/\\]+\.safetensors$/.test(shard) && names.has(shard)) continue;
    throw new MillraceError('WEIGHTS_FILE_INVALID', {
      message: `${INDEX} of ${id.repo} names a file that the repository does not hold.`,
      expected: 'files beside the index that end in .safetensors',
      received: JSON.stringify(String(shard).slice(0, 100)),
    });
  }
  if (shards.length > 0) return (shards as string[]).sort();
  throw new MillraceError('WEIGHTS_FILE_INVALID', {
    message: `${INDEX} of ${id.repo} names no files.`,
    expected: '{ "weight_map": { tensor: file } }',
  });
}

function wholeFile(id: HubModelId, safetensors: readonly string[]): string {
  if (safetensors.includes('model.safetensors')) return 'model.safetensors';
  if (safetensors.length === 1) return safetensors[0];
  throw new MillraceError('HUB_NOT_FOUND', {
    message: `${id.repo} has ${safetensors.length} safetensors files but no ${INDEX} that says what is in which.`,
    received: listed(safetensors),
  });
}

/** A file by its path, or by the name of its quantisation; all parts of a split one. */
function selectGguf(id: HubModelId, paths: readonly string[], selector: string | null): string[] {
  const ggufs = paths.filter((path) => GGUF.test(path));
  if (selector !== null && GGUF.test(selector)) {
    if (ggufs.includes(selector)) return partsOf(id, selector, ggufs);
    throw new MillraceError('HUB_NOT_FOUND', {
      message: `${id.repo} has no file ${selector} at this revision.`,
      expected: `one of ${listed(ggufs)}`,
    });
  }
  const models = ggufs.filter((path) => !OTHER_GGUF.test(path) && firstOfSplit(path));
  for (const wanted of selector === null ? PREFERRED : [selector]) {
    const fitting = models.filter((path) => isQuantisation(path, wanted));
    // the plain name goes before `x-UD-Q4_K_M.gguf` and the like
    const shortest = fitting.toSorted((a, b) => a.length - b.length);
    if (fitting.length === 1 || shortest[0]?.length < shortest[1]?.length) return partsOf(id, shortest[0], ggufs);
    if (fitting.length > 1) throw ambiguous(id, fitting, `fit ${wanted}`);
  }
  if (selector === null && models.length === 1) return partsOf(id, models[0], ggufs);
  if (selector === null) throw ambiguous(id, models, 'are there');
  throw new MillraceError('HUB_NOT_FOUND', {
    message: `${id.repo} has no GGUF file of the quantisation ${selector}.`,
    expected: models.length === 0 ? 'a repository with GGUF files' : `one of ${listed(models)}`,
  });
}

function firstOfSplit(path: string): boolean {
  const split = SPLIT.exec(path);
  return split === null || Number(split[1]) === 1;
}

/** `Q4_K_M` is `x-Q4_K_M.gguf`, `x.q4_k_m.gguf`, `Q4_K_M/x-00001-of-00002.gguf`, not `x-Q4_K_M_L.gguf`. */
function isQuantisation(path: string, wanted: string): boolean {
  const stem = path.replace(SPLIT, '').replace(GGUF, '').toLowerCase();
  const name = wanted.toLowerCase();
  return stem.split('/').some((part) => part === name || part.endsWith(`-${name}`) || part.endsWith(`.${name}`));
}

function partsOf(id: HubModelId, path: string, ggufs: readonly string[]): string[] {
  const split = SPLIT.exec(path);
  if (split === null) return [path];
  const count = Number(split[2]);
  const stem = path.slice(0, split.index);
  const parts = Array.from({ length: Math.min(count, 10_000) }, (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${split[2]}.gguf`);
  const missing = parts.filter((part) => !ggufs.includes(part));
  if (count > 0 && missing.length === 0) return parts;
  throw new MillraceError('HUB_NOT_FOUND', { message: `${id.repo} lacks parts of ${path}.`, received: `no ${listed(missing)}` });
}

function ambiguous(id: HubModelId, fitting: readonly string[], what: string): MillraceError {
  return new MillraceError('HUB_NOT_FOUND', {
    message: `${id.repo} does not say which file is meant: ${fitting.length} ${what}.`,
    expected: `a file, as ${id.repo}:${fitting[0] ?? 'file.gguf'}`,
    received: listed(fitting),
  });
}

function noWeights(id: HubModelId, paths: readonly string[]): MillraceError {
  const pickle = paths.find((path) => /\.(?:bin|pt|pth|ckpt)$/.test(path));
  if (pickle !== undefined) {
    return new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
      message: `${id.repo} has weights only as pickles (${pickle}), which can run code when they are read and are therefore never read.`,
      expected: '*.safetensors or *.gguf',
      hint: `look for a converted copy, or a conversion offered as a pull request of the repository (${id.repo}@refs/pr/N)`,
    });
  }
  return new MillraceError('HUB_NOT_FOUND', {
    message: `${id.repo} holds no weights that are read.`,
    expected: 'config.json with *.safetensors, or *.gguf',
    received: listed(paths),
  });
}

function listed(paths: readonly string[]): string {
  if (paths.length === 0) return 'nothing';
  const more = paths.length > MOST_LISTED ? ` and ${paths.length - MOST_LISTED} more` : '';
  return paths.slice(0, MOST_LISTED).join(', ').slice(0, 1500) + more;
}
