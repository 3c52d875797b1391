import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

/** The files of a .tar.gz; a text is decoded only when it is asked for. */
export function* readTarGz(path: string): Generator<{ name: string; text(): string }> {
  const bytes = gunzipSync(readFileSync(path));
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0; ) {
    const field = (from: number, length: number) => bytes.toString('utf8', at + from, at + from + length).replace(/\0.*$/s, '');
    const size = Number.parseInt(field(124, 12), 8);
    const prefix = field(345, 155);
    const name = prefix === '' ? field(0, 100) : `${prefix}/${field(0, 100)}`;
    const start = at + 512;
    if (field(156, 1) !== '5') yield { name, text: () => bytes.toString('utf8', start, start + size) };
    at = start + Math.ceil(size / 512) * 512;
  }
}
