/**
 * Safetensors checkpoints, one file or many shards with an index.
 *
 * A file is an 8-byte little-endian header length, a JSON object `{ name: { dtype, shape, data_offsets: [begin, end] } }`, and the bytes.
 * Format: https://github.com/huggingface/safetensors. Everything in a header is a stranger's word and is checked against the file.
 */
import { basename, join } from 'node:path';
import { MillraceError } from '../base/errors.ts';
import type { WeightFormat } from '../plan/plan.ts';
import { isObject, parseBoundedObject } from './bounded-json.ts';
import { checkApart, countElements, invalidFile, quoteName, type UnreadTensor, unsupportedFormat } from './tensor-layout.ts';
import { type OpenFile, type ReadableFile, WeightFile } from './weight-file.ts';
import type { StoredTensor, WeightSource } from './weight-source.ts';

/** Bytes of JSON that are parsed: a header of 100,000 tensors takes about 15 MB. */
const MAX_HEADER_BYTES = 32 << 20;
const MAX_SHARDS = 10_000;

const formatOfDtype: Readonly<Record<string, WeightFormat>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** A tensor as the header has it, in whatever number type: what readers of quantised checkpoints build weights from. */
export interface RawTensor {
  readonly name: string;
  /** As the header spells it: `I32`, `U8`, `F8_E4M3`. */
  readonly dtype: string;
  /** Slowest first. */
  readonly shape: readonly number[];
  readonly file: string;
  readonly offset: number;
  readonly sizeBytes: number;
}

interface ParsedHeader {
  readonly tensors: StoredTensor[];
  readonly unread: UnreadTensor[];
  readonly raw: RawTensor[];
}

/** Reads and checks the header of one file. @throws WEIGHTS_FILE_INVALID */
function readHeader(file: ReadableFile): ParsedHeader {
  const { path } = file;
  if (file.sizeBytes < 8) throw invalidFile(path, 'too short for a safetensors file.', 'at least 8 bytes', String(file.sizeBytes));
  const prefix = file.read(0, 8);
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (Buffer.from(prefix).toString('latin1') === 'version ') {
    throw new MillraceError('WEIGHTS_FILE_INVALID', {
      message: `${path} is a Git LFS pointer, not the file itself.`,
      hint: 'run `git lfs pull` in the folder',
    });
  }
  const most = Math.min(MAX_HEADER_BYTES, file.sizeBytes - 8);
  if (headerBytes < 2 || headerBytes > most) {
    throw invalidFile(path, 'the header length cannot be true; the file is truncated or not safetensors.', `2 to ${most} bytes`, String(headerBytes));
  }
  const header = parseBoundedObject(path, 'the header', file.read(8, headerBytes));
  const dataStart = 8 + headerBytes;
  const tensors: StoredTensor[] = [];
  const unread: UnreadTensor[] = [];
  const raw: RawTensor[] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const tensor = readEntry(path, name, entry, dataStart, file.sizeBytes);
    raw.push(tensor);
    const { dtype, shape, offset, sizeBytes } = tensor;
    const format = Object.hasOwn(formatOfDtype, dtype) ? formatOfDtype[dtype] : undefined;
    if (format === undefined) unread.push({ name, type: quoteName(dtype), shape, file: path });
    else tensors.push({ name, format, shape, file: path, offset, sizeBytes });
  }
  checkApart(path, raw);
  return { tensors, unread, raw };
}

/** Bytes of an element of each number type of the format; of F4 and the 6-bit ones, which are not whole bytes, the size is not checked. */
// biome-ignore format: a table of pairs
const bytesOfDtype: Readonly<Record<string, number>> = {
  F64: 8, I64: 8, U64: 8, F32: 4, I32: 4, U32: 4, F16: 2, BF16: 2, I16: 2, U16: 2, I8: 1, U8: 1, BOOL: 1, F8_E4M3: 1, F8_E5M2: 1, F8_E8M0: 1,
};

function readEntry(path: string, name: string, entry: unknown, dataStart: number, fileBytes: number): RawTensor {
  if (!isObject(entry) || typeof entry.dtype !== 'string' || !Array.isArray(entry.shape) || !Array.isArray(entry.data_offsets)) {
    throw invalidFile(path, `the header entry of tensor ${quoteName(name)} is malformed.`, '{ dtype, shape, data_offsets }');
  }
  const [begin, end] = entry.data_offsets as unknown[];
  const whole = (x: unknown): x is number => typeof x === 'number' && Number.isSafeInteger(x) && x >= 0;
  if (entry.data_offsets.length !== 2 || !whole(begin) || !whole(end) || end < begin || dataStart + end > fileBytes) {
    throw invalidFile(
      path,
      `data_offsets of tensor ${quoteName(name)} lie outside the file; it is truncated or damaged.`,
      `[begin, end] within ${fileBytes - dataStart} bytes`,
      `[${String(entry.data_offsets.slice(0, 3))}]`,
    );
  }
  const elements = countElements(path, name, entry.shape);
  const shape = entry.shape as number[];
  const sizeBytes = Object.hasOwn(bytesOfDtype, entry.dtype) ? elements * bytesOfDtype[entry.dtype] : end - begin;
  if (end - begin !== sizeBytes) {
    throw invalidFile(
      path,
      `tensor ${quoteName(name)} (${quoteName(entry.dtype)} [${shape.join(', ')}]) does not have the bytes of its shape.`,
      String(sizeBytes),
      String(end - begin),
    );
  }
  return { name, dtype: entry.dtype, shape, file: path, offset: dataStart + begin, sizeBytes };
}

