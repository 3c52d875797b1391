/**
 * Philox4x32-10, a counter-based generator: the numbers are a function of key and counter, with no state in between.
 * Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". `native/common/philox.h` gives the same words.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** Encrypts the counter `[4]` under the key into `out [4]`, 32-bit words. `out` may be `counter`. */
export function philox4x32(counter: Uint32Array, key0: number, key1: number, out: Uint32Array): void {
  let c0 = counter[0];
  let c1 = counter[1];
  let c2 = counter[2];
  let c3 = counter[3];
  let k0 = key0 >>> 0;
  let k1 = key1 >>> 0;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = mulHigh(MULTIPLIER_0, c0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = mulHigh(MULTIPLIER_1, c2);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** Upper 32 bits of the 64-bit product of two unsigned words. */
function mulHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const low = a0 * b0;
  const middle = a1 * b0 + (low >>> 16); // < 2^32
  const cross = a0 * b1 + (middle & 0xffff); // < 2^32
  return (a1 * b1 + Math.floor(middle / 65536) + Math.floor(cross / 65536)) >>> 0;
}

/** A number in [0, 1) from the upper 24 bits of a word: a multiple of 2^-24, exact in f32, never 1. */
export function uniform24(word: number): number {
  return (word >>> 8) * 2 ** -24;
}

const scratch = new Uint32Array(4);

/**
 * The uniform number in [0, 1) of one random choice: a function of the seed (64 bits as two words), the choice index of the request (`n > 1`),
 * the position of the token in its sequence, and which draw at that position. Key: the seed. Counter: position, draw, choice, 0.
 */
export function uniformAt(seedLow: number, seedHigh: number, choice: number, position: number, draw: number): number {
  scratch[0] = position;
  scratch[1] = draw;
  scratch[2] = choice;
  scratch[3] = 0;
  philox4x32(scratch, seedLow, seedHigh, scratch);
  return uniform24(scratch[0]);
}
