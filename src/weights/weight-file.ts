/** Reading parts of a large file: nothing is held but a descriptor, so a file may be larger than any buffer. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { MillraceError } from '../base/errors.ts';

/** Bytes that one `readSync` is asked for; the kernel refuses 2 GiB and more. */
const READ_CHUNK = 1 << 30;

/** What is read in parts: a file on disk, or one that lies elsewhere. */
export interface ReadableFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Bytes `[offset, offset + length)`. @throws WEIGHTS_FILE_INVALID when the file is shorter */
  read(offset: number, length: number): Uint8Array;
  /** Idempotent. */
  close(): void;
}

/** Opens a file of a checkpoint by its path. @throws MODEL_NOT_FOUND */
export type OpenFile = (path: string) => ReadableFile;

export class WeightFile implements ReadableFile {
  readonly path: string;
  readonly sizeBytes: number;
  #descriptor: number | null;

  private constructor(path: string, descriptor: number, sizeBytes: number) {
    this.path = path;
    this.#descriptor = descriptor;
    this.sizeBytes = sizeBytes;
  }

  /** @throws MODEL_NOT_FOUND when the path is missing, unreadable or not a plain file */
  static open(path: string): WeightFile {
    let descriptor: number;
    try {
      // without O_NONBLOCK a pipe would be waited for
      descriptor = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    } catch (error) {
      throw notReadable(path, error);
    }
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) {
      closeSync(descriptor);
      throw new MillraceError('MODEL_NOT_FOUND', { message: `${path} is not a plain file.`, expected: 'a weight file' });
    }
    return new WeightFile(path, descriptor, stat.size);
  }

  read(offset: number, length: number): Uint8Array {
    if (this.#descriptor === null) throw new MillraceError('INTERNAL', `${this.path} is read after it was closed.`);
    if (offset + length > this.sizeBytes) {
      throw truncated(this.path, offset + length, this.sizeBytes);
    }
    const bytes = allocate(length, this.path);
    let done = 0;
    while (done < length) {
      const got = readSync(this.#descriptor, bytes, done, Math.min(READ_CHUNK, length - done), offset + done);
      if (got === 0) throw truncated(this.path, offset + length, offset + done);
      done += got;
    }
    return bytes;
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }
}

function allocate(length: number, path: string): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (error) {
    throw new MillraceError('MEMORY_INSUFFICIENT', { message: `${length} bytes of ${path} cannot be held at once.`, cause: error });
  }
}

/** What a failed system call on a path means to the user. */
export function notReadable(path: string, error: unknown): MillraceError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  const meanings: Record<string, string> = {
    ENOENT: 'does not exist',
    ENOTDIR: 'goes through something that is not a folder',
    EACCES: 'may not be read by this user',
    EPERM: 'may not be read by this user',
    ELOOP: 'is a circle of symbolic links',
    EISDIR: 'is a folder',
  };
  return new MillraceError('MODEL_NOT_FOUND', {
    message: `${path} ${meanings[code] ?? `cannot be read (${code})`}.`,
    hint: 'give the folder of a Hugging Face checkpoint (config.json and *.safetensors) or a .gguf file',
    cause: error,
  });
}

/** The file ends before what its header says. */
export function truncated(path: string, expected: number, received: number): MillraceError {
  return new MillraceError('WEIGHTS_FILE_INVALID', {
    message: `${path} is shorter than its header says.`,
    expected: `at least ${expected} bytes`,
    received: String(received),
    hint: 'the download or copy is incomplete; fetch the file again',
  });
}