/** Tensors of one or many safetensors files. @throws WEIGHTS_FILE_INVALID, MODEL_NOT_FOUND */
export class SafetensorsSource implements WeightSource {
  readonly mappable = true;
  readonly files: readonly { readonly path: string; readonly sizeBytes: number }[];
  readonly #files = new Map<string, ReadableFile>();
  readonly #tensors = new Map<string, StoredTensor>();
  readonly #unread = new Map<string, UnreadTensor>();
  readonly #raw = new Map<string, RawTensor>();

  /** `shardOf` says which tensors belong to which file; absent, all of all files are taken. */
  private constructor(paths: readonly string[], openFile: OpenFile, shardOf?: ReadonlyMap<string, string>) {
    try {
      for (const path of paths) this.#add(openFile(path), shardOf);
      for (const [name, path] of shardOf ?? []) {
        if (!this.#tensors.has(name) && !this.#unread.has(name)) {
          throw invalidFile(path, `the index says that tensor ${quoteName(name)} is in this file, but it is not.`);
        }
      }
    } catch (error) {
      this.close();
      throw error;
    }
    this.files = [...this.#files.values()].map(({ path, sizeBytes }) => ({ path, sizeBytes }));
  }

  static openFile(path: string, openFile: OpenFile = WeightFile.open): SafetensorsSource {
    return new SafetensorsSource([path], openFile);
  }

  /** Opens the shards named by a `model.safetensors.index.json` in `folder`. */
  static openSharded(folder: string, indexPath: string, openFile: OpenFile = WeightFile.open): SafetensorsSource {
    const shardOf = readIndex(folder, indexPath);
    return new SafetensorsSource([...new Set(shardOf.values())].sort(), openFile, shardOf);
  }

  #add(file: ReadableFile, shardOf: ReadonlyMap<string, string> | undefined): void {
    const { path } = file;
    this.#files.set(path, file);
    const { tensors, unread, raw } = readHeader(file);
    for (const tensor of tensors) if (shardOf === undefined || shardOf.get(tensor.name) === path) this.#tensors.set(tensor.name, tensor);
    for (const tensor of raw) if (shardOf === undefined || shardOf.get(tensor.name) === path) this.#raw.set(tensor.name, tensor);
    for (const tensor of unread) if (shardOf === undefined || shardOf.get(tensor.name) === path) this.#unread.set(tensor.name, tensor);
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

  /** A tensor of any number type. */
  raw(name: string): RawTensor | undefined {
    return this.#raw.get(name);
  }

  read(tensor: Pick<StoredTensor, 'name' | 'file' | 'offset' | 'sizeBytes'>): Uint8Array {
    const file = this.#files.get(tensor.file);
    if (file === undefined) throw new MillraceError('INTERNAL', `Tensor ${tensor.name} belongs to another checkpoint.`);
    return file.read(tensor.offset, tensor.sizeBytes);
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
  }
}

/** Tensor name to shard path. Shards are plain file names: an index must not reach outside its folder. */
function readIndex(folder: string, indexPath: string): Map<string, string> {
  const file = WeightFile.open(indexPath);
  const { sizeBytes } = file;
  const bytes = sizeBytes <= MAX_HEADER_BYTES ? file.read(0, sizeBytes) : null;
  file.close();
  if (bytes === null) throw invalidFile(indexPath, 'the index is too large.', `at most ${MAX_HEADER_BYTES} bytes`, String(sizeBytes));
  const { weight_map: weightMap } = parseBoundedObject(indexPath, 'the index', bytes);
  if (!isObject(weightMap)) throw invalidFile(indexPath, 'weight_map is missing.', '{ "weight_map": { tensor: file } }');
  const shardOf = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    const plain = typeof shard === 'string' && shard === basename(shard) && !shard.includes('\\') && shard.endsWith('.safetensors');
    if (!plain) {
      throw invalidFile(
        indexPath,
        `tensor ${quoteName(tensor)} names a file that is not a shard of this folder.`,
        'a plain file name that ends in .safetensors',
        quoteName(String(shard)),
      );
    }
    shardOf.set(tensor, join(folder, shard));
  }
  const numShards = new Set(shardOf.values()).size;
  if (numShards === 0 || numShards > MAX_SHARDS) {
    throw invalidFile(indexPath, 'the index names no file, or too many.', `1 to ${MAX_SHARDS}`, String(numShards));
  }
  return shardOf;
}
