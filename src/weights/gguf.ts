/**
 * GGUF files, versions 2 and 3, little-endian: metadata, then tensor entries, then aligned bytes.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Names and row orders are the file's own here; `GgufFile.source` takes the
 * translation to Hugging Face names that the model families give.
 */
import { MillraceError } from '../base/errors.ts';
import type { WeightFormat } from '../plan/plan.ts';
import { GgufCursor, type GgufValue, readMetadata } from './gguf-metadata.ts';
import { checkApart, countBytes, countElements, invalidFile, MAX_TENSORS, quoteName, type UnreadTensor, unsupportedFormat } from './tensor-layout.ts';
import { type OpenFile, type ReadableFile, WeightFile } from './weight-file.ts';
import type { StoredTensor, WeightSource } from './weight-source.ts';

export type { GgufNumbers, GgufValue } from './gguf-metadata.ts';

const MAX_ENTRIES = 65_536;
const MAX_NAME_BYTES = 1024;
/** Parts of a split model: many times what any has. */
const MAX_PARTS = 1024;
/** ggml's own limit. */
const MAX_GGUF_DIMENSIONS = 4;

// biome-ignore format: a table of pairs
const formatOfType: Readonly<Record<number, WeightFormat>> = {
  0: 'f32', 1: 'f16', 2: 'q4_0', 3: 'q4_1', 6: 'q5_0', 7: 'q5_1', 8: 'q8_0', 10: 'q2_k', 11: 'q3_k', 12: 'q4_k', 13: 'q5_k', 14: 'q6_k', 20: 'iq4_nl',
  23: 'iq4_xs', 30: 'bf16', 39: 'mxfp4', 16: 'iq2_xxs', 17: 'iq2_xs', 22: 'iq2_s', 18: 'iq3_xxs', 21: 'iq3_s', 19: 'iq1_s', 29: 'iq1_m', 34: 'tq1_0',
  35: 'tq2_0',
};

/** ggml's number of a format; undefined for those that it does not have. */
export function ggufTypeOf(format: WeightFormat): number | undefined {
  const found = Object.entries(formatOfType).find(([, known]) => known === format);
  return found === undefined ? undefined : Number(found[0]);
}

/** Names of the other types, for messages. */
// biome-ignore format: a table of pairs
const typeNames: Readonly<Record<number, string>> = {
  9: 'Q8_1', 15: 'Q8_K', 24: 'I8', 25: 'I16', 26: 'I32', 27: 'I64', 28: 'F64', 40: 'NVFP4',
};

/** How one tensor of a GGUF file is to be read as a Hugging Face one. Plain data, so that model families need not know this room. */
export interface TensorTranslation {
  readonly name: string;
  readonly rowOrder?: NonNullable<StoredTensor['rowOrder']>;
  readonly shift?: number;
  /** The model has a matrix, which files may hold as the vector that its one row is. */
  readonly isMatrix?: true;
}

/** What one file holds; of a split model there are several. */
interface GgufPart {
  readonly file: ReadableFile;
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly skippedLists: ReadonlySet<string>;
  readonly tensors: readonly StoredTensor[];
  readonly unread: readonly UnreadTensor[];
}

/** An open GGUF model: one file, or all parts of a split one. */
export class GgufFile {
  /** Of the first part. */
  readonly path: string;
  readonly version: number;
  /** Of the first part, which is where a split model has them. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Keys of lists of strings that were too long to be read, as `open` was told. */
  readonly skippedLists: ReadonlySet<string>;
  readonly #files: readonly ReadableFile[];
  readonly #tensors: readonly StoredTensor[];
  readonly #unread: readonly UnreadTensor[];

