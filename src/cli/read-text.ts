/** A user's text from a file or standard input, within bounds. */
import { MillraceError } from '../base/errors.ts';
import { openPlainFile } from '../base/open-plain-file.ts';
import type { InputStream } from './context.ts';

/** Tokens of so much text, and what the tokenizer needs on the way, fit small machines. */
export const MAX_TEXT_BYTES = 16 * 2 ** 20;

/**
 * UTF-8 text of a plain file, or of `stdin` where `file` is absent or `-`. More than `MAX_TEXT_BYTES` is refused, or cut there with `mayCut`.
 * @throws CONFIG_INVALID for what cannot be read, is too long, or is no UTF-8
 */
export async function readText(file: string | undefined, stdin: InputStream, mayCut: boolean): Promise<string> {
  const bytes = file === undefined || file === '-' ? await readStdin(stdin) : await readFile(file);
  const isCut = bytes.length > MAX_TEXT_BYTES;
  if (isCut && !mayCut) throw invalid('The text is too long.', `at most ${MAX_TEXT_BYTES} bytes, or --max-tokens to read the beginning`, 'more');
  try {
    // a character that the cut goes through is left out
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, MAX_TEXT_BYTES), { stream: isCut });
  } catch {
    throw invalid('The text is not UTF-8.', 'a UTF-8 text', 'bytes that are none');
  }
}

/** At most one byte more than the limit. */
async function readFile(file: string): Promise<Uint8Array> {
  try {
    const handle = await openPlainFile(file);
    try {
      const { size } = await handle.stat();
      const bytes = new Uint8Array(Math.min(size, MAX_TEXT_BYTES + 1));
      let length = 0;
      while (length < bytes.length) {
        const { bytesRead } = await handle.read(bytes, length, bytes.length - length, length);
        if (bytesRead === 0) break;
        length += bytesRead;
      }
      return bytes.subarray(0, length);
    } finally {
      await handle.close();
    }
  } catch (thrown) {
    throw invalid('The text cannot be read.', 'a file that can be read', `${file}: ${(thrown as Error).message}`);
  }
}

async function readStdin(stdin: InputStream): Promise<Uint8Array> {
  if (stdin.isTTY) throw invalid('There is no text.', '--file FILE, or a text on standard input', 'a terminal');
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of stdin) {
    const bytes = Buffer.from(part);
    parts.push(bytes);
    length += bytes.length;
    if (length > MAX_TEXT_BYTES) break;
  }
  return Buffer.concat(parts);
}

function invalid(message: string, expected: string, received: string): MillraceError {
  return new MillraceError('CONFIG_INVALID', { message, expected, received, param: 'file' });
}
