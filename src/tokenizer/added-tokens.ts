/** Finds added tokens in a text: leftmost, then longest. */
import type { AddedToken } from './definition.ts';

/** Half-open range of UTF-16 positions. */
export type TextRange = readonly [start: number, end: number];

/** A stretch of text between added tokens, or one added token. */
export type Section = { readonly text: string; readonly token: null } | { readonly text: string; readonly token: AddedToken };

interface TrieNode {
  token: AddedToken | null;
  readonly children: Map<number, TrieNode>;
}

const wordCharacter = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]/u;

export class AddedTokenSplitter {
  readonly #root: TrieNode = { token: null, children: new Map() };
  readonly #isEmpty: boolean;

  /** @param tokens with the spelling to look for, which differs from `content` when the text was normalised */
  constructor(tokens: readonly { readonly spelling: string; readonly token: AddedToken }[]) {
    for (const { spelling, token } of tokens) {
      if (spelling.length === 0) continue;
      let node = this.#root;
      for (let i = 0; i < spelling.length; i++) {
        const code = spelling.charCodeAt(i);
        let child = node.children.get(code);
        if (child === undefined) {
          child = { token: null, children: new Map() };
          node.children.set(code, child);
        }
        node = child;
      }
      node.token ??= token;
    }
    this.#isEmpty = this.#root.children.size === 0;
  }

  /**
   * Cuts the text into sections; none is empty.
   * @param literalRanges places where no special token may be found; ascending, not overlapping
   */
  split(text: string, literalRanges: readonly TextRange[] = []): Section[] {
    if (this.#isEmpty) return text.length === 0 ? [] : [{ text, token: null }];
    const sections: Section[] = [];
    let start = 0;
    let range = 0;
    for (let at = 0; at < text.length; ) {
      while (range < literalRanges.length && literalRanges[range][1] <= at) range++;
      const found = this.#longest(text, at, literalRanges[range]?.[0] ?? text.length);
      if (found === null) {
        at++;
        continue;
      }
      const end = at + found.length;
      const from = found.token.lstrip ? start + text.slice(start, at).trimEnd().length : at;
      if (from > start) sections.push({ text: text.slice(start, from), token: null });
      sections.push({ text: text.slice(at, end), token: found.token });
      start = found.token.rstrip ? text.length - text.slice(end).trimStart().length : end;
      at = start;
    }
    if (start < text.length) sections.push({ text: text.slice(start), token: null });
    return sections;
  }

  /** @param specialLimit a special token must end at or before this position, or start at or after nothing literal */
  #longest(text: string, at: number, specialLimit: number): { token: AddedToken; length: number } | null {
    let best: AddedToken | null = null;
    let length = 0;
    let node = this.#root.children.get(text.charCodeAt(at));
    for (let i = at + 1; node !== undefined; i++) {
      const token = node.token;
      if (token !== null && !(token.special && i > specialLimit) && (!token.singleWord || standsAlone(text, at, i))) {
        best = token;
        length = i - at;
      }
      if (i >= text.length) break;
      node = node.children.get(text.charCodeAt(i));
    }
    return best === null ? null : { token: best, length };
  }
}

function standsAlone(text: string, start: number, end: number): boolean {
  return !(start > 0 && wordCharacter.test(text[start - 1])) && !(end < text.length && wordCharacter.test(text[end]));
}
