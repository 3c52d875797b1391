/** Writes a safetensors file as a stream: the header first, since sizes are known, then tensor after tensor. */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { invariant } from '../base/errors.ts';
import type { WriteOptions } from './gguf-writer.ts';
import { nextTurn } from './next-turn.ts';

/** A tensor as the header names it. */
export interface OutputTensor {
  readonly name: string;
  readonly dtype: 'F32' | 'F16' | 'BF16' | 'F8_E4M3' | 'F8_E5M2' | 'I8' | 'I32' | 'I64';
  readonly shape: readonly number[];
  readonly sizeBytes: number;
}

/** Tensors that are made together, from one weight. */
export interface OutputGroup {
  readonly tensors: readonly OutputTensor[];
  /** The bytes of each, in order. Called once. */
  produce(): readonly Uint8Array[];
}

/** `onProgress` is told of bytes. The file is on the disk when this resolves. @throws the reason of the signal */
export async function writeSafetensors(path: string, groups: readonly OutputGroup[], { onProgress, signal }: WriteOptions = {}): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const { name, dtype, shape, sizeBytes } of groups.flatMap(({ tensors }) => tensors)) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + sizeBytes] };
    offset += sizeBytes;
  }
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(text.length + ((8 - (Buffer.byteLength(text) % 8)) % 8)));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(padded.length));
  const file = openSync(path, 'wx');
  try {
    writeAll(file, prefix);
    writeAll(file, padded);
    let done = 0;
    for (const { tensors, produce } of groups) {
      const parts = produce();
      tensors.forEach(({ name, sizeBytes }, i) => {
        invariant(parts[i]?.length === sizeBytes, `tensor ${name} has ${parts[i]?.length} bytes, not ${sizeBytes}`);
        writeAll(file, parts[i]);
        done += sizeBytes;
      });
      onProgress?.(done, offset);
      await nextTurn(signal);
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, Math.min(1 << 30, bytes.length - at));
}
