/**
 * The tokens of a vocabulary as trees over their bytes, in flat arrays: made once per tokenizer, walked for every new mask. All of it can be handed
 * from one thread to another.
 */
import { includes, plainCodePoints } from './code-points.ts';

/** Nodes in depth-first order, children by byte. */
export interface ByteTree {
  readonly numNodes: number;
  readonly byte: Uint8Array;
  /** 1 for the first byte of a token. */
  readonly depth: Uint8Array;
  /** First node behind the node's descendants. */
  readonly next: Int32Array;
  /** Tokens that end at node n: `tokens[tokenStart[n] .. tokenStart[n + 1])`. */
  readonly tokenStart: Int32Array;
  readonly tokens: Int32Array;
}

/** Tokens that are plain characters only, at most so many, count as plain. */
export const MAX_PLAIN = 64;
/** Longer tokens are never allowed under a grammar. */
export const MAX_TOKEN_BYTES = 255;

/** Begins the bytes by which grammars name a token that stands for itself and not for its text: no UTF-8 text holds it. */
export const TAG_BYTE = 0xff;

/** Tokens that masks may allow: the bytes of `ids[i]` are `bytes[starts[i] .. starts[i + 1])`. */
export interface VocabularyTokens {
  /** 32-bit words of a mask. */
  readonly numWords: number;
  readonly ids: Int32Array;
  readonly starts: Int32Array;
  readonly bytes: Uint8Array;
}

export interface VocabularyTables {
  /** The tokens of plain characters: most of a vocabulary. */
  readonly plain: ByteTree;
  /** `[plain.numNodes]`: plain characters that a token below a node still has at most. */
  readonly plainBelow: Uint8Array;
  /** `[plain.numNodes]`: kinds of the bytes below a node, as a set of `byteKinds`. */
  readonly kindsBelow: Int32Array;
  /** `[MAX_PLAIN + 1]`: masks of the tokens of at most so many plain characters. */
  readonly plainMasks: readonly Uint32Array[];
  /** Those with a control character: no JSON holds one. */
  readonly controls: ByteTree;
  /** All other tokens. */
  readonly rest: ByteTree;
  /** Bytes of the longest token. */
  readonly maxTokenBytes: number;
}

export function buildTables({ ids, starts, bytes: all, numWords }: VocabularyTokens): VocabularyTables {
  const ofLength: number[][] = Array.from({ length: MAX_PLAIN + 1 }, () => []);
  const plain: Token[] = [];
  const controls: Token[] = [];
  const rest: Token[] = [];
  let maxTokenBytes = 0;
  for (const [i, id] of ids.entries()) {
    const bytes = all.subarray(starts[i], starts[i + 1]);
    maxTokenBytes = Math.max(maxTokenBytes, bytes.length);
    const numPlain = countPlain(bytes);
    if (numPlain <= MAX_PLAIN) {
      plain.push({ id, bytes });
      ofLength[numPlain].push(id);
    } else if (isText(bytes) && bytes.some((byte) => byte < 0x20)) controls.push({ id, bytes });
    else rest.push({ id, bytes });
  }
  const plainTree = byteTree(plain);
  return {
    plain: plainTree,
    plainBelow: charactersBelow(plainTree),
    kindsBelow: kindsBelow(plainTree),
    plainMasks: cumulativeMasks(ofLength, numWords),
    controls: byteTree(controls),
    rest: byteTree(rest),
    maxTokenBytes,
  };
}

/** Tags are told by their first byte, and may hold any behind it. */
function isText(bytes: Uint8Array): boolean {
  return bytes[0] !== TAG_BYTE;
}

