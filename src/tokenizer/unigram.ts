/**
 * Unigram language model: of all ways to cut a text into known pieces, the one of the highest sum of scores (Viterbi; Kudo 2018, arXiv 1804.10959), as
 * SentencePiece's and `tokenizers`' optimised encoders find it. Time is linear in the text for pieces of bounded length.
 */
import type { IdBuffer } from './byte-pair.ts';
import { tokenizerInvalid } from './definition.ts';
import type { Vocabulary, VocabularyData } from './vocabulary.ts';

/** Plain parts of a model; may be sent to a worker thread. */
export interface UnigramData {
  readonly kind: 'unigram';
  /** `[size]`: score of each id. */
  readonly scores: Float64Array;
  /** Of a character that no piece holds. */
  readonly unknownScore: number;
  /** Sums are rounded to f32, as SentencePiece's are. */
  readonly singlePrecision: boolean;
  readonly byteFallback: boolean;
  /** Id of an unknown character, or -1 to leave it out. */
  readonly unkId: number;
  /** Trie of the pieces' UTF-8: open addressing of `(node * 256 + byte, child)`, key -1 where free. */
  readonly edges: Int32Array;
  /** `[nodes]`: id of the piece that ends in a node, or -1. */
  readonly tokenOfNode: Int32Array;
}

const maxNodes = 1 << 23;
/** Below the lowest score. */
const unknownPenalty = 10;
/** Scratch memory above this many bytes of text is given back after use. */
const maxKeptScratch = 1 << 18;

/**
 * @param usable `[size]`: 1 for pieces that text may become
 * @throws TOKENIZER_INVALID when the pieces are too many for the trie
 */
export function buildTrie(vocabulary: VocabularyData, usable: Uint8Array): Pick<UnigramData, 'edges' | 'tokenOfNode'> {
  const { bytes, offsets, size } = vocabulary;
  const total = bytes.length + 1;
  if (total > maxNodes) throw tokenizerInvalid('The vocabulary is too long for a Unigram model.', { expected: `at most ${maxNodes} bytes` });
  let capacity = 16;
  while (capacity < total * 1.5) capacity *= 2;
  const edges = new Int32Array(new SharedArrayBuffer(capacity * 8)).fill(-1);
  const tokenOfNode = new Int32Array(total).fill(-1);
  let nodes = 1;
  for (let id = 0; id < size; id++) {
    if (usable[id] !== 1 || offsets[id] === offsets[id + 1]) continue;
    let node = 0;
    for (let i = offsets[id]; i < offsets[id + 1]; i++) {
      const slot = findEdge(edges, node * 256 + bytes[i]);
      if (edges[slot] < 0) {
        edges[slot] = node * 256 + bytes[i];
        edges[slot + 1] = nodes++;
      }
      node = edges[slot + 1];
    }
    if (tokenOfNode[node] < 0) tokenOfNode[node] = id;
  }
  const kept = new Int32Array(new SharedArrayBuffer(nodes * 4));
  kept.set(tokenOfNode.subarray(0, nodes));
  return { edges, tokenOfNode: kept };
}

/** @returns what an unknown character costs: more than the worst of the pieces that `counts` names */
export function unknownScoreOf(scores: Float64Array, counts: (id: number) => boolean): number {
  let lowest = Infinity;
  for (let id = 0; id < scores.length; id++) if (counts(id)) lowest = Math.min(lowest, scores[id]);
  return (Number.isFinite(lowest) ? lowest : 0) - unknownPenalty;
}

/** @returns place of the key in `edges`, or of the free pair where it would go */
function findEdge(edges: Int32Array, key: number): number {
  const mask = edges.length / 2 - 1;
  let slot = Math.imul(key, 0x9e3779b1);
  slot = (slot ^ (slot >>> 15)) & mask;
  while (edges[slot * 2] !== key && edges[slot * 2] >= 0) slot = (slot + 1) & mask;
  return slot * 2;
}

export class UnigramModel {
  readonly #data: UnigramData;
  readonly #byteIds = new Int32Array(256);
  readonly #fallbackComplete: boolean;
  readonly #textEncoder = new TextEncoder();
  #utf8 = new Uint8Array(1024);
  /** By end of a path: its sum, where its last piece starts (-1: not reached), and the id of that (-1: unknown). */
  #sums = new Float64Array(1025);
  #starts = new Int32Array(1025);
  #ids = new Int32Array(1025);

  constructor(data: UnigramData, vocabulary: Vocabulary) {
    this.#data = data;
    for (let byte = 0; byte < 256; byte++) this.#byteIds[byte] = vocabulary.id(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
    this.#fallbackComplete = data.byteFallback && this.#byteIds.every((id) => id >= 0);
  }

  /** Appends the ids of one pre-token. */
  encode(piece: string, out: IdBuffer): void {
    if (piece.length === 0) return;
    if (this.#utf8.length < piece.length * 3) this.#reserve(piece.length * 3);
    const { written } = this.#textEncoder.encodeInto(piece, this.#utf8);
    this.#search(written);
    this.#emit(written, out);
    if (this.#utf8.length > maxKeptScratch) this.#reserve(1024);
  }

  #reserve(bytes: number): void {
    this.#utf8 = new Uint8Array(bytes);
    this.#sums = new Float64Array(bytes + 1);
    this.#starts = new Int32Array(bytes + 1);
    this.#ids = new Int32Array(bytes + 1);
  }

  #search(length: number): void {
    const { scores, tokenOfNode, edges, unknownScore, singlePrecision } = this.#data;
    const utf8 = this.#utf8;
    this.#starts.fill(-1, 0, length + 1);
    this.#sums[0] = 0;
    for (let start = 0; start < length; ) {
      const lead = utf8[start];
      const next = start + (lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4);
      const sum = this.#sums[start];
      let single = false;
      for (let end = start, node = 0; end < length; ) {
        const slot = findEdge(edges, node * 256 + utf8[end]);
        if (edges[slot] < 0) break;
        node = edges[slot + 1];
        end++;
        const id = tokenOfNode[node];
        if (id < 0) continue;
        this.#offer(start, end, id, singlePrecision ? Math.fround(sum + scores[id]) : sum + scores[id]);
        single ||= end === next;
      }
      if (!single) this.#offer(start, next, -1, singlePrecision ? Math.fround(sum + unknownScore) : sum + unknownScore);
      start = next;
    }
  }

  /** The first of equal sums stays. */
  #offer(start: number, end: number, id: number, sum: number): void {
    if (this.#starts[end] >= 0 && sum <= this.#sums[end]) return;
    this.#starts[end] = start;
    this.#ids[end] = id;
    this.#sums[end] = sum;
  }

  /** Unknown characters in a row become their bytes, or one unknown token. */
  #emit(length: number, out: IdBuffer): void {
    // the path is known from its end: mark where its pieces begin by turning the links around
    let after = -1;
    for (let end = length; end > 0; ) {
      const start = this.#starts[end];
      this.#starts[end] = after;
      after = end;
      end = start;
    }
    let unknownBefore = false;
    for (let start = 0, end = after; end > 0; start = end, end = this.#starts[end]) {
      const id = this.#ids[end];
      if (id >= 0) out.push(id);
      else if (this.#fallbackComplete) for (let i = start; i < end; i++) out.push(this.#byteIds[this.#utf8[i]]);
      else if (!unknownBefore && this.#data.unkId >= 0) out.push(this.#data.unkId);
      unknownBefore = id < 0;
    }
  }
}
