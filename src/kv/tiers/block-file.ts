/**
 * A block of KV as a file: `MRKV`, version, groups, length, SHA-256 of name, groups and bytes; then the bytes. A file that is cut, changed or renamed does
 * not read as a block. Checksums are computed on the thread pool.
 */
import { webcrypto } from 'node:crypto';
import type { StoredBlock } from './tier.ts';

const MAGIC = 0x564b524d; // `MRKV` in a little-endian file
const VERSION = 1;
export const HEADER_BYTES = 48;

/** Header and bytes, to be written one behind the other. */
export async function encodeBlockFile(key: string, { groups, bytes }: StoredBlock): Promise<[Uint8Array, Uint8Array]> {
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, VERSION, true);
  view.setUint32(8, groups, true);
  view.setUint32(12, bytes.byteLength, true);
  header.set(await checksum(key, groups, bytes), 16);
  return [header, bytes];
}

/** The block of a file, or null where it is not one of that name. */
export async function decodeBlockFile(key: string, file: Uint8Array): Promise<StoredBlock | null> {
  if (file.byteLength < HEADER_BYTES) return null;
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const groups = view.getUint32(8, true);
  const bytes = new Uint8Array(file.buffer, file.byteOffset + HEADER_BYTES, file.byteLength - HEADER_BYTES);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== VERSION || view.getUint32(12, true) !== bytes.byteLength) return null;
  const expected = await checksum(key, groups, bytes);
  for (let i = 0; i < expected.length; i++) if (file[16 + i] !== expected[i]) return null;
  return { groups, bytes };
}

async function checksum(key: string, groups: number, bytes: Uint8Array): Promise<Uint8Array> {
  const inner = await webcrypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>);
  const outer = new TextEncoder().encode(`${key} ${groups} ${Buffer.from(inner).toString('hex')}`);
  return new Uint8Array(await webcrypto.subtle.digest('SHA-256', outer));
}
