/**
 * Spans of text that a grammar forces, as tokens. Where exactly one text can follow, only its canonical tokens are allowed: those into which the
 * tokenizer cuts the span. So what a request draws there needs no model, and the mask is the same whether anybody makes use of that or not
 * (jump-forward, after SGLang's and MLC-LLM's; the rule for the end of a span is MLC-LLM's turned round: instead of taking tokens back, the token
 * behind which a longer one could reach beyond the span stays free).
 *
 * All of it is a function of the state of the automaton and the vocabulary, never of how the state was reached.
 */
import type { Automaton, State } from './automaton.ts';
import { type ByteTree, TAG_BYTE } from './vocabulary-tables.ts';
import { nodeBehind, type VocabularyTrie } from './vocabulary-trie.ts';

/** Bytes of a span that are looked at: more than enough to know its first token. */
const MAX_SPAN = 96;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const span = new Uint8Array(MAX_SPAN);

/** @returns the token that must follow, or -1 */
export function forcedTokenOf(state: State, automaton: Automaton, trie: VocabularyTrie): number {
  if (state.forcedByte === TAG_BYTE) return forcedTag(state, automaton, trie);
  let length = 0;
  let end = state;
  while (end.forcedByte >= 0 && length < MAX_SPAN) {
    const byte = end.forcedByte;
    const next = byte === TAG_BYTE ? null : automaton.next(end, byte); // no token reaches from text into a tag
    if (next === null) break;
    span[length++] = byte;
    end = next;
  }
  if (length === 0) return -1;
  const bytes = span.slice(0, length);
  if (canReachBeyond(bytes, end, automaton, trie)) return -1;
  return firstToken(bytes, trie);
}

/** The tag token that must follow, or -1. */
function forcedTag(state: State, automaton: Automaton, trie: VocabularyTrie): number {
  let id = 0;
  let at = automaton.next(state, TAG_BYTE);
  for (let i = 0; i < 3 && at !== null; i++) {
    if (at.forcedByte < 0) return -1;
    id = (id << 8) | at.forcedByte;
    at = automaton.next(at, at.forcedByte);
  }
  return at !== null && trie.isTag(id) ? id : -1;
}

/** Whether a token may follow that holds the whole span and more. */
function canReachBeyond(bytes: Uint8Array, end: State, automaton: Automaton, trie: VocabularyTrie): boolean {
  if (bytes.length >= trie.tables.maxTokenBytes) return false;
  const { plain, rest, controls } = trie.tables;
  return [plain, rest, controls].some((tree) => {
    const node = nodeBehind(tree, bytes);
    return node >= 0 && hasTokenBelow(tree, node, end, automaton);
  });
}

function hasTokenBelow({ byte, depth, next, tokenStart }: ByteTree, node: number, end: State, automaton: Automaton): boolean {
  const path: State[] = [end];
  const base = depth[node];
  for (let n = node + 1; n < next[node]; ) {
    const at = depth[n] - base;
    const state = automaton.next(path[at - 1], byte[n]);
    if (state === null) n = next[n];
    else {
      if (tokenStart[n + 1] > tokenStart[n]) return true;
      path[at] = state;
      n++;
    }
  }
  return false;
}

/** The first of the tokens into which the tokenizer cuts the span. */
function firstToken(bytes: Uint8Array, trie: VocabularyTrie): number {
  const text = wholeCharacters(bytes);
  if (text === null) return -1;
  const [id] = trie.encode(text);
  if (id !== undefined && isFirst(id, bytes, trie)) return id;
  // some tokenizers put a space before a text: look behind a character that they cut off
  const ids = trie.encode(`\n${text}`);
  const behind = ids.findIndex((anchor) => trie.tokenBytes(anchor).at(-1) === 0x0a) + 1;
  if (behind > 0 && behind < ids.length && isFirst(ids[behind], bytes, trie)) return ids[behind];
  return -1;
}

function isFirst(id: number, bytes: Uint8Array, trie: VocabularyTrie): boolean {
  const token = trie.tokenBytes(id);
  return trie.isUsable(id) && token.length <= bytes.length && token.every((byte, i) => byte === bytes[i]);
}

/** The text of the bytes up to the last character that is whole; null when they begin inside of one. */
function wholeCharacters(bytes: Uint8Array): string | null {
  for (let length = bytes.length; length > Math.max(0, bytes.length - 4); length--) {
    try {
      return decoder.decode(bytes.subarray(0, length));
    } catch {
      // the last character is not whole
    }
  }
  return null;
}
