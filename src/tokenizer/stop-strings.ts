/**
 * Watches growing text for stop strings. Only what may still become a stop string is held back; the rest is given out at once.
 *
 * The stop string that is completed first wins; of several completed by the same character, the longest. Each string is
 * followed by the automaton of Knuth, Morris and Pratt, so a character costs constant time a string.
 */

export interface StopMatch {
  /** Text that may be given out now. */
  readonly text: string;
  /** The stop string that ended the text, or null while it goes on. */
  readonly stop: string | null;
}

export interface StopStringOptions {
  /** Give out the stop string itself as well. Default false. */
  readonly includeStop?: boolean;
}

export class StopStringMatcher {
  readonly #stops: readonly string[];
  readonly #failures: readonly Int32Array[];
  /** Length of the prefix of each stop string that the text ends with. */
  readonly #matched: Int32Array;
  readonly #includeStop: boolean;
  #held = '';
  #stopped = false;

  /** @param stops empty strings are ignored */
  constructor(stops: readonly string[], options: StopStringOptions = {}) {
    this.#stops = stops.filter((stop) => stop.length > 0);
    this.#failures = this.#stops.map(failureTable);
    this.#matched = new Int32Array(this.#stops.length);
    this.#includeStop = options.includeStop ?? false;
  }

  /** Takes the next text; after a stop everything is swallowed. */
  push(text: string): StopMatch {
    if (this.#stopped || text.length === 0) return { text: '', stop: null };
    if (this.#stops.length === 0) return { text, stop: null };
    const whole = this.#held + text;
    for (let at = this.#held.length; at < whole.length; at++) {
      const stop = this.#step(whole.charCodeAt(at));
      if (stop === null) continue;
      this.#stopped = true;
      this.#held = '';
      return { text: whole.slice(0, this.#includeStop ? at + 1 : at + 1 - stop.length), stop };
    }
    let holding = 0;
    for (const matched of this.#matched) holding = Math.max(holding, matched);
    this.#held = whole.slice(whole.length - holding);
    return { text: whole.slice(0, whole.length - holding), stop: null };
  }

  /** Takes text in which no stop string counts (below `min_tokens`): all is given out, and none may start in it. */
  pass(text: string): string {
    if (this.#stopped) return '';
    const whole = this.#held + text;
    this.#held = '';
    this.#matched.fill(0);
    return whole;
  }

  /** The text is over: what was held back is text. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    this.#matched.fill(0);
    return held;
  }

  /** @returns the longest stop string that this unit completes */
  #step(unit: number): string | null {
    let completed: string | null = null;
    for (let i = 0; i < this.#stops.length; i++) {
      const stop = this.#stops[i];
      let matched = this.#matched[i];
      while (matched > 0 && stop.charCodeAt(matched) !== unit) matched = this.#failures[i][matched - 1];
      if (stop.charCodeAt(matched) === unit) matched++;
      if (matched === stop.length) {
        if (completed === null || stop.length > completed.length) completed = stop;
        matched = this.#failures[i][matched - 1];
      }
      this.#matched[i] = matched;
    }
    return completed;
  }
}

/** `[length]`: longest proper prefix of `stop[0 .. i]` that is also its suffix. */
function failureTable(stop: string): Int32Array {
  const table = new Int32Array(stop.length);
  for (let i = 1, matched = 0; i < stop.length; i++) {
    while (matched > 0 && stop[i] !== stop[matched]) matched = table[matched - 1];
    if (stop[i] === stop[matched]) matched++;
    table[i] = matched;
  }
  return table;
}