interface Token {
  readonly id: number;
  readonly bytes: Uint8Array;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Characters of a token that has only plain ones, else Infinity. */
function countPlain(bytes: Uint8Array): number {
  let isAscii = true;
  for (const byte of bytes) {
    if (byte < 0x20 || byte === 0x22 || byte === 0x5c || byte === 0x7f) return Number.POSITIVE_INFINITY;
    if (byte > 0x7f) isAscii = false;
  }
  if (isAscii) return bytes.length;
  if ((bytes[0] & 0xc0) === 0x80) return Number.POSITIVE_INFINITY;
  try {
    const found = Array.from(decoder.decode(bytes));
    return found.every((character) => includes(plainCodePoints, character.codePointAt(0) ?? 0)) ? found.length : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY; // part of a character
  }
}

function byteTree(tokens: Token[]): ByteTree {
  tokens.sort((a, b) => Buffer.compare(a.bytes, b.bytes) || a.id - b.id);
  const capacity = tokens.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const byte = new Uint8Array(capacity);
  const depth = new Uint8Array(capacity);
  const next = new Int32Array(capacity);
  const tokenStart = new Int32Array(capacity + 1);
  const open = new Int32Array(MAX_TOKEN_BYTES + 1);
  let numOpen = 0;
  let numNodes = 0;
  let before: Uint8Array = new Uint8Array(0);
  for (const [i, { bytes }] of tokens.entries()) {
    let shared = 0;
    while (shared < before.length && shared < bytes.length && before[shared] === bytes[shared]) shared++;
    while (numOpen > shared) next[open[--numOpen]] = numNodes;
    for (let at = shared; at < bytes.length; at++, numNodes++) {
      open[numOpen++] = numNodes;
      byte[numNodes] = bytes[at];
      depth[numNodes] = at + 1;
      // those on the way to a token begin where it begins: only its last byte holds it
      tokenStart[numNodes] = i;
    }
    before = bytes;
  }
  while (numOpen > 0) next[open[--numOpen]] = numNodes;
  tokenStart[numNodes] = tokens.length;
  return {
    numNodes,
    byte: byte.slice(0, numNodes),
    depth: depth.slice(0, numNodes),
    next: next.slice(0, numNodes),
    tokenStart: tokenStart.slice(0, numNodes + 1),
    tokens: Int32Array.from(tokens, ({ id }) => id),
  };
}

/** Sets of plain characters that patterns tell apart, one bit each. Those of more than one byte have the last one. */
export const byteKinds: readonly string[] = [
  ...['ghijklmnopqrstuvwxyz', 'abcdef', 'GHIJKLMNOPQRSTUVWXYZ', 'ABCDEF', '0123456789'],
  ...['()', '[]', '{}', '<>', '^`'],
  ..." _-./:,+@=#%&?!';*~$|",
];
export const BEYOND_ASCII = 1 << 31;

function kindsBelow({ numNodes, byte, next }: ByteTree): Int32Array {
  const kindOf = new Int32Array(256).fill(BEYOND_ASCII);
  for (const [kind, characters] of byteKinds.entries()) for (const character of characters) kindOf[character.charCodeAt(0)] = 1 << kind;
  const below = new Int32Array(numNodes);
  for (let n = numNodes - 1; n >= 0; n--)
    for (let child = n + 1; child < next[n]; child = next[child]) below[n] |= below[child] | kindOf[byte[child]];
  return below;
}

/** Mask k has the ids of lists 0 to k; equal masks are one array. */
function cumulativeMasks(ofLength: readonly (readonly number[])[], numWords: number): Uint32Array[] {
  let mask = new Uint32Array(numWords);
  return ofLength.map((ids) => {
    if (ids.length > 0) mask = mask.slice();
    for (const id of ids) mask[id >>> 5] |= 1 << (id & 31);
    return mask;
  });
}

function charactersBelow({ numNodes, byte, next }: ByteTree): Uint8Array {
  const below = new Uint8Array(numNodes);
  // children lie behind their parent
  for (let n = numNodes - 1; n >= 0; n--) {
    for (let child = n + 1; child < next[n]; child = next[child]) {
      const begins = (byte[child] & 0xc0) === 0x80 ? 0 : 1;
      below[n] = Math.max(below[n], below[child] + begins);
    }
  }
  return below;
}
