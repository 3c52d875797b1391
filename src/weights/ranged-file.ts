/** A file that lies elsewhere, of which only the parts that are needed come: the readers, which wait for nothing, are asked again until they have them. */
import { MillraceError } from '../base/errors.ts';
import { type ReadableFile, truncated } from './weight-file.ts';

/** Bytes that a reader wanted and that have not come yet. Not an error of the file. */
export class MissingBytes extends Error {
  readonly path: string;
  readonly offset: number;
  readonly length: number;

  constructor(path: string, offset: number, length: number) {
    super(`bytes ${offset} to ${offset + length} of ${path} have not come yet`);
    this.path = path;
    this.offset = offset;
    this.length = length;
  }
}

/** Most bytes of one file: the largest headers take about 30 MB. */
const MOST_BYTES = 256 << 20;
/** Asked for at once, at least and at most; a reader that goes on forwards gets more each time. */
const LEAST_ASKED = 64 << 10;
const MOST_ASKED = 8 << 20;

export class RangedFile implements ReadableFile {
  readonly path: string;
  readonly sizeBytes: number;
  #parts: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  #held = 0;

  constructor(path: string, sizeBytes: number) {
    this.path = path;
    this.sizeBytes = sizeBytes;
  }

  /** @throws MissingBytes; WEIGHTS_FILE_INVALID beyond the end */
  read(offset: number, length: number): Uint8Array {
    if (offset + length > this.sizeBytes) throw truncated(this.path, offset + length, this.sizeBytes);
    const out = new Uint8Array(length);
    for (let at = offset; at < offset + length; ) {
      const part = this.#parts.find((each) => each.offset <= at && at < each.offset + each.bytes.length);
      if (part === undefined) throw new MissingBytes(this.path, at, offset + length - at);
      const bytes = part.bytes.subarray(at - part.offset, offset + length - part.offset);
      out.set(bytes, at - offset);
      at += bytes.length;
    }
    return out;
  }

  /** What to fetch when these bytes are missing. @throws WEIGHTS_FILE_INVALID when it has been too much already */
  ask({ offset, length }: { readonly offset: number; readonly length: number }): { readonly first: number; readonly length: number } {
    if (this.#held + length > MOST_BYTES) {
      throw new MillraceError('WEIGHTS_FILE_INVALID', { message: `${this.path}: the header is too large.`, expected: `at most ${MOST_BYTES} bytes` });
    }
    const wished = Math.max(length, Math.min(MOST_ASKED, Math.max(LEAST_ASKED, this.#held)));
    return { first: offset, length: Math.min(wished, this.sizeBytes - offset) };
  }

  store(offset: number, bytes: Uint8Array): void {
    this.#parts.push({ offset, bytes });
    this.#held += bytes.length;
  }

  close(): void {
    // nothing is open
  }
}
