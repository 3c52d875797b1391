/** Bytes that the places of a grammar do not tell apart: known once for all states that stand at the same places. */
import { EDGE_BYTES, type Grammar } from './grammar.ts';

export interface ByteClasses {
  /** Byte -> class; class 0 leads nowhere. */
  readonly classOf: Uint8Array;
  /** One byte of each class. */
  readonly sampleOf: Uint8Array;
  /** The one byte that leads anywhere, or -1. */
  readonly onlyByte: number;
}

/** Lists of places that are kept; more begin anew. */
const MAX_KEPT = 4096;
const cuts = new Uint8Array(257);
const covered = new Uint8Array(256);

export class ByteClassTable {
  readonly #grammar: Grammar;
  /** By the only place, or all of them. */
  readonly #known = new Map<number | string, ByteClasses>();

  constructor(grammar: Grammar) {
    this.#grammar = grammar;
  }

  of(nodes: readonly number[]): ByteClasses {
    const key = nodes.length === 1 ? nodes[0] : nodes.join();
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size >= MAX_KEPT) this.#known.clear();
    const classes = classesOf(nodes, this.#grammar);
    this.#known.set(key, classes);
    return classes;
  }
}

/** What reads one byte only: most places of a long text. */
const ofByte: (ByteClasses | undefined)[] = [];

function classesOf(nodes: readonly number[], { edgeStart, edgeKind, edgeA, edgeB }: Grammar): ByteClasses {
  cuts.fill(0);
  covered.fill(0);
  for (const node of nodes) {
    for (let e = edgeStart[node]; e < edgeStart[node + 1]; e++) {
      if (edgeKind[e] !== EDGE_BYTES) continue;
      cuts[edgeA[e]] = 1;
      cuts[edgeB[e] + 1] = 1;
      covered.fill(1, edgeA[e], edgeB[e] + 1);
    }
  }
  const first = covered.indexOf(1);
  const isOne = first >= 0 && covered.indexOf(1, first + 1) < 0;
  const known = isOne ? ofByte[first] : undefined;
  if (known !== undefined) return known;
  const classOf = new Uint8Array(256);
  const samples = [0];
  let current = 0;
  for (let byte = 0; byte < 256; byte++) {
    if (covered[byte] === 0) current = 0;
    else if (cuts[byte] === 1 || current === 0) current = samples.push(byte) - 1;
    classOf[byte] = current;
  }
  const classes = { classOf, sampleOf: Uint8Array.from(samples), onlyByte: isOne ? first : -1 };
  if (isOne) ofByte[first] = classes;
  return classes;
}
