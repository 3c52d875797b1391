/** Sequences of tokens that must not come. */
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';

/** Each word as it is spelled at the start of a text and behind a space, as ids. */
export function badWordSequences(words: readonly string[], tokenizer: Pick<Tokenizer, 'encode'>): Int32Array[] {
  const sequences = new Map<string, Int32Array>();
  for (const word of words) {
    for (const space of ['', ' ']) {
      const ids = tokenizer.encode(space + word.trimStart(), { addSpecialTokens: false, parseSpecial: false });
      if (ids.length > 0) sequences.set(ids.join(), ids);
    }
  }
  return [...sequences.values()];
}

/** Ids that would complete one of `sequences` behind `output`. */
export function completingTokens(sequences: readonly Int32Array[], output: Int32Array): number[] {
  const ids = new Set<number>();
  for (const sequence of sequences) {
    const before = sequence.length - 1;
    if (before > output.length) continue;
    const start = output.length - before;
    let matches = true;
    for (let i = 0; matches && i < before; i++) matches = output[start + i] === sequence[i];
    if (matches) ids.add(sequence[before]);
  }
  return [...ids];
}
