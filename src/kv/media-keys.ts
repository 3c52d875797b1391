/**
 * Ids that stand for pieces of media in the keys of the prefix tree. A prompt with an image holds the same placeholder id many times; what it means depends
 * on which image, and which part of it. Here every part of every image (sound, video) has a number of its own, below zero where no token id is, so the tree
 * tells them apart to the token like any others, wherever a block begins.
 *
 * Numbers are given out, not hashed: two different digests never share one. Digests must be of the content (SHA-256).
 */
import { MillraceError } from '../base/errors.ts';

/** Tokens `[start, start + length)` of a prompt stand for one piece of media. */
export interface MediaSpan {
  readonly start: number;
  readonly length: number;
  /** Of the content, and of all that decides what the model makes of it, such as the size it is scaled to. */
  readonly digest: string;
}

interface Known {
  readonly first: number;
  readonly length: number;
}

const MAX_DIGESTS = 65_536;
const MOST_NEGATIVE = -(2 ** 31);

export class MediaKeys {
  readonly #known = new Map<string, Known>();
  readonly #maxDigests: number;
  #next = -1;
  /** Grows when the numbers have been given out once: it belongs in the namespace of prompts with media, so that an old number means nothing new. */
  #epoch = 0;

  constructor(maxDigests = MAX_DIGESTS, firstNumber = -1) {
    this.#maxDigests = maxDigests;
    this.#next = firstNumber;
  }

  get numDigests(): number {
    return this.#known.size;
  }

  /**
   * The ids to match a prompt by, and a suffix for its namespace.
   * @throws REQUEST_INVALID for spans that overlap or reach beyond the prompt
   */
  keysOf(tokenIds: Int32Array, spans: readonly MediaSpan[]): { keys: Int32Array; namespaceSuffix: string } {
    const keys = tokenIds.slice();
    let end = 0;
    for (const { start, length, digest } of [...spans].sort((a, b) => a.start - b.start)) {
      if (!Number.isInteger(start) || !Number.isInteger(length) || start < end || length < 1 || start + length > tokenIds.length) {
        throw new MillraceError('REQUEST_INVALID', {
          message: 'Media spans overlap or reach beyond the prompt.',
          received: `${length} tokens at ${start}`,
        });
      }
      end = start + length;
      const { first } = this.#numbersFor(digest, length);
      for (let i = 0; i < length; i++) keys[start + i] = first - i;
    }
    return { keys, namespaceSuffix: this.#epoch === 0 ? '' : `;media ${this.#epoch}` };
  }

  /** The length is part of what is looked up: the same image in another number of tokens is something else. */
  #numbersFor(digest: string, length: number): Known {
    const name = `${length} ${digest}`;
    const known = this.#known.get(name);
    if (known !== undefined) {
      this.#known.delete(name);
      this.#known.set(name, known);
      return known;
    }
    if (this.#next - length < MOST_NEGATIVE) {
      this.#next = -1;
      this.#epoch++;
      this.#known.clear();
    }
    const given = { first: this.#next, length };
    this.#next -= length;
    this.#known.set(name, given);
    // one that is forgotten gets new numbers when it comes again: its old prefixes are not found, and age out
    if (this.#known.size > this.#maxDigests) for (const oldest of this.#known.keys()) if (this.#known.delete(oldest)) break;
    return given;
  }
}
