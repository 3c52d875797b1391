/**
 * Incremental UTF-8 decoder: whatever the cuts, the pieces add up to what the WHATWG decoder gives for the whole
 * (https://encoding.spec.whatwg.org/#utf-8-decoder: each maximal invalid part becomes one U+FFFD; a byte order mark is kept).
 */
export class Utf8Decoder {
  #needed = 0;
  #codePoint = 0;
  #lower = 0x80;
  #upper = 0xbf;
  #units = new Uint16Array(64);

  /** Text completed by `bytes[start .. end]`. */
  push(bytes: Uint8Array, start = 0, end: number = bytes.length): string {
    // A byte may end an unfinished character (one unit) and add a surrogate pair at most.
    if (this.#units.length < (end - start) * 2 + 2) this.#units = new Uint16Array((end - start) * 2 + 2);
    let count = 0;
    for (let i = start; i < end; i++) count = this.#step(bytes[i], count);
    return unitsToText(this.#units, count);
  }

  /** Ends the text: an unfinished character becomes U+FFFD. */
  flush(): string {
    const unfinished = this.#needed > 0;
    this.#reset();
    return unfinished ? '\ufffd' : '';
  }

  #step(byte: number, given: number): number {
    let count = given;
    if (this.#needed > 0) {
      if (byte >= this.#lower && byte <= this.#upper) {
        this.#codePoint = (this.#codePoint << 6) | (byte & 0x3f);
        this.#lower = 0x80;
        this.#upper = 0xbf;
        if (--this.#needed > 0) return count;
        return this.#emit(this.#codePoint, count);
      }
      this.#reset();
      count = this.#emit(0xfffd, count);
    }
    if (byte < 0x80) return this.#emit(byte, count);
    if (byte >= 0xc2 && byte <= 0xdf) this.#begin(1, byte & 0x1f, 0x80, 0xbf);
    else if (byte >= 0xe0 && byte <= 0xef) this.#begin(2, byte & 0xf, byte === 0xe0 ? 0xa0 : 0x80, byte === 0xed ? 0x9f : 0xbf);
    else if (byte >= 0xf0 && byte <= 0xf4) this.#begin(3, byte & 0x7, byte === 0xf0 ? 0x90 : 0x80, byte === 0xf4 ? 0x8f : 0xbf);
    else return this.#emit(0xfffd, count);
    return count;
  }

  #begin(needed: number, bits: number, lower: number, upper: number): void {
    this.#needed = needed;
    this.#codePoint = bits;
    this.#lower = lower;
    this.#upper = upper;
  }

  #reset(): void {
    this.#begin(0, 0, 0x80, 0xbf);
  }

  #emit(codePoint: number, count: number): number {
    if (codePoint < 0x10000) {
      this.#units[count] = codePoint;
      return count + 1;
    }
    this.#units[count] = 0xd800 + ((codePoint - 0x10000) >> 10);
    this.#units[count + 1] = 0xdc00 + ((codePoint - 0x10000) & 0x3ff);
    return count + 2;
  }
}

/** In slices: too many arguments overflow the stack. */
function unitsToText(units: Uint16Array, count: number): string {
  let text = '';
  for (let i = 0; i < count; i += 4096) text += String.fromCharCode.apply(null, units.subarray(i, Math.min(count, i + 4096)) as unknown as number[]);
  return text;
}
