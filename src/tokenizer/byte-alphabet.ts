/**
 * The byte alphabet of GPT-2: each of the 256 bytes is written as one printable character, so that a vocabulary of byte
 * strings can live in a text file. Printable Latin-1 bytes stand for themselves, the rest follow from U+0100 on.
 */

const printable: readonly (readonly [number, number])[] = [
  [0x21, 0x7e],
  [0xa1, 0xac],
  [0xae, 0xff],
];

/** Character of each byte. */
export const characterOfByte: readonly string[] = buildAlphabet();

/** `[0x144]`: byte of each character code of the alphabet, or -1. */
export const byteOfCharacter: Int16Array = invertAlphabet();

function buildAlphabet(): string[] {
  const characters: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const itself = printable.some(([first, last]) => byte >= first && byte <= last);
    characters.push(String.fromCharCode(itself ? byte : next++));
  }
  return characters;
}

function invertAlphabet(): Int16Array {
  const bytes = new Int16Array(0x144).fill(-1);
  for (let byte = 0; byte < 256; byte++) bytes[characterOfByte[byte].charCodeAt(0)] = byte;
  return bytes;
}