  private constructor(parts: readonly GgufPart[]) {
    const [first] = parts;
    this.path = first.file.path;
    this.version = first.version;
    this.metadata = first.metadata;
    this.skippedLists = first.skippedLists;
    this.#files = parts.map((part) => part.file);
    this.#tensors = parts.flatMap((part) => part.tensors);
    this.#unread = parts.flatMap((part) => part.unread);
    const names = new Set<string>();
    for (const { name, file } of [...this.#tensors, ...this.#unread]) {
      if (names.has(name)) throw invalidFile(file, `tensor ${quoteName(name)} occurs twice.`);
      names.add(name);
    }
    const stated = this.metadata.get('split.tensors.count');
    if (parts.length > 1 && stated !== undefined && stated !== names.size) {
      throw invalidFile(this.path, 'the parts do not hold the tensors that the first promises.', `${String(stated)} tensors`, String(names.size));
    }
  }

  /**
   * Any part of a split model opens the whole.
   * @param longestList strings in a list of the metadata that is read; longer ones, as vocabularies are, are stepped over
   * @throws MODEL_NOT_FOUND (a part that is missing is named), WEIGHTS_FILE_INVALID
   */
  static open(path: string, longestList = Infinity, openFile: OpenFile = WeightFile.open): GgufFile {
    const files: ReadableFile[] = [];
    const read = (partPath: string): GgufPart => {
      const file = openFile(partPath);
      files.push(file);
      return readPart(file, longestList);
    };
    try {
      const given = read(path);
      const paths = partPaths(path, given.metadata);
      return new GgufFile(paths.map((partPath, i) => (partPath === path ? given : checkPart(read(partPath), i, paths.length))));
    } catch (error) {
      for (const file of files) file.close();
      throw error;
    }
  }

  /** Shapes (slowest dimension first) by the file's own names, whether the format is read or not. */
  tensorShape(name: string): readonly number[] | undefined {
    return (this.#tensors.find((t) => t.name === name) ?? this.#unread.find((t) => t.name === name))?.shape;
  }

  /** An f32 vector by the file's own name, such as the rotary factors that stand in for metadata. */
  readVector(name: string): Float32Array | undefined {
    const tensor = this.#tensors.find((t) => t.name === name && t.format === 'f32');
    if (tensor === undefined) return undefined;
    return new Float32Array(fileOf(this.#files, tensor).read(tensor.offset, tensor.sizeBytes).buffer as ArrayBuffer);
  }

  /**
   * The tensors under Hugging Face names. `translate` gives null for tensors that the model does not use. Closing the source closes the files.
   */
  source(translate: (name: string) => TensorTranslation | null): WeightSource {
    const tensors = new Map<string, StoredTensor>();
    const unread = new Map<string, UnreadTensor>();
    for (const tensor of this.#tensors) {
      const translation = translate(tensor.name);
      if (translation === null) continue;
      const { isMatrix, ...read } = translation;
      const shape = isMatrix === true && tensor.shape.length === 1 ? [1, ...tensor.shape] : tensor.shape;
      tensors.set(translation.name, { ...tensor, ...read, shape });
    }
    for (const tensor of this.#unread) {
      const translation = translate(tensor.name);
      if (translation !== null) unread.set(translation.name, tensor);
    }
    return new GgufSource(this.#files, tensors, unread);
  }

  close(): void {
    for (const file of this.#files) file.close();
  }
}

/** The file that a tensor lies in. */
function fileOf(files: readonly ReadableFile[], tensor: StoredTensor): ReadableFile {
  const file = files.find(({ path }) => path === tensor.file);
  if (file === undefined) throw new MillraceError('INTERNAL', `tensor ${quoteName(tensor.name)} lies in none of the open files.`);
  return file;
}

class GgufSource implements WeightSource {
  readonly mappable = true;
  readonly files: readonly { readonly path: string; readonly sizeBytes: number }[];
  readonly #files: readonly ReadableFile[];
  readonly #tensors: ReadonlyMap<string, StoredTensor>;
  readonly #unread: ReadonlyMap<string, UnreadTensor>;

  constructor(files: readonly ReadableFile[], tensors: ReadonlyMap<string, StoredTensor>, unread: ReadonlyMap<string, UnreadTensor>) {
    this.#files = files;
    this.files = files.map(({ path, sizeBytes }) => ({ path, sizeBytes }));
    this.#tensors = tensors;
    this.#unread = unread;
  }

  /** @throws WEIGHTS_FORMAT_UNSUPPORTED when the tensor exists in a number format that is not read */
  find(name: string): StoredTensor | undefined {
    const unread = this.#unread.get(name);
    if (unread !== undefined) throw unsupportedFormat(unread);
    return this.#tensors.get(name);
  }

  names(): Iterable<string> {
    return [...this.#tensors.keys(), ...this.#unread.keys()];
  }

  read(tensor: StoredTensor): Uint8Array {
    return fileOf(this.#files, tensor).read(tensor.offset, tensor.sizeBytes);
  }

  close(): void {
    for (const file of this.#files) file.close();
  }
}

interface TensorEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: number;
  readonly offset: number;
}

function readVersion(cursor: GgufCursor): number {
  const { path, sizeBytes } = cursor.file;
  if (sizeBytes < 24) throw invalidFile(path, 'too short for a GGUF file.', 'at least 24 bytes', String(sizeBytes));
  const magic = Buffer.from(cursor.bytes(4)).toString('latin1');
  if (magic !== 'GGUF') {
    const hint = magic === 'vers' ? ' It may be a Git LFS pointer: run `git lfs pull`.' : '';
    throw invalidFile(path, `not a GGUF file.${hint}`, 'the first bytes GGUF', JSON.stringify(magic));
  }
  const version = cursor.u32();
  if (version === 2 || version === 3) return version;
  const bigEndian = version === 0x02000000 || version === 0x03000000;
  throw invalidFile(path, bigEndian ? 'the file is big-endian.' : 'this GGUF version is not read.', 'version 2 or 3, little-endian', String(version));
}

function readPart(file: ReadableFile, longestList: number): GgufPart {
  const cursor = new GgufCursor(file);
  const version = readVersion(cursor);
  const numTensors = cursor.count('the number of tensors', 24, MAX_TENSORS);
  const numEntries = cursor.count('the number of metadata entries', 13, MAX_ENTRIES);
  const { values: metadata, skipped: skippedLists } = readMetadata(cursor, numEntries, longestList);
  const entries = Array.from({ length: numTensors }, () => readTensorEntry(cursor));
  const alignment = readAlignment(file.path, metadata);
  const dataStart = Math.ceil(cursor.offset / alignment) * alignment;
  const placed = entries.map((entry) => placeTensor(file, entry, dataStart, alignment));
  const tensors = placed.filter((t): t is StoredTensor => 'format' in t);
  checkApart(file.path, tensors);
  return { file, version, metadata, skippedLists, tensors, unread: placed.filter((t): t is UnreadTensor => 'type' in t) };
}

/** As `llama-gguf-split` names the parts: `model-00001-of-00003.gguf`, counted from 1, while `split.no` counts from 0. */
const PART_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/is;

/** All parts of the model, first to last; one for a model that is not split. */
function partPaths(path: string, metadata: ReadonlyMap<string, GgufValue>): string[] {
  const count = metadata.get('split.count') ?? 1;
  if (typeof count !== 'number' || !Number.isInteger(count) || count < 0 || count > MAX_PARTS) {
    throw invalidFile(path, 'split.count is not a number of parts.', `0 to ${MAX_PARTS}`, quoteName(String(count)));
  }
  if (count <= 1) return [path];
  const [, before, number, total] = PART_NAME.exec(path) ?? [];
  const no = metadata.get('split.no');
  if (before === undefined || Number(total) !== count || no !== Number(number) - 1) {
    throw invalidFile(
      path,
      'the name does not say which part of a split model it is, so that the other parts cannot be found.',
      `a name that ends in -${String(typeof no === 'number' ? no + 1 : 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`,
      `split.no ${quoteName(String(no))}, split.count ${count}`,
    );
  }
  const extension = path.slice(-'.gguf'.length);
  return Array.from({ length: count }, (_, i) => `${before}-${String(i + 1).padStart(5, '0')}-of-${total}${extension}`);
}

/** @throws WEIGHTS_FILE_INVALID when the file is not part `index` of `count` */
function checkPart(part: GgufPart, index: number, count: number): GgufPart {
  const { file, metadata } = part;
  if (metadata.get('split.no') === index && metadata.get('split.count') === count) return part;
  throw invalidFile(
    file.path,
    'not the part of a split model that its name says.',
    `split.no ${index}, split.count ${count}`,
    `split.no ${quoteName(String(metadata.get('split.no')))}, split.count ${quoteName(String(metadata.get('split.count')))}`,
  );
}

function readAlignment(path: string, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get('general.alignment') ?? 32;
  const legal = typeof alignment === 'number' && alignment >= 1 && alignment <= 1 << 20 && Number.isInteger(Math.log2(alignment));
  if (!legal) throw invalidFile(path, 'general.alignment is not an alignment.', 'a power of two up to 2^20', quoteName(String(alignment)));
  return alignment;
}

function readTensorEntry(cursor: GgufCursor): TensorEntry {
  const { path } = cursor.file;
  const name = cursor.string('a tensor name', MAX_NAME_BYTES);
  const numDimensions = cursor.u32();
  if (numDimensions > MAX_GGUF_DIMENSIONS) {
    throw invalidFile(path, `tensor ${quoteName(name)} has too many dimensions.`, `at most ${MAX_GGUF_DIMENSIONS}`, String(numDimensions));
  }
  // GGUF lists the fastest dimension first
  const shape = Array.from({ length: numDimensions }, () => Number(cursor.u64())).reverse();
  return { name, shape, type: cursor.u32(), offset: Number(cursor.u64()) };
}

function placeTensor(
  file: ReadableFile,
  { name, shape, type, offset }: TensorEntry,
  dataStart: number,
  alignment: number,
): StoredTensor | UnreadTensor {
  const { path, sizeBytes: fileBytes } = file;
  const elements = countElements(path, name, shape);
  const begin = dataStart + offset;
  const format = formatOfType[type];
  const sizeBytes = format === undefined ? 0 : countBytes(path, name, shape, elements, format);
  if (offset % alignment !== 0 || begin + sizeBytes > fileBytes) {
    throw invalidFile(
      path,
      `tensor ${quoteName(name)} ([${shape.join(', ')}]) lies outside the file or is not aligned; the file is truncated or damaged.`,
      `an offset divisible by ${alignment} with ${sizeBytes} bytes before ${Math.max(0, fileBytes - dataStart)}`,
      String(offset),
    );
  }
  if (format === undefined) return { name, type: typeNames[type] ?? `type ${type}`, shape, file: path };
  return { name, format, shape, file: path, offset: begin, sizeBytes };
}
