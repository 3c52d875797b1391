/** Writes a GGUF file, version 3, as a stream. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { invariant } from '../base/errors.ts';
import { nextTurn } from './next-turn.ts';

/** A value of the metadata, with the type that the file gives it. Lists of strings are arrays. */
export type GgufEntry =
  | readonly ['u32' | 'i32' | 'f32', number]
  | readonly ['bool', boolean]
  | readonly ['string', string]
  | readonly ['strings', readonly string[]]
  | readonly ['f32s' | 'i32s' | 'u8s', ArrayLike<number>];

export interface GgufOutput {
  readonly name: string;
  /** Slowest dimension first. */
  readonly shape: readonly number[];
  /** ggml's number of the format. */
  readonly type: number;
  readonly sizeBytes: number;
  /** The bytes. Called once. */
  produce(): Uint8Array;
}

export interface WriteOptions {
  /** Told of bytes. */
  onProgress?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const types = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9, u8: 0 } as const;
const ALIGNMENT = 32;

/** The file is on the disk when this resolves. @throws the reason of the signal */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufEntry>,
  tensors: readonly GgufOutput[],
  { onProgress, signal }: WriteOptions = {},
): Promise<void> {
  const head: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(metadata.size)];
  for (const [key, entry] of metadata) head.push(text(key), ...encoded(entry));
  let offset = 0;
  for (const { name, shape, type, sizeBytes } of tensors) {
    head.push(text(name), u32(shape.length), ...[...shape].reverse().map(u64), u32(type), u64(offset));
    offset += aligned(sizeBytes);
  }
  const start = Buffer.concat(head);
  const file = openSync(path, 'wx');
  try {
    writeAll(file, start);
    writeAll(file, new Uint8Array(aligned(start.length) - start.length));
    let done = 0;
    for (const { name, sizeBytes, produce } of tensors) {
      const bytes = produce();
      invariant(bytes.length === sizeBytes, `tensor ${name} has ${bytes.length} bytes, not ${sizeBytes}`);
      writeAll(file, bytes);
      writeAll(file, new Uint8Array(aligned(sizeBytes) - sizeBytes));
      done += aligned(sizeBytes);
      onProgress?.(done, offset);
      await nextTurn(signal);
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function encoded([type, value]: GgufEntry): Buffer[] {
  switch (type) {
    case 'u32':
      return [u32(types.u32), u32(value)];
    case 'i32':
      return [u32(types.i32), bytesOf(Int32Array.of(value))];
    case 'f32':
      return [u32(types.f32), bytesOf(Float32Array.of(value))];
    case 'bool':
      return [u32(types.bool), Buffer.of(value ? 1 : 0)];
    case 'string':
      return [u32(types.string), text(value)];
    case 'strings':
      return [u32(types.array), u32(types.string), u64(value.length), ...value.map(text)];
    case 'f32s':
      return [u32(types.array), u32(types.f32), u64(value.length), bytesOf(Float32Array.from(value))];
    case 'i32s':
      return [u32(types.array), u32(types.i32), u64(value.length), bytesOf(Int32Array.from(value))];
    case 'u8s':
      return [u32(types.array), u32(types.u8), u64(value.length), bytesOf(Uint8Array.from(value))];
  }
}

function aligned(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT;
}

function u32(value: number): Buffer {
  return bytesOf(Uint32Array.of(value));
}

function u64(value: number): Buffer {
  return bytesOf(BigUint64Array.of(BigInt(value)));
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, Math.min(1 << 30, bytes.length - at));
}
