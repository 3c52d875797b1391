import { MillraceError } from '../base/errors.ts';
import { uniformAt } from '../base/random.ts';

/** A seeded stream of uniform numbers in [0, 1): it decides what is asked and when. */
export function seededRandom(seed: number): () => number {
  let position = 0;
  return () => uniformAt(seed >>> 0, 0, 0, position++, 0);
}

/** Ids below this are left out of random prompts: vocabularies keep their special tokens there. */
const FIRST_PLAIN_TOKEN = 16;

/** `count` prompts of `length` random ids; no two share a prefix in practice, so no prefix cache helps. */
export function randomPrompts(count: number, length: number, vocabSize: number, random: () => number): Int32Array[] {
  if (vocabSize <= FIRST_PLAIN_TOKEN + 1) {
    throw new MillraceError('CONFIG_INVALID', { message: 'The vocabulary is too small for random prompts.', received: `${vocabSize} tokens` });
  }
  return Array.from({ length: count }, () =>
    Int32Array.from({ length }, () => FIRST_PLAIN_TOKEN + Math.floor(random() * (vocabSize - FIRST_PLAIN_TOKEN))),
  );
}
